//! Deliveries to real sinks: an HTTPS server, a mail server over TLS, scripts that run.

mod mail;
mod script;
mod tls;
mod webhook;

use std::path::{Path, PathBuf};

use tanist_alarm::{AlarmConfig, Notice, NoticeKind, Sink};
use tanist_model::event::{Event, EventCode};
use tanist_model::id::{ClusterId, EventSeq};
use tanist_model::time::Timestamp;

fn sink(text: &str) -> Sink {
    let config: AlarmConfig = toml::from_str(&format!("name = 'noc'\n{text}")).unwrap();
    AlarmConfig::check_all(std::slice::from_ref(&config)).unwrap();
    Sink::new(config)
}

fn notice() -> Notice {
    let code = EventCode::Exhausted;
    let event = Event {
        seq: EventSeq(41),
        at: Timestamp(1_700_000_000_000_000),
        code,
        severity: code.severity(),
        replication: Some("db".parse().unwrap()),
        agent: None,
        actor: "server".to_owned(),
        message: "no agent is eligible; h1: away".to_owned(),
    };
    let (cluster, title) = (ClusterId(10), code.title().to_owned());
    Notice { id: Notice::id_of(cluster, event.seq), kind: NoticeKind::Raised, clears: None, cluster, title, event }
}

/// A file that only its owner can read.
fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    tanist_wire::file::replace(&path, content.as_bytes(), tanist_wire::file::Readers::Owner).unwrap();
    path
}
