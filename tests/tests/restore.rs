//! A server goes back to a backup of its store, older than what its agents have been granted since: nothing is granted before every
//! known agent has shown its epochs, and then only higher ones.

use tanist_model::event::EventCode;
use tanist_tests::cluster::Cluster;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, volume, wait};

#[test]
fn a_restored_server_waits_for_every_agent_and_grants_higher_epochs() {
    let mut random = Random::seeded("restore");
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 48 << 20, random.number(), &["--limit", "24MiB/s"]);
    scene.run(&cluster);
    let backup = cluster.dir().join("backup.db").display().to_string();
    cluster.tanist(&["server", "backup", &backup]).done();
    // What the backup does not know: a takeover, and another content of the target.
    volume::mutate(&scene.source, random.number());
    let (run, killed) = scene.run_until(&cluster, 20);
    cluster.kill(&killed);
    scene.wait_equal(&cluster, run);
    let newest = cluster.show(&scene.name).epochs;
    let began = signal::now();
    cluster.kill_server();
    cluster.tanist(&["server", "restore", "--dir", &cluster.server_folder(), &backup]).done();
    cluster.start_server();
    let status = wait::until("the others have come back", RUN_LIMIT, || {
        let connected = cluster.agents().into_iter().filter(|agent| agent.connected).count();
        (connected == 2).then(|| cluster.status())
    });
    assert_eq!(status.0, 2, "{:?}", status.1);
    let concern = status.1.concerns.iter().find(|concern| concern.subject == "server").expect("a concern");
    assert!(concern.summary.contains(&killed), "it says who is waited for: {concern:?}");
    assert!(!newest.is_older_than(cluster.show(&scene.name).epochs), "nothing is granted meanwhile");
    cluster.start_agent(&killed);
    cluster.wait_event(EventCode::StoreRestoreComplete, began, RUN_LIMIT);
    volume::mutate(&scene.source, random.number());
    scene.wait_whole(&cluster);
    scene.run(&cluster);
    let epochs = cluster.show(&scene.name).epochs;
    assert!(newest.is_older_than(epochs), "{epochs} is above {newest}, which the backup does not know");
}

/// The target was not touched since the backup, and the source is gone with the server: what is there is found to be right.
#[test]
fn after_a_restore_an_untouched_target_is_read_and_believed_again() {
    let mut cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", 24 << 20, 1, &[]);
    scene.run(&cluster);
    let backup = cluster.dir().join("backup.db").display().to_string();
    cluster.tanist(&["server", "backup", &backup]).done();
    let began = signal::now();
    cluster.kill_server();
    cluster.tanist(&["server", "restore", "--dir", &cluster.server_folder(), &backup]).done();
    cluster.start_server();
    cluster.wait_event(EventCode::StoreRestoreComplete, began, RUN_LIMIT);
    scene.wait_whole(&cluster);
    let doubted = cluster.show(&scene.name);
    assert!(doubted.restorable_point.is_none(), "{doubted:?}");
    assert_eq!(doubted.next.as_deref(), Some("tanist replication verify db"), "{}", doubted.summary);
    cluster.tanist(&["replication", "verify", "db", "--wait"]).done();
    let believed = cluster.show(&scene.name);
    assert!(believed.restorable_point.is_some() && !believed.target_dirty, "{believed:?}");
    assert_eq!(cluster.status().0, 0);
}

/// As a virtual machine does it that is set back to a snapshot: nobody says that the store is old.
#[test]
fn a_store_that_was_copied_back_is_found_out_by_what_agents_were_granted() {
    let mut cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", 24 << 20, 2, &[]);
    scene.run(&cluster);
    let backup = cluster.dir().join("backup.db");
    cluster.tanist(&["server", "backup", &backup.display().to_string()]).done();
    // Since then: another agent acts, and the target holds something else.
    cluster.tanist(&["replication", "handover", "db"]).done();
    scene.wait_whole(&cluster);
    volume::renew(&scene.source, 3);
    scene.run(&cluster);
    let began = signal::now();
    cluster.kill_server();
    let store = std::path::PathBuf::from(cluster.server_folder()).join("store.db");
    for leftover in ["store.db-wal", "store.db-shm"] {
        let _ = std::fs::remove_file(store.with_file_name(leftover));
    }
    std::fs::copy(&backup, &store).expect("copy the old store back");
    cluster.start_server();
    cluster.wait_event(EventCode::StoreRolledBack, began, RUN_LIMIT);
    let view = cluster.show(&scene.name);
    assert!(view.restorable_point.is_none(), "what the old store calls published is on the target no more: {view:?}");
    scene.wait_whole(&cluster);
    scene.run(&cluster);
}
