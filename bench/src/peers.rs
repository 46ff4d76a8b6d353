//! The other tools: what each is called, what it needs, how it copies. Each is given the options that make it fast and durable, as its own
//! manual tells them; a tool that is not installed is said to be missing.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::measured::Meter;
use crate::process::Process;
use crate::random::Random;
use crate::replication::Cost;
use crate::wait;
use crate::watch::Watch;
use crate::wire;

const PORT: u16 = 27809;
const STARTUP: Duration = Duration::from_secs(10);

/// What a tool copies, and where it finds its keys.
#[derive(Clone, Debug)]
pub struct Errand {
    pub source: PathBuf,
    pub target: PathBuf,
    pub keys: PathBuf,
}

/// A tool, and how it does an errand.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub name: &'static str,
    needs: &'static [&'static str],
    server: Option<fn(&Errand) -> String>,
    command: fn(&Errand) -> String,
}

pub const DD: Peer = Peer { name: "dd", needs: &["dd"], server: None, command: |e| dd(&e.source, &e.target) };

pub const DDPT: Peer = Peer {
    name: "ddpt",
    needs: &["ddpt"],
    server: None,
    command: |e| {
        let (s, t) = (quoted(&e.source), quoted(&e.target));
        format!("ddpt if={s} of={t} bs=512 bpt=2048 iflag=direct oflag=direct,nocreat && sync {t}")
    },
};

pub const QEMU_IMG: Peer = Peer {
    name: "qemu-img",
    needs: &["qemu-img"],
    server: None,
    command: |e| {
        let (s, t) = (quoted(&e.source), quoted(&e.target));
        format!("qemu-img convert -U -n -f raw -O raw -T none -t none -m 16 -W {s} {t} && sync {t}")
    },
};

pub const NBDCOPY: Peer = Peer {
    name: "nbdcopy",
    needs: &["nbdcopy"],
    server: None,
    command: |e| format!("nbdcopy --flush {} {}", quoted(&e.source), quoted(&e.target)),
};

pub const RSYNC: Peer = Peer {
    name: "rsync",
    needs: &["rsync"],
    server: None,
    command: |e| {
        format!("rsync --ignore-times --inplace --whole-file --fsync {} {}", quoted(&e.source), quoted(&e.target))
    },
};

pub const NBDCOPY_TCP: Peer = Peer {
    name: "nbdcopy, TCP",
    needs: &["nbdcopy", "nbdkit"],
    server: Some(|e| format!("nbdkit --foreground -i 127.0.0.1 -p {PORT} file {}", quoted(&e.target))),
    command: |e| format!("nbdcopy --flush {} nbd://127.0.0.1:{PORT}", quoted(&e.source)),
};

pub const NBDCOPY_TLS: Peer = Peer {
    name: "nbdcopy, TLS",
    needs: &["nbdcopy", "nbdkit"],
    server: Some(|e| {
        let psk = quoted(&e.keys.join("psk"));
        format!("nbdkit --foreground --tls=require --tls-psk={psk} -i 127.0.0.1 -p {PORT} file {}", quoted(&e.target))
    }),
    command: |e| {
        let uri = format!("nbds://bench@127.0.0.1:{PORT}/?tls-psk-file={}", e.keys.join("psk").display());
        format!("nbdcopy --flush {} '{uri}'", quoted(&e.source))
    },
};

pub const SOCAT_TLS: Peer = Peer {
    name: "dd and socat, TLS",
    needs: &["dd", "socat", "openssl"],
    server: None,
    command: |e| {
        let (pair, ca) = (e.keys.join("pair.pem"), e.keys.join("certificate.pem"));
        let listen = format!("OPENSSL-LISTEN:{PORT},reuseaddr,bind=127.0.0.1,cert={},verify=0", pair.display());
        let dial = format!("OPENSSL:localhost:{PORT},pf=ip4,cafile={},retry=100,interval=0.05", ca.display());
        let write = format!("dd of={} bs=1M iflag=fullblock oflag=direct conv=notrunc,fsync", quoted(&e.target));
        let read = format!("dd if={} bs=1M iflag=direct", quoted(&e.source));
        format!(
            "(socat -u -b 1048576 '{listen}' STDOUT | {write}) & there=$!; \
             {read} | socat -u -b 1048576 STDIN '{dial}'; wait $there"
        )
    },
};

/// The daemon, so that its delta crosses a network.
pub const RSYNC_DELTA: Peer = Peer {
    name: "rsync",
    needs: &["rsync"],
    server: Some(|e| {
        let config = quoted(&e.keys.join("rsyncd.conf"));
        format!("rsync --daemon --no-detach --config={config} --port={PORT} --address=127.0.0.1")
    }),
    command: |e| {
        let name = e.target.file_name().unwrap_or_default().to_string_lossy();
        let there = format!("rsync://127.0.0.1:{PORT}/targets/{name}");
        format!("rsync --ignore-times --inplace --no-whole-file --fsync {} {there}", quoted(&e.source))
    },
};

