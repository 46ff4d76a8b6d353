//! One measurement, from the first agent that joins to the last one that is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tanist_crowd::{Crowd, CrowdError, Loss, source_of, target_of};
use tanist_model::api::{CreateReplication, Refusal, RefusalCode, ReplicationView};
use tanist_model::id::{AgentName, Epoch, ReplicationName};
use tanist_model::policy::Policy;
use tanist_model::replication::Side;
use tanist_model::takeover::TakeoverRecord;
use tanist_model::time::Timestamp;

use super::enrol::{self, for_each, local};
use super::kernel::{self, Memory, Stopwatch};
use super::percentiles::Percentiles;
use super::report::{Restart, Size, Takeovers};
use super::stage::Stage;
use crate::cli::bench::BenchServerArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Screen;
use crate::output::screen::now;

/// Agents on their way to the server at once when they first come: what one takes shall be the server's doing, and not a queue of ours.
const ENTER_AT_ONCE: usize = 16;
/// How long anything may take that ends at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Every agent has beaten once.
const SETTLED: Duration = Duration::from_secs(6);
/// The longest that a server whose agents act is watched.
const ACTING: Duration = Duration::from_secs(10);
/// Between two looks at all replications. A look holds up the server, so it is not taken while takeovers are timed.
const GLANCE: Duration = Duration::from_millis(250);

impl From<CrowdError> for Failure {
    fn from(error: CrowdError) -> Self {
        let hint = "what the server did is measured only if all agents get through: try fewer, --agents N";
        Refusal::new(RefusalCode::Unavailable, error.to_string()).hint(hint).into()
    }
}

/// Measures a new server with so many agents and replications.
pub(super) async fn play(
    agents: usize,
    replications: usize,
    args: &BenchServerArgs,
    screen: &Screen,
) -> Result<Size, Failure> {
    let say = |what: &str| screen.note(&format!("{agents} agents: {what}"));
    let mut stage = Stage::set(args.dir.as_deref(), agents).await?;
    say("they join");
    let began = Instant::now();
    let identities = enrol::enrol(&stage.client, agents).await?;
    let join = began.elapsed();

    // What the joining left behind in its memory is not what a connection costs.
    stage.restart().await?;
    let empty = kernel::memory(stage.process())?;
    let mut crowd = Crowd::new(&stage.address, identities)?;
    say("they connect");
    let everybody: Vec<usize> = (0..agents).collect();
    let connect = crowd.enter(&everybody, ENTER_AT_ONCE, PATIENCE).await?;
    tokio::time::sleep(SETTLED).await;
    say("they are idle");
    let idle_cpu_percent = watch(&stage, args.idle.0).await?;
    let full = kernel::memory(stage.process())?;

    say(&format!("{replications} replications are made"));
    create(&stage.client, replications).await?;
    ready(&stage.client).await?;
    let acting_cpu_percent = watch(&stage, args.idle.0.min(ACTING)).await?;
    say("the processes of all that act are lost");
    let crash = takeovers(&stage.client, &mut crowd, Loss::Crash).await?;
    say("the hosts of all that act are lost");
    let silence = takeovers(&stage.client, &mut crowd, Loss::Silence).await?;
    say("the server is lost");
    let peak = kernel::memory(stage.process())?;
    let restart = restart(&mut stage, &mut crowd).await?;
    Ok(Size {
        agents,
        replications,
        joins_per_second: (agents as f64 / join.as_secs_f64()).round(),
        connect: Percentiles::of(connect),
        memory_bytes: full.resident_bytes,
        memory_bytes_per_connection: per_connection(empty, full, agents),
        peak_memory_bytes: peak.peak_bytes,
        idle_cpu_percent,
        acting_cpu_percent,
        crash,
        silence,
        restart,
    })
}

fn per_connection(empty: Memory, full: Memory, agents: usize) -> u64 {
    full.resident_bytes.saturating_sub(empty.resident_bytes) / (agents as u64).max(1)
}

async fn watch(stage: &Stage, time: Duration) -> Result<f64, Failure> {
    let stopwatch = Stopwatch::start(stage.process())?;
    tokio::time::sleep(time).await;
    stopwatch.share_percent()
}

/// One replication for each of the first pairs of agents.
async fn create(client: &Client, replications: usize) -> Result<(), Failure> {
    let asked: Result<Vec<CreateReplication>, Failure> = (0..replications).map(replication).collect();
    for_each(asked?, |body| {
        let client = client.clone();
        async move { Ok(client.create_replication(&body).await?) }
    })
    .await?;
    Ok(())
}

