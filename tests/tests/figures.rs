//! Takeovers of real processes, measured for [docs/figures.md](../../docs/figures.md): faults of each kind in the middle of a run, one after the
//! other, each target compared. `make figures` makes many and writes them down; without it there are two of each.
//!
//! `TANIST_FIGURES` says how many, `TANIST_FIGURES_FILE` where they are written.

use std::fmt::Write as _;

use tanist_model::takeover::TakeoverRecord;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::Cluster;
use tanist_tests::network::Network;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, setting, signal, volume, wait};

const SIZE: u64 = 96 << 20;
/// Slow enough for a fault in the middle.
const RATE: [&str; 2] = ["--limit", "32MiB/s"];

/// One kind of fault: its name in the file, what does it to the acting agent, and what mends it.
struct Kind {
    name: &'static str,
    strike: fn(&mut Cluster, &Scene, &str) -> Timestamp,
    mend: fn(&mut Cluster, &str),
}

const ON_ONE_HOST: [Kind; 3] = [
    Kind {
        name: "crash",
        strike: |cluster, _, acting| cluster.kill(acting),
        mend: |cluster, agent| cluster.start_agent(agent),
    },
    Kind {
        name: "stop",
        strike: |cluster, _, acting| cluster.agent(acting).stop(),
        mend: |cluster, agent| {
            cluster.agent(agent).wake();
        },
    },
    Kind {
        name: "handover",
        strike: |cluster, scene, _| {
            let asked = signal::now();
            cluster.tanist(&["replication", "handover", &scene.name]).done();
            asked
        },
        mend: |_, _| {},
    },
];

const ON_A_NETWORK: [Kind; 1] = [Kind {
    name: "partition",
    strike: |cluster, _, acting| cluster.network().isolate(acting),
    mend: |cluster, agent| {
        cluster.network().rejoin(agent);
    },
}];

#[test]
fn takeovers_are_measured_from_the_fault_to_the_first_durable_write() {
    let times = setting("TANIST_FIGURES", 2);
    let mut written = String::from("fault\tdetected_ms\tfenced_ms\twrote_ms\tagain_bytes\n");
    measure_all(Cluster::builder(build!()).start(), &ON_ONE_HOST, times, &mut written);
    let hosts = ["server", "h1", "h2", "h3"];
    if let Some(network) = Network::or_skip("takeovers_are_measured_from_the_fault_to_the_first_durable_write", &hosts)
    {
        measure_all(Cluster::builder(build!()).on(network).start(), &ON_A_NETWORK, times, &mut written);
    }
    print!("{written}");
    if let Some(file) = std::env::var_os("TANIST_FIGURES_FILE") {
        std::fs::write(file, written).expect("write the figures");
    }
}

fn measure_all(mut cluster: Cluster, kinds: &[Kind], times: u64, written: &mut String) {
    let mut random = Random::seeded("figures");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    for kind in kinds {
        for _ in 0..times {
            let line = measure(&mut cluster, &scene, kind, &mut random);
            written.push_str(&line);
        }
    }
}

fn measure(cluster: &mut Cluster, scene: &Scene, kind: &Kind, random: &mut Random) -> String {
    volume::make(&scene.source, SIZE, random.number());
    let (run, acting) = scene.run_until(cluster, random.between(5, 50));
    let fault = (kind.strike)(cluster, scene, &acting);
    let ended = scene.wait_equal(cluster, run);
    let takeover = wait::until("the record of the takeover", RUN_LIMIT, || {
        cluster.takeovers(&scene.name).pop().filter(|t| t.from.as_ref().is_some_and(|from| from.as_str() == acting))
    });
    assert_eq!(takeover.run, Some(run), "the {} was in the middle of the run: {takeover:#?}", kind.name);
    (kind.mend)(cluster, &acting);
    scene.wait_whole(cluster);
    wait::until("all is well again", RUN_LIMIT, || (cluster.status().0 == 0).then_some(()));
    line(kind.name, fault, &takeover, ended.copied_again_bytes)
}

fn line(name: &str, fault: Timestamp, takeover: &TakeoverRecord, again_bytes: u64) -> String {
    let since =
        |moment: Option<Timestamp>| moment.expect("a complete takeover").since(fault).as_micros() as f64 / 1000.0;
    // Of what was asked for, nothing had to be detected.
    let detected = if name == "handover" { 0.0 } else { since(Some(takeover.suspected_at)) };
    let (fenced, wrote) = (since(takeover.activated_at), since(takeover.first_durable_write_at));
    assert!(detected <= fenced && fenced <= wrote, "{takeover:#?}");
    let mut line = String::new();
    let _ = writeln!(line, "{name}\t{detected:.1}\t{fenced:.1}\t{wrote:.1}\t{again_bytes}");
    line
}
