//! A second process of an agent: a supervisor takes a stopped process for dead and starts another one in its place, with the same folder and
//! the same name. The old one still has the port.

use std::fs;
use std::process::Command;

use crate::cluster::Cluster;
use crate::process::Process;

/// Starts it. Its folder is a copy, because the old process may still write to the other; it is gone with the next twin.
///
/// # Panics
/// If the folder cannot be copied.
#[must_use]
pub fn start(cluster: &Cluster, agent: &str) -> Process {
    let (folder, twin) = (cluster.folder(agent), cluster.dir().join("twin"));
    let _ = fs::remove_dir_all(&twin);
    let copied = Command::new("cp").arg("-a").arg(folder).arg(&twin).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy {}", folder.display());
    let config = twin.join("agent.toml");
    let text = fs::read_to_string(&config).expect("read an agent's configuration");
    let lines = text.lines().map(|line| if line.starts_with("listen") { moved(line) } else { line.to_owned() });
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).expect("change it");
    let mut command = cluster.agent_command(agent);
    command.arg("--dir").arg(&twin);
    Process::start(&mut command, &cluster.dir().join("twin.log"))
}

/// The listening address with another port.
fn moved(line: &str) -> String {
    let (address, _) = line.rsplit_once(':').expect("an address");
    format!("{address}:7499\"")
}
