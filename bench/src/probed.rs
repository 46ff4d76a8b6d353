//! The probe as a case: a process of its own like every tool, so that it is measured like them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::cases::{Cache, Case, Change, Measured, Outcome, State};
use crate::place::Place;
use crate::process::Process;
use crate::replication::Cost;
use crate::volume;
use crate::watch::Watch;

/// In a state of the volumes.
#[derive(Clone, Copy, Debug)]
pub struct Probed(pub State);

impl Case for Probed {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn run(&self, place: &mut Place, round: u64) -> anyhow::Result<Outcome> {
        let pair = place.pair()?;
        // A seed of its own: its changes are not those of the tool that it shares the volumes with.
        let seed = u64::MAX - round;
        self.0.bring(&pair.source, &pair.target, seed)?;
        let measured = self.measure(place, &pair.source, &pair.target)?;
        if self.0.change == Change::OnePercent {
            volume::mutate(&pair.target, 1, seed)?;
        }
        volume::compare(&pair.source, &pair.target)?;
        Ok(Outcome::Measured(measured))
    }
}

impl Probed {
    fn measure(&self, place: &Place, source: &Path, target: &Path) -> anyhow::Result<Measured> {
        let group = place.meter.group("probe")?;
        let mut command = group.command(&std::env::current_exe().context("find this program")?);
        command.arg("probe").arg(source).arg(target);
        command.args((self.0.cache == Cache::Cold).then_some("--direct"));
        let watch = Watch::start(&[&group]);
        let began = Instant::now();
        let status = Process::start(&group, &mut command, None)?.wait()?;
        let wall = began.elapsed();
        ensure!(status.success(), "the probe failed: {status}");
        let cost = Cost { cpu: group.cpu(), wire_bytes: None, sight: watch.end() };
        Ok(Measured::of_peer(wall, &cost))
    }
}
