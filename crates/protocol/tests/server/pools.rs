//! A pool that fills up is told once, and once more when it has room again.

use tanist_model::event::EventCode;
use tanist_model::volume::{PoolUse, StorageCapabilities, StorageKind, StorageReport};
use tanist_protocol::message::AgentMessage;
use tanist_protocol::server::ServerMachine;

use crate::world::{connect, db, process, say, server, state};

fn filled(data_percent: u8, metadata_percent: u8) -> AgentMessage {
    let pool = PoolUse { pool: "vg0/pool".to_owned(), data_percent, metadata_percent };
    let storage = StorageReport {
        name: "san-b".parse().unwrap(),
        kind: StorageKind::LvmThin,
        location: String::new(),
        identity: String::new(),
        capabilities: StorageCapabilities {
            snapshots: true,
            kernel_lock: true,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        },
        copy_manager: None,
        error: None,
        pool: Some(pool),
    };
    AgentMessage::Inventory { storage: vec![storage], volumes: Vec::new(), applications: Vec::new() }
}

/// What the log says of it when this is reported.
fn told(machine: &mut ServerMachine, data_percent: u8, metadata_percent: u8) -> Vec<EventCode> {
    say(machine, "h1", 1, filled(data_percent, metadata_percent)).events()
}

#[test]
fn each_change_is_told_once_and_a_pool_at_the_limit_does_not_chatter() {
    let mut machine = server(state(db()));
    connect(&mut machine, "h1", process("h1"), 1, 3);
    assert_eq!(told(&mut machine, 50, 10), []);
    assert_eq!(told(&mut machine, 80, 10), [EventCode::PoolNearlyFull]);
    for (data, metadata) in [(81, 10), (79, 10), (80, 10), (10, 97)] {
        assert_eq!(told(&mut machine, data, metadata), [], "{data} {metadata}");
    }
    // The same agent on a new connection knows nothing new.
    connect(&mut machine, "h1", process("h1"), 2, 3);
    assert_eq!(say(&mut machine, "h1", 2, filled(90, 10)).events(), []);
    assert_eq!(say(&mut machine, "h1", 2, filled(70, 10)).events(), [EventCode::PoolHasRoom]);
    assert_eq!(say(&mut machine, "h1", 2, filled(10, 80)).events(), [EventCode::PoolNearlyFull]);
}
