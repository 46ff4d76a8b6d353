//! The act: a run, its agent killed, its successor stopped, the third one finishing; then the second run, and the comparison.

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tanist_model::api::{CreateReplication, Health, ReplicationView};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, EventSeq, ReplicationName, RunId};
use tanist_model::policy::{Policy, SourceMode};
use tanist_model::run::RunState;
use tanist_model::time::Timestamp;

use super::stage::{AGENTS, Stage};
use super::{Report, volumes};
use crate::cli::server::DemoArgs;
use crate::client::EventQuery;
use crate::failure::Failure;
use crate::output::{Screen, Style, Tone};

const GLANCE: Duration = Duration::from_millis(20);
/// How long any one scene may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds that a run takes under the default limit: long enough to watch, short enough to wait for.
const RUN_SECONDS: u64 = 6;
const LEAST_LIMIT: u64 = 8 << 20;
const CHANGE_SEED: u64 = 7;

struct Act<'a> {
    screen: &'a Screen,
    style: Style,
    stage: Stage,
    name: ReplicationName,
    seen: EventSeq,
}

pub(super) async fn play(args: &DemoArgs, screen: &Screen) -> Result<Report, Failure> {
    let started = Instant::now();
    screen.note("setting the stage: a server, three agents, two storage systems");
    let stage = Stage::set(args).await?;
    let name = ReplicationName::new("db").map_err(|e| Failure::io("name the replication", std::io::Error::other(e)))?;
    let mut act = Act { screen, style: screen.style(), stage, name, seen: EventSeq(0) };
    act.create(args).await?;
    let crash = act.first_run().await?;
    act.second_run().await?;
    act.finish(args, started, crash).await
}

