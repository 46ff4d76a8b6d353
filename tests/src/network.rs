//! Hosts with a real network between them: a network namespace each, joined by a bridge in one more. A cut is silent, as when a
//! cable is pulled behind a switch: what one host sends to another goes to a hardware address that nobody has, in one direction
//! or in both. It needs root and iproute2, and nothing that a kernel could lack a module for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tanist_model::time::Timestamp;

/// Namespaces of these tests are known by this.
const PREFIX: &str = "tanist-test-";

/// Hosts by name, each with its number: its place in the network.
#[derive(Debug)]
pub struct Network {
    tag: String,
    hosts: BTreeMap<String, u8>,
}

impl Network {
    /// A network of these hosts; or the reason why there is none is printed, for the test that goes without.
    #[must_use]
    pub fn or_skip(test: &str, hosts: &[&str]) -> Option<Self> {
        match Self::new(hosts) {
            Ok(network) => Some(network),
            Err(reason) => {
                println!("{test} is skipped: {reason}");
                None
            }
        }
    }

    /// # Errors
    /// Why it cannot be had, in words.
    pub fn new(names: &[&str]) -> Result<Self, String> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        forget_the_dead();
        let tag = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let hosts = (1..).zip(names).map(|(number, name)| ((*name).to_owned(), number)).collect();
        let network = Self { tag, hosts };
        network.build()?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "hub", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "hub", "up"])?;
        for (name, number) in &self.hosts {
            self.plug(name, *number)?;
        }
        let names: Vec<&String> = self.hosts.keys().collect();
        for (from, to) in names.iter().flat_map(|from| names.iter().map(move |to| (from, to))) {
            if from != to {
                self.point(from, to, true)?;
            }
        }
        Ok(())
    }

    fn plug(&self, name: &str, number: u8) -> Result<(), String> {
        let (host, hub, port) = (self.namespace(name), self.hub(), format!("port{number}"));
        ip(&["netns", "add", &host])?;
        let (hardware, address) = (hardware_address(number), format!("{}/24", self.address(name)));
        ip(&["-n", &host, "link", "add", "net0", "address", &hardware, "type", "veth", "peer", "name", &port])?;
        ip(&["-n", &host, "link", "set", &port, "netns", &hub])?;
        ip(&["-n", &hub, "link", "set", &port, "master", "hub"])?;
        ip(&["-n", &hub, "link", "set", &port, "up"])?;
        ip(&["-n", &host, "address", "add", &address, "dev", "net0"])?;
        ip(&["-n", &host, "link", "set", "lo", "up"])?;
        ip(&["-n", &host, "link", "set", "net0", "up"])
    }

    fn hub(&self) -> String {
        self.namespace("hub")
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    fn number(&self, name: &str) -> u8 {
        *self.hosts.get(name).unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn address(&self, name: &str) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number(name))
    }

    /// A command line on a host.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn command(&self, host: &str, program: &str) -> Command {
        assert!(self.hosts.contains_key(host), "there is no host {host}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// From now on nothing that `from` sends to `to` arrives; what `to` sends still does.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Timestamp {
        self.set(from, to, false);
        now()
    }

    /// Nothing passes between the two, either way.
    pub fn cut(&self, one: &str, other: &str) -> Timestamp {
        self.set(one, other, false);
        self.cut_one_way(other, one)
    }

    /// Nothing passes between this host and any other. The moment before the first of the cuts.
    pub fn isolate(&self, name: &str) -> Timestamp {
        let at = now();
        for other in self.hosts.keys().filter(|other| *other != name) {
            self.cut(name, other);
        }
        at
    }

    /// The two reach each other again.
    pub fn heal(&self, one: &str, other: &str) -> Timestamp {
        self.set(one, other, true);
        self.set(other, one, true);
        now()
    }

    /// The host reaches all others again.
    pub fn rejoin(&self, name: &str) {
        for other in self.hosts.keys().filter(|other| *other != name) {
            self.heal(name, other);
        }
    }

    fn set(&self, from: &str, to: &str, open: bool) {
        self.point(from, to, open).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    }

    /// Where `from` sends what is for `to`: to it, or to nobody.
    fn point(&self, from: &str, to: &str, open: bool) -> Result<(), String> {
        let (host, address, number) = (self.namespace(from), self.address(to).to_string(), self.number(to));
        let hardware = if open { hardware_address(number) } else { nobodys_address(number) };
        ip(&["-n", &host, "neigh", "replace", &address, "lladdr", &hardware, "dev", "net0", "nud", "permanent"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.hosts.keys().map(String::as_str).chain(["hub"]) {
            let _ = ip(&["netns", "del", &self.namespace(name)]);
        }
    }
}

fn hardware_address(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn nobodys_address(number: u8) -> String {
    format!("02:00:00:00:ff:{number:02x}")
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Namespaces of tests that were killed.
fn forget_the_dead() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).map(ToOwned::to_owned);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip (iproute2): {error}"))?;
    let complaint = || format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(complaint()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens there: a host that is reached says so, and one that is not says nothing.
    fn reaches(network: &Network, from: &str, to: &str) -> bool {
        let mut command = network.command(from, "timeout");
        command.args(["0.5", "bash", "-c", &format!("exec 3<>/dev/tcp/{}/9", network.address(to))]);
        let output = command.output().expect("run bash");
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    #[test]
    fn a_cut_is_silent_and_heals() {
        let Some(network) = Network::or_skip("a_cut_is_silent_and_heals", &["a", "b", "c"]) else { return };
        assert!(reaches(&network, "a", "b") && reaches(&network, "b", "a"));
        network.cut_one_way("a", "b");
        assert!(!reaches(&network, "a", "b") && !reaches(&network, "b", "a") && reaches(&network, "a", "c"));
        network.heal("a", "b");
        assert!(reaches(&network, "a", "b"));
        network.isolate("a");
        assert!(!reaches(&network, "a", "c") && reaches(&network, "b", "c"));
        network.rejoin("a");
        assert!(reaches(&network, "a", "c"));
    }
}
