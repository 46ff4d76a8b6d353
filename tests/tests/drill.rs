//! A takeover on purpose in the middle of a run: the target is equal, the figure is told, the work goes back, and the record is evidence.

use std::time::{Duration, SystemTime};

use tanist_model::api::RefusalCode;
use tanist_model::drill::{DrillResult, Milestone};
use tanist_model::event::EventCode;
use tanist_model::takeover::Evidence;
use tanist_tests::cluster::Cluster;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, story, wait};

#[test]
fn a_drill_in_the_middle_of_a_run_is_a_takeover_that_nobody_needed() {
    let mut random = Random::seeded("drill");
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 96 << 20, random.number(), &["--limit", "32MiB/s"]);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 40));
    cluster.tanist(&["replication", "drill", &scene.name, "--hand-back"]).done();
    scene.wait_equal(&cluster, run);

    let drilled = cluster.takeovers(&scene.name).into_iter().find(|t| matches!(t.evidence, Evidence::Drill { .. }));
    let drilled = drilled.expect("the record of the drill");
    assert_eq!((drilled.from.map(|from| from.to_string()), drilled.run), (Some(acting.clone()), Some(run)));
    assert!(drilled.first_durable_write_at.is_some());
    let told =
        cluster.events().into_iter().filter(|e| matches!(e.code, EventCode::DrillPassed | EventCode::DrillFailed));
    let told: Vec<String> = told.map(|event| event.message).collect();
    assert!(matches!(&told[..], [figure] if figure.contains("first durable write")), "{told:?}");
    println!("{}", told[0]);
    wait::until("the work is back", RUN_LIMIT, || (scene.acting(&cluster) == acting).then_some(()));
    assert!(story::untruths(&[], &cluster.takeovers(&scene.name), &cluster.events()).is_empty());

    let epoch = drilled.epochs.target.to_string();
    let record = cluster.tanist(&["replication", "record", &scene.name, &epoch]);
    let file = cluster.dir().join("drill.json");
    let path = file.display().to_string();
    std::fs::write(&file, &record.stdout).expect("keep the record");
    cluster.tanist(&["verify-record", &path]).done();
    std::fs::write(&file, record.stdout.replace("drill", "truth")).expect("alter the record");
    cluster.tanist(&["verify-record", &path]).refused(RefusalCode::Invalid);

    // Without a successor there is none.
    for other in ["h1", "h2", "h3"].into_iter().filter(|name| *name != acting) {
        cluster.kill(other);
    }
    let connected = || cluster.agents().into_iter().filter(|agent| agent.connected).count();
    wait::until("the others are gone", RUN_LIMIT, || (connected() == 1).then_some(()));
    let refused = cluster.tanist(&["replication", "drill", &scene.name]).refused(RefusalCode::Conflict);
    assert!(refused.error.contains("no agent can take over"), "{refused:?}");
    assert!(refused.hint.is_some(), "{refused:?}");
}

/// `cron` comes due once a minute at most.
const NEXT_MINUTE: Duration = Duration::from_secs(90);

#[test]
fn drills_are_judged_kept_and_made_by_themselves() {
    let mut random = Random::seeded("drills");
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 8 << 20, random.number(), &["--drill-limit", "1ms"]);
    scene.run(&cluster);
    let name = scene.name.as_str();
    let set = |option: &[&str]| cluster.tanist(&[&["replication", "set", name], option].concat()).done();
    let ready = || {
        scene.wait_whole(&cluster);
        wait::until("every epoch is proven quiet", RUN_LIMIT, || cluster.show(name).awaited.is_empty().then_some(()));
    };
    let drill = || {
        ready();
        cluster.tanist(&["replication", "drill", name, "--wait", "--timeout", "60s"])
    };

    let slow = drill();
    let refused = slow.refused(RefusalCode::Conflict);
    assert!(refused.cause.is_some_and(|cause| cause.contains("limit of 1 ms")), "{slow}");
    let shown = slow.any_body::<DrillResult>();
    let drills = cluster.show(name).drills;
    assert_eq!((drills.results, drills.last_good), (vec![shown.clone()], None));
    let told = |what: &str| cluster.status().1.concerns.iter().any(|concern| concern.summary.contains(what));
    assert!(told("the drill of") && shown.until == Milestone::Activation);

    set(&["--drill-limit", "30s"]);
    let good: DrillResult = drill().body();
    println!("{good:?}");
    assert!(good.is_good() && good.epoch > shown.epoch);
    assert_eq!(cluster.show(name).drills.last_good, Some(good.clone()));
    assert!(!told("the drill of"), "a good one ends the alarm");

    ready();
    set(&["--drill-schedule", &soon(), "--drill-hand-back"]);
    let acting = scene.acting(&cluster);
    let by_schedule = wait::until("a drill of the schedule", NEXT_MINUTE, || {
        let last = cluster.show(name).drills.results.into_iter().next()?;
        (last.epoch > good.epoch).then_some(last)
    });
    set(&["--drill-schedule", "none"]);
    assert_eq!((by_schedule.by.as_str(), by_schedule.is_good()), ("schedule", true), "{by_schedule:?}");
    wait::until("the work is back", RUN_LIMIT, || (scene.acting(&cluster) == acting).then_some(()));
    scene.run(&cluster);
}

/// A schedule with one due time a day, the next of which is a few seconds to a minute and a quarter away.
fn soon() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let minute = (now + 15) / 60 + 1;
    format!("cron {} {} * * * UTC", minute % 60, minute / 60 % 24)
}
