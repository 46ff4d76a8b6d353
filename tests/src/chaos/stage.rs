//! Where a schedule is played: the cluster, its volumes, and the devices that lie below them.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::schedule::{Faulty, Form, Hosts, Program, Schedule, Shape, Source, Volumes};
use crate::cluster::{Builder, Cluster, SOURCES, TARGETS};
use crate::faulty_disk::FaultyDisk;
use crate::loop_device::LoopDevice;
use crate::network::Network;
use crate::random::Random;
use crate::scene::Scene;
use crate::{Build, volume};

/// The block devices of every agent.
const DEVICES: &str = "san-c";
const MIB: u64 = 1 << 20;

/// Everything that a schedule needs, in the order in which it has to go: processes, then what they have open.
#[derive(Debug)]
pub struct Stage {
    pub cluster: Cluster,
    pub scenes: Vec<Scene>,
    pub agents: Vec<String>,
    _devices: Vec<LoopDevice>,
    pub disk: Option<FaultyDisk>,
    pub faulty: Option<Faulty>,
    _folder: TempDir,
}

impl Stage {
    /// Starts the cluster and makes its replications.
    ///
    /// # Errors
    /// Why it cannot be had on this machine, in words.
    ///
    /// # Panics
    /// If anything fails that this machine has.
    pub fn set(schedule: &Schedule, build: Build, random: &mut Random) -> Result<Self, String> {
        let shape = &schedule.cluster;
        if schedule.needs_root() && !rustix::process::geteuid().is_root() {
            return Err("namespaces, loop devices and mounts need root".to_owned());
        }
        let agents: Vec<String> = (1..=shape.agents).map(|number| format!("h{number}")).collect();
        let folder = TempDir::with_prefix_in("stage-", build.scratch).map_err(|error| error.to_string())?;
        let mount = folder.path().join("mount");
        let disk = shape.faulty.map(|_| FaultyDisk::mount(&mount, &folder.path().join("disk"))).transpose()?;
        let devices_at = if shape.faulty == Some(Faulty::Storage) { &mount } else { folder.path() };
        let places = (1..=shape.replications).map(|number| Place::of(shape, number, devices_at));
        let places: Vec<Place> = places.collect();
        let devices = attach(shape, &places)?;
        let mut builder = builder(shape, build, &agents)?.more_storage(&storage(&places, &devices));
        builder = match shape.faulty {
            Some(Faulty::Storage) => builder.storage_place(&mount),
            Some(Faulty::Store) => builder.server_place(&mount.join("server")),
            None => builder,
        };
        let (cluster, scenes) = (builder.start(), Vec::new());
        let mut stage =
            Self { cluster, scenes, agents, _devices: devices, disk, faulty: shape.faulty, _folder: folder };
        for place in places {
            let scene = stage.scene(shape, place, random);
            stage.scenes.push(scene);
        }
        Ok(stage)
    }

    /// Makes the volumes, where they are files of a storage system, and the replication.
    fn scene(&self, shape: &Shape, place: Place, random: &mut Random) -> Scene {
        let at = |address: &str, file: &Option<PathBuf>| file.clone().unwrap_or_else(|| self.cluster.file(address));
        let (source, target) = (at(&place.source, &place.source_file), at(&place.target, &place.target_file));
        let size_bytes = shape.size_mib * MIB;
        let scene = Scene { name: place.name, size_bytes, source, target };
        if shape.volumes == Volumes::Image {
            volume::make_noise(&scene.source, size_bytes, random.number());
            volume::blank(&scene.target, size_bytes);
        } else {
            volume::renew(&scene.source, random.number());
        }
        let agents = self.agents.join(",");
        let line = ["replication", "create", &scene.name, "--source", &place.source, "--target", &place.target];
        let limit = shape.limit_mib_per_second.map(|limit| format!("{limit}MiB/s"));
        let limit = limit.iter().flat_map(|limit| ["--limit", limit.as_str()]);
        let mode = match shape.source {
            Source::Sealed => "sealed",
            Source::Live => "live",
        };
        let more: Vec<&str> = ["--agents", &agents, "--source-mode", mode].into_iter().chain(limit).collect();
        self.cluster.tanist(&[&line[..], &more].concat()).done();
        scene.wait_whole(&self.cluster);
        scene
    }
}

/// The two volumes of a replication: their addresses, and the files behind them where they are devices.
struct Place {
    name: String,
    source: String,
    target: String,
    source_file: Option<PathBuf>,
    target_file: Option<PathBuf>,
}

impl Place {
    fn of(shape: &Shape, number: u8, folder: &Path) -> Self {
        let name = format!("db{number}");
        if shape.volumes == Volumes::Image {
            let (source, target) = (format!("{SOURCES}/{name}"), format!("{TARGETS}/{name}"));
            return Self { name, source, target, source_file: None, target_file: None };
        }
        let (from, to) = (format!("{name}-source"), format!("{name}-target"));
        Self {
            name,
            source: format!("{DEVICES}/{from}"),
            target: format!("{DEVICES}/{to}"),
            source_file: Some(folder.join(from)),
            target_file: Some(folder.join(to)),
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.source_file.iter().chain(&self.target_file)
    }
}

/// A loop device over each file that has to be one.
fn attach(shape: &Shape, places: &[Place]) -> Result<Vec<LoopDevice>, String> {
    let files = places.iter().flat_map(Place::files);
    let attached = files.map(|file| {
        volume::blank(file, shape.size_mib * MIB);
        LoopDevice::attach(file, 512)
    });
    attached.collect()
}

/// For the agents' configuration.
fn storage(places: &[Place], devices: &[LoopDevice]) -> String {
    if devices.is_empty() {
        return String::new();
    }
    let files = places.iter().flat_map(Place::files).zip(devices);
    let entries = files.map(|(file, device)| {
        let volume = file.file_name().unwrap_or_default().to_string_lossy();
        format!("{{ path = {:?}, identity = 'backing-file', volume = '{volume}' }}", device.path)
    });
    let entries: Vec<String> = entries.collect();
    format!("[[storage]]\nname = '{DEVICES}'\nkind = 'block'\ndevices = [{}]\n", entries.join(", "))
}

fn builder(shape: &Shape, build: Build, agents: &[String]) -> Result<Builder, String> {
    let mut builder = Cluster::builder(build).reach(&reach(shape));
    builder = match shape.hosts {
        Hosts::One => builder,
        Hosts::Own => builder.own_hosts(),
        Hosts::Network => {
            let hosts: Vec<&str> = ["server"].into_iter().chain(agents.iter().map(String::as_str)).collect();
            builder.on(Network::new(&hosts)?)
        }
    };
    Ok(match &shape.without {
        None => builder,
        Some(off) if off.program == Program::Server => builder.server_without(&off.rule),
        Some(off) => builder.agents_without(&off.rule),
    })
}

/// Which storage systems each agent reaches.
fn reach(shape: &Shape) -> Vec<&'static [&'static str]> {
    const BOTH: &[&str] = &[SOURCES, TARGETS];
    const EITHER: [&[&str]; 2] = [&[SOURCES], &[TARGETS]];
    let agents = usize::from(shape.agents);
    match shape.form {
        Form::Direct => vec![BOTH; agents],
        Form::Networked => (0..agents).map(|at| EITHER[usize::from(at >= agents.div_ceil(2))]).collect(),
        Form::Hybrid => (0..agents).map(|at| if at % 3 == 0 { BOTH } else { EITHER[at % 3 - 1] }).collect(),
    }
}