impl Act<'_> {
    fn tell(&self, text: impl Display) {
        self.screen.note(&format!("\n{}", self.style.paint(Tone::Strong, &text.to_string())));
    }

    async fn create(&mut self, args: &DemoArgs) -> Result<(), Failure> {
        let size = std::fs::metadata(&self.stage.source.file).map_err(|e| Failure::io("look at the source", e))?.len();
        let limit = args.limit.map_or((size / RUN_SECONDS).max(LEAST_LIMIT), |l| l.bytes_per_second);
        let agents = AGENTS.into_iter().filter_map(|name| AgentName::new(name).ok()).collect();
        let create = CreateReplication {
            name: self.name.clone(),
            source: self.stage.source.address.clone(),
            target: self.stage.target.address.clone(),
            agents,
            policy: Policy {
                source_mode: SourceMode::Sealed,
                bandwidth_bytes_per_second: Some(limit),
                ..Policy::default()
            },
            overwrite_target: false,
            once: false,
            restore: None,
        };
        self.tell(format!(
            "replication db: {} -> {}, agents h1, h2, h3 in this order, {} MiB at {} MiB/s",
            create.source,
            create.target,
            size >> 20,
            limit >> 20
        ));
        let plan = self.stage.client.plan_replication(&create).await?;
        self.screen.note(&format!("tier {:?}: {}", plan.tier, plan.promise));
        self.stage.client.create_replication(&create).await?;
        self.until("the primary to act", |view| view.acting.is_some() && view.health == Health::Ok).await?;
        Ok(())
    }

    /// SIGKILL to the first agent, SIGSTOP to the second, the third finishes. Returns the crash's time to durable write.
    async fn first_run(&mut self) -> Result<Option<u64>, Failure> {
        let run = self.sync().await?;
        let view = self.until_done(30).await?;
        let first = acting(&view)?;
        self.tell(format!("SIGKILL to {first}, the acting agent, at {} %", percent(&view)));
        let killed_at = wall();
        self.signal(&first, Signal::KILL)?;
        let view = self.until_successor(&first).await?;
        let second = acting(&view)?;
        self.until_done(60).await?;
        let crash = self.first_durable_write_after(killed_at).await?;

        let view = self.until_done(65).await?;
        self.tell(format!(
            "SIGSTOP to {second}, now acting, at {} %: it is silent, and nothing proves it quiet",
            percent(&view)
        ));
        self.signal(&second, Signal::STOP)?;
        let view = self.until_successor(&second).await?;
        let third = acting(&view)?;
        self.tell(format!("{third} goes on with the same snapshot: the same bytes can only be written again"));
        self.until_published(run).await?;
        Ok(crash)
    }

    /// The advance waits for the stopped agent; it wakes up, finds itself superseded, and stands down.
    async fn second_run(&mut self) -> Result<(), Failure> {
        if self.stage.source.made {
            volumes::change(&self.stage.source.file, CHANGE_SEED).map_err(|e| Failure::io("change the source", e))?;
            self.tell("the source has changed; a second run is wanted");
        } else {
            self.tell("a second run is wanted");
        }
        let run = self.sync().await?;
        let view = self.until("the second run to wait for proof", |view| view.waits_for.is_some()).await?;
        let waits_for = view.waits_for.clone().unwrap_or_default();
        self.screen.note(&format!("status: {}\nwaits for: {waits_for}", view.summary));
        let stopped = view.awaited.first().map(|awaited| awaited.agent.clone());
        if let Some(stopped) = stopped {
            self.tell(format!("SIGCONT to {stopped}: it wakes up under an epoch that is over"));
            self.signal(&stopped, Signal::CONT)?;
        }
        self.until_published(run).await?;
        Ok(())
    }

    async fn finish(mut self, args: &DemoArgs, started: Instant, crash: Option<u64>) -> Result<Report, Failure> {
        let (source, target) = (self.stage.source.file.clone(), self.stage.target.file.clone());
        let equal = volumes::equal(&source, &target).map_err(|e| Failure::io("compare the volumes", e))?;
        let why = self.stage.client.why(&self.name, None).await?;
        let points = self.stage.client.recovery_points(&self.name).await?;
        self.tell("what happened, newest first");
        for takeover in &why.takeovers {
            self.screen.note(&format!("  {}", crate::output::why::summary_of_takeover(takeover)));
        }
        if args.keep {
            self.stage.keep();
            self.screen.note(&format!(
                "\nleft running; try: tanist --context {}/context.toml replication show db\nstop it with: kill {}",
                self.stage.folder.display(),
                self.stage.processes()
            ));
        }
        Ok(Report {
            equal,
            size_bytes: std::fs::metadata(&source).map_or(0, |m| m.len()),
            runs_published: u32::try_from(points.len()).unwrap_or(u32::MAX),
            takeovers: why.takeovers,
            crash_to_first_durable_write_ms: crash,
            seconds: started.elapsed().as_secs_f64(),
            directory: self.stage.folder.display().to_string(),
            kept: args.keep,
        })
    }

    async fn sync(&mut self) -> Result<RunId, Failure> {
        let done = self.stage.client.sync(&self.name, false).await?;
        done.run.ok_or_else(|| unexpected("the server started no run"))
    }

    fn signal(&self, agent: &AgentName, signal: Signal) -> Result<(), Failure> {
        let player = self.stage.player(agent).ok_or_else(|| unexpected("an agent of another play acts"))?;
        player.signal(signal).map(|_| ())
    }

    async fn until_done(&mut self, percent_done: u64) -> Result<ReplicationView, Failure> {
        let what = format!("the run to reach {percent_done} %");
        self.until(&what, |view| percent(view) >= percent_done || view.run.is_none()).await
    }

    async fn until_successor(&mut self, predecessor: &AgentName) -> Result<ReplicationView, Failure> {
        let what = format!("a successor of {predecessor}");
        let took_over = |view: &ReplicationView| {
            view.acting.as_ref().is_some_and(|a| a != predecessor)
                && view
                    .last_takeover
                    .as_ref()
                    .is_some_and(|t| t.from.as_ref() == Some(predecessor) && t.activated_at.is_some())
        };
        self.until(&what, took_over).await
    }

    async fn until_published(&mut self, run: RunId) -> Result<ReplicationView, Failure> {
        let published = |view: &ReplicationView| {
            view.last_run.as_ref().is_some_and(|r| r.id == run && r.state == RunState::Published)
        };
        self.until("the recovery point", published).await
    }

    /// Looks until the replication is as wanted, telling the audit log on the way.
    async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&ReplicationView) -> bool,
    ) -> Result<ReplicationView, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.tell_events().await?;
            let view = self.stage.client.replication(&self.name).await?;
            if wanted(&view) {
                return Ok(view);
            }
            if let Some(failed) = view.last_run.as_ref().filter(|r| r.state == RunState::Abandoned) {
                let reason = failed.failure.clone().unwrap_or_default();
                return Err(unexpected(&format!("the run was abandoned: {reason}")));
            }
            if Instant::now() >= deadline {
                let waited = PATIENCE.as_secs();
                return Err(unexpected(&format!("waited {waited} s for {what}; {}", view.summary)));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn tell_events(&mut self) -> Result<(), Failure> {
        let query = EventQuery { after: Some(self.seen), limit: 100, replication: None, wait: Duration::ZERO };
        let page = self.stage.client.events(&query).await?;
        for event in page.events.iter().filter(|event| is_told(event.code)) {
            let line = crate::output::events::render_event(event, self.style);
            self.screen.note(line.trim_end());
        }
        self.seen = self.seen.max(page.last);
        Ok(())
    }

    /// By the clock of this machine, which is the agents' and the server's as well.
    async fn first_durable_write_after(&mut self, fault: Timestamp) -> Result<Option<u64>, Failure> {
        let why = self.stage.client.why(&self.name, None).await?;
        let newest = why.takeovers.first().and_then(|t| t.first_durable_write_at);
        Ok(newest.and_then(|at| u64::try_from(at.since(fault).as_millis()).ok()))
    }
}

/// Setting the stage is not part of the story.
fn is_told(code: EventCode) -> bool {
    !matches!(
        code,
        EventCode::TokenCreated | EventCode::AgentJoined | EventCode::ServerStarted | EventCode::OperatorLoggedIn
    )
}

fn acting(view: &ReplicationView) -> Result<AgentName, Failure> {
    view.acting.clone().ok_or_else(|| unexpected("nobody acts"))
}

fn percent(view: &ReplicationView) -> u64 {
    view.run.as_ref().map_or(0, |run| run.done_bytes.saturating_mul(100) / run.size_bytes.max(1))
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn unexpected(what: &str) -> Failure {
    Failure::io("play the demonstration", std::io::Error::other(what.to_owned()))
}