fn replication(pair: usize) -> Result<CreateReplication, Failure> {
    Ok(CreateReplication {
        name: ReplicationName::new(format!("r{pair}")).map_err(|e| local("name a replication", e))?,
        source: source_of(pair).map_err(|e| local("name a volume", e))?,
        target: target_of(pair).map_err(|e| local("name a volume", e))?,
        agents: vec![enrol::name(2 * pair)?, enrol::name(2 * pair + 1)?],
        policy: Policy::default(),
        overwrite_target: false,
        once: false,
        restore: None,
    })
}

/// Waits until somebody acts for each replication, and everybody else of its hierarchy could.
async fn ready(client: &Client) -> Result<Vec<ReplicationView>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let views = client.replications().await?;
        let waiting = views.iter().filter(|view| !is_ready(view)).count();
        if waiting == 0 {
            return Ok(views);
        }
        if Instant::now() >= deadline {
            let error = format!("{waiting} replications were not in order after {} s", PATIENCE.as_secs());
            let cause =
                views.iter().find(|view| !is_ready(view)).map(|view| format!("{}: {}", view.name, view.summary));
            return Err(Refusal::new(RefusalCode::Unavailable, error).cause(cause.unwrap_or_default()).into());
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn is_ready(view: &ReplicationView) -> bool {
    let acts = view.acting.is_some() && matches!(view.state.as_str(), "active" | "await-proof");
    let mut targets = view.sides.iter().filter(|side| side.side == Side::Target).flat_map(|side| &side.agents);
    acts && targets.all(|ranked| ranked.eligible)
}

/// Loses everybody who acts in one moment, waits until others do, and reads the records; then those who were lost are back.
async fn takeovers(client: &Client, crowd: &mut Crowd, loss: Loss) -> Result<Takeovers, Failure> {
    let views = ready(client).await?;
    let acting: BTreeSet<AgentName> = views.iter().filter_map(|view| view.acting.clone()).collect();
    let (lost, before) = (crowd.numbers_of(&acting), crowd.openings());
    let at = now();
    crowd.lose(&lost, loss);
    crowd.opened(before, views.len(), PATIENCE).await?;
    let names = views.into_iter().map(|view| view.name).collect();
    let records = for_each(names, |name| records_since(client.clone(), name, at)).await?;
    crowd.enter(&lost, ENTER_AT_ONCE, PATIENCE).await?;
    ready(client).await?;
    Ok(summary(at, &records))
}

/// The takeovers of a replication since a moment, the first one first, once the last of them is complete.
async fn records_since(
    client: Client,
    name: ReplicationName,
    since: Timestamp,
) -> Result<Vec<TakeoverRecord>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut records = client.why(&name, None).await?.takeovers;
        records.retain(|record| record.committed_at >= since);
        records.reverse();
        if records.last().is_some_and(|last| last.activated_at.is_some()) {
            return Ok(records);
        }
        if Instant::now() >= deadline {
            let error = format!("nobody took over {name} within {} s", PATIENCE.as_secs());
            return Err(Refusal::new(RefusalCode::Unavailable, error).into());
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn summary(at: Timestamp, records: &[Vec<TakeoverRecord>]) -> Takeovers {
    let first = records.iter().filter_map(|of_one| of_one.first()?.granted_at);
    let last = records.iter().filter_map(|of_one| of_one.last()?.activated_at);
    Takeovers {
        granted: Percentiles::of(first.map(|granted| granted.since(at)).collect()),
        activated: Percentiles::of(last.map(|activated| activated.since(at)).collect()),
        repeated: records.iter().map(|of_one| of_one.len().saturating_sub(1)).sum(),
    }
}

/// Kills the server and starts it again. Agents find their way back by themselves, each after a pause of its own.
async fn restart(stage: &mut Stage, crowd: &mut Crowd) -> Result<Restart, Failure> {
    let before = epochs(&ready(&stage.client).await?);
    let died = stage.restart().await?;
    let answered = died.elapsed();
    let welcomed = crowd.welcomed_anew(PATIENCE).await;
    let missing = crowd.len() - welcomed.len();
    let after = epochs(&stage.client.replications().await?);
    Ok(Restart {
        answered_ms: u64::try_from(answered.as_millis()).unwrap_or(u64::MAX),
        back: Percentiles::of(welcomed.into_iter().map(|at| at.saturating_duration_since(died)).collect()),
        missing,
        takeovers: after.iter().filter(|(name, epoch)| before.get(*name) != Some(*epoch)).count(),
    })
}

fn epochs(views: &[ReplicationView]) -> BTreeMap<ReplicationName, Epoch> {
    views.iter().map(|view| (view.name.clone(), view.epochs.target)).collect()
}
