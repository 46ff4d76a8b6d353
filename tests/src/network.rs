//! Hosts with a real network between them: a network namespace each, joined by a bridge in one more. A cut is silent, as when a
//! cable is pulled behind a switch: what one host sends to another goes to a hardware address that nobody has, in one direction
//! or in both. It needs root and iproute2, and nothing that a kernel could lack a module for. Between two hosts the line can be rough as
//! well: what one sends to the other then goes over a [`forwarder`], and all else still directly.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tanist_model::time::Timestamp;

use crate::forwarder::{self, Forwarder};

pub use crate::forwarder::Quality;

/// Namespaces of these tests are known by this.
const PREFIX: &str = "tanist-test-";

/// Hosts by name, each with its number: its place in the network.
#[derive(Debug)]
pub struct Network {
    tag: String,
    hosts: BTreeMap<String, u8>,
    /// From the first degradation on.
    forwarder: Mutex<Option<Forwarder>>,
}

/// Where a host sends what is for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Direct,
    Forwarded,
    Nowhere,
}

impl Network {
    /// A network of these hosts; or the reason why there is none is printed, for the test that goes without.
    #[must_use]
    pub fn or_skip(test: &str, hosts: &[&str]) -> Option<Self> {
        or_say_why(test, Self::new(hosts))
    }

    /// The same for a test that degrades it, which needs `/dev/net/tun` besides.
    #[must_use]
    pub fn rough_or_skip(test: &str, hosts: &[&str]) -> Option<Self> {
        let rough = Self::new(hosts).and_then(|network| {
            network.start_forwarder()?;
            Ok(network)
        });
        or_say_why(test, rough)
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
        let network = Self { tag, hosts, forwarder: Mutex::new(None) };
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
                self.point(from, to, Way::Direct)?;
            }
        }
        Ok(())
    }

    fn plug(&self, name: &str, number: u8) -> Result<(), String> {
        let (host, hub, port) = (self.namespace(name), self.hub(), format!("port{number}"));
        ip(&["netns", "add", &host])?;
        let (hardware, address) = (text(forwarder::hardware_address(number)), format!("{}/24", self.address(name)));
        ip(&["-n", &host, "link", "add", "net0", "address", &hardware, "type", "veth", "peer", "name", &port])?;
        ip(&["-n", &host, "link", "set", &port, "netns", &hub])?;
        ip(&["-n", &hub, "link", "set", &port, "master", "hub"])?;
        ip(&["-n", &hub, "link", "set", &port, "up"])?;
        ip(&["-n", &host, "address", "add", &address, "dev", "net0"])?;
        ip(&["-n", &host, "link", "set", "lo", "up"])?;
        ip(&["-n", &host, "link", "set", "net0", "up"])
    }

    /// A device of the forwarder's on the bridge. It is made here, since a thread opens it here, and moved there.
    fn start_forwarder(&self) -> Result<(), String> {
        let mut place = self.forwarder();
        if place.is_some() {
            return Ok(());
        }
        let (hub, (forwarder, device)) = (self.hub(), Forwarder::start()?);
        ip(&["link", "set", &device, "netns", &hub])?;
        ip(&["-n", &hub, "link", "set", &device, "name", "rough"])?;
        ip(&["-n", &hub, "link", "set", "rough", "txqueuelen", "10000", "master", "hub", "up"])?;
        for number in self.hosts.values() {
            let address = text(forwarder::forwarding_address(*number));
            run("bridge", &["-n", &hub, "fdb", "add", &address, "dev", "rough", "master", "static"])?;
        }
        *place = Some(forwarder);
        Ok(())
    }

    fn forwarder(&self) -> MutexGuard<'_, Option<Forwarder>> {
        self.forwarder.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What `from` sends to `to` arrives so from now on; what `to` sends is not touched. [`Quality::GOOD`] is the direct way again.
    ///
    /// # Panics
    /// If there is no such host, or no TAP device to be had.
    pub fn degrade(&self, from: &str, to: &str, quality: Quality) -> Timestamp {
        if quality == Quality::GOOD {
            self.set(from, to, Way::Direct);
            return now();
        }
        self.start_forwarder().unwrap_or_else(|error| panic!("a rough line from {from} to {to}: {error}"));
        if let Some(forwarder) = &*self.forwarder() {
            forwarder.degrade((self.number(from), self.number(to)), quality);
        }
        self.set(from, to, Way::Forwarded);
        now()
    }

    /// The same in both directions.
    ///
    /// # Panics
    /// As [`Self::degrade`].
    pub fn degrade_both(&self, one: &str, other: &str, quality: Quality) -> Timestamp {
        self.degrade(one, other, quality);
        self.degrade(other, one, quality)
    }

    /// From now on nothing that `from` sends to `to` arrives; what `to` sends still does.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Timestamp {
        self.set(from, to, Way::Nowhere);
        now()
    }

    /// Nothing passes between the two, either way.
    pub fn cut(&self, one: &str, other: &str) -> Timestamp {
        self.set(one, other, Way::Nowhere);
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

    /// What `from` sends to `to` arrives again, directly.
    pub fn heal_one_way(&self, from: &str, to: &str) -> Timestamp {
        self.set(from, to, Way::Direct);
        now()
    }

    /// The two reach each other again, directly.
    pub fn heal(&self, one: &str, other: &str) -> Timestamp {
        self.set(one, other, Way::Direct);
        self.set(other, one, Way::Direct);
        now()
    }

    /// The host reaches all others again.
    pub fn rejoin(&self, name: &str) {
        for other in self.hosts.keys().filter(|other| *other != name) {
            self.heal(name, other);
        }
    }

    fn set(&self, from: &str, to: &str, way: Way) {
        let direction = (self.number(from), self.number(to));
        match (&*self.forwarder(), way) {
            (Some(forwarder), Way::Direct) => forwarder.restore(direction),
            (Some(forwarder), Way::Nowhere) => forwarder.cut(direction),
            (Some(_), Way::Forwarded) | (None, _) => {}
        }
        self.point(from, to, way).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    }

    /// Where `from` sends what is for `to`: to it, to the forwarder, or to nobody.
    fn point(&self, from: &str, to: &str, way: Way) -> Result<(), String> {
        let (host, address, number) = (self.namespace(from), self.address(to).to_string(), self.number(to));
        let hardware = text(match way {
            Way::Direct => forwarder::hardware_address(number),
            Way::Forwarded => forwarder::forwarding_address(number),
            Way::Nowhere => nobodys_address(number),
        });
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

fn or_say_why(test: &str, network: Result<Network, String>) -> Option<Network> {
    match network {
        Ok(network) => Some(network),
        Err(reason) => {
            println!("{test} is skipped: {reason}");
            None
        }
    }
}

const fn nobodys_address(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0xff, number]
}

/// As iproute2 has it.
fn text(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
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
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program} (iproute2): {error}"))?;
    let complaint = || format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(complaint()) }
}

#[cfg(test)]
mod tests;