const ALL: [Peer; 9] = [DD, DDPT, QEMU_IMG, NBDCOPY, RSYNC, NBDCOPY_TCP, NBDCOPY_TLS, SOCAT_TLS, RSYNC_DELTA];

fn dd(source: &Path, target: &Path) -> String {
    let (source, target) = (quoted(source), quoted(target));
    format!("dd if={source} of={target} bs=1M iflag=direct oflag=direct conv=notrunc,fsync")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

impl Peer {
    /// The program that it lacks.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        self.needs.iter().copied().find(|program| find(program).is_none())
    }

    /// Copies: how long it took, and what it cost, its server included.
    ///
    /// # Errors
    /// If it fails.
    pub fn copy(&self, meter: &Meter, errand: &Errand) -> anyhow::Result<(Duration, Cost)> {
        make_keys(errand)?;
        let group = meter.group("peer")?;
        let log = errand.keys.join("log");
        let shell = |line: &str| {
            let mut command = group.command(Path::new("/bin/sh"));
            command.args(["-c", line]);
            Process::start(&group, &mut command, Some(&log))
        };
        let server = self.server.map(|server| shell(&format!("exec {}", server(errand)))).transpose()?;
        if server.is_some() {
            wait::until("its server listens", STARTUP, || TcpStream::connect(address()).ok())?;
        }
        let watch = Watch::start(&[&group]);
        let (sent, began) = (wire::sent_bytes(), Instant::now());
        let status = shell(&(self.command)(errand))?.wait()?;
        let (took, sent_after) = (began.elapsed(), wire::sent_bytes());
        let sight = watch.end();
        let cpu = group.cpu();
        drop(server);
        ensure!(status.success(), "{} failed ({status}): {}", self.name, tail(&log));
        let wire_bytes = sent.zip(sent_after).map(|(from, to)| to.saturating_sub(from));
        Ok((took, Cost { cpu, wire_bytes, sight }))
    }
}

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Keys and a configuration that last as long as the folder.
fn make_keys(errand: &Errand) -> anyhow::Result<()> {
    let keys = &errand.keys;
    if keys.join("rsyncd.conf").exists() {
        return Ok(());
    }
    std::fs::create_dir_all(keys).context("make a folder for keys")?;
    std::fs::write(keys.join("psk"), format!("bench:{}\n", secret()))?;
    if find("openssl").is_some() {
        make_certificate(keys)?;
    }
    let folder = errand.target.parent().unwrap_or(keys).display().to_string();
    let owner = if rustix::process::geteuid().is_root() { "uid = root\ngid = root\n" } else { "" };
    let config = format!("use chroot = no\n{owner}[targets]\n path = {folder}\n read only = no\n");
    std::fs::write(keys.join("rsyncd.conf"), config).context("configure rsync")
}

fn make_certificate(keys: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-keyout"]).arg(keys.join("key.pem"));
    let output = command.arg("-out").arg(keys.join("certificate.pem")).output().context("run openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    let pair = ["certificate.pem", "key.pem"].map(|name| std::fs::read_to_string(keys.join(name)));
    let [certificate, key] = pair;
    std::fs::write(keys.join("pair.pem"), certificate? + &key?).context("write a certificate")
}

/// Not to be kept from anybody: it opens a copy of made-up data for some seconds.
fn secret() -> String {
    let mut random = Random::new(u64::from(std::process::id()));
    (0..4).fold(String::new(), |mut text, _| {
        let _ = write!(text, "{:016x}", random.number());
        text
    })
}

/// What is installed of them, with versions, for the page.
#[must_use]
pub fn versions() -> Vec<(&'static str, String)> {
    let mut programs: Vec<&str> = ALL.iter().flat_map(|peer| peer.needs).copied().collect();
    programs.sort_unstable();
    programs.dedup();
    programs.into_iter().map(|program| (program, version(program))).collect()
}

fn version(program: &str) -> String {
    if find(program).is_none() {
        return "not installed".to_owned();
    }
    let flag = if matches!(program, "socat" | "ddpt") { "-V" } else { "--version" };
    let flag = if program == "openssl" { "version" } else { flag };
    let said = Command::new(program).arg(flag).output().map(|output| [output.stdout, output.stderr].concat());
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    let number = said.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let number = number.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    number.unwrap_or("of an unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_missing() {
        let nobody = Peer { needs: &["sh", "no-such-tool-anywhere"], ..DD };
        assert_eq!(nobody.missing(), Some("no-such-tool-anywhere"));
        assert_eq!(DD.missing(), None);
        assert_eq!(version("no-such-tool-anywhere"), "not installed");
        assert!(version("dd").starts_with(|c: char| c.is_ascii_digit()), "{}", version("dd"));
    }
}
