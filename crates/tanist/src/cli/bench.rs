//! `tanist bench`: what there is can do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tanist_model::id::{AgentName, VolumeAddress};

use super::agent::AgentPlace;
use super::values::{self, WaitLimit};

/// More agents than the server lets in at once, operators included, are none.
const MOST_AGENTS: u64 = 16_000;

#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Measure what this host can do for a run: reading a volume, encoding, the link; and writing, if a scratch volume is named.
    ///
    /// Each stage is measured by itself, with the parts that runs are made of, over the storage and under the identity of this host's agent.
    /// It reads only. Run it as the user of the agent, who may read the storage. The agent may run meanwhile; what else the host does
    /// shows in the figures.
    Data(BenchDataArgs),
    /// Be the other end of the link: take what `tanist bench data --to` sends, check it and drop it, until interrupted. Stores nothing.
    Sink(BenchSinkArgs),
    /// Try a server with thousands of simulated agents: memory and CPU, a thousand takeovers at once, a restart of the server.
    ///
    /// Starts a server of its own on a free port of this host, with a store in a new directory, and has agents join it that live in this
    /// process: with certificates, TLS and messages of their own, and without storage. No installation is touched, and nothing is left
    /// behind.
    Server(BenchServerArgs),
}

#[derive(Args, Debug)]
pub struct BenchDataArgs {
    /// The volume to read, as SYSTEM/VOLUME. Nothing is written to it.
    pub volume: VolumeAddress,
    /// Send over the network to the `tanist bench sink` of another host; without it the streams go from this host to itself, which
    /// shows what its cores can do and nothing of the network.
    #[arg(long, value_name = "AGENT=HOST:PORT")]
    pub to: Option<SinkPlace>,
    /// Streams at once.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub streams: u8,
    /// Write this volume too. WHAT IT HOLDS IS LOST. It has to be named a second time with --destroy, and no replication may use it:
    /// the server is asked.
    #[arg(long, value_name = "SYSTEM/VOLUME", requires = "destroy")]
    pub write_scratch: Option<VolumeAddress>,
    /// The volume of --write-scratch once more: yes, what it holds may be lost.
    #[arg(long, value_name = "SYSTEM/VOLUME", requires = "write_scratch")]
    pub destroy: Option<VolumeAddress>,
    /// At most so many seconds a stage.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// At most so much a stage.
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = values::size)]
    pub bytes: u64,
    #[command(flatten)]
    pub place: AgentPlace,
}

#[derive(Args, Debug)]
pub struct BenchSinkArgs {
    /// Where to listen: not where the agent does.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7422")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub place: AgentPlace,
}

#[derive(Args, Debug)]
pub struct BenchServerArgs {
    /// How many agents: one measurement for each number, each with a new server.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100,1000,10000")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=MOST_AGENTS))]
    pub agents: Vec<u64>,
    /// How many replications, two agents each. Without it: one for every ten agents.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_AGENTS / 2))]
    pub replications: Option<u64>,
    /// For so long the server is watched with all agents connected and none of them with a role.
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub idle: WaitLimit,
    /// A new directory for the server and its store, removed at the end. Without it: one below the system's temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl BenchDataArgs {
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Where another host listens, and which agent it has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkPlace {
    pub agent: AgentName,
    pub address: String,
}

/// Text that is no such place.
#[derive(Debug, thiserror::Error)]
#[error("it is no AGENT=HOST:PORT, as `tanist bench sink` prints it")]
pub struct SinkPlaceError;

impl std::str::FromStr for SinkPlace {
    type Err = SinkPlaceError;

    fn from_str(text: &str) -> Result<Self, SinkPlaceError> {
        let (agent, address) = text.split_once('=').ok_or(SinkPlaceError)?;
        let agent = AgentName::new(agent).map_err(|_| SinkPlaceError)?;
        Ok(Self { agent, address: values::host_port(address).map_err(|_| SinkPlaceError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_an_agent_at_an_address() {
        let place: SinkPlace = "h2=host-2:7422".parse().unwrap();
        assert_eq!((place.agent.as_str(), place.address.as_str()), ("h2", "host-2:7422"));
        for bad in ["host-2:7422", "h2=host-2", "=host-2:7422", "h 2=host-2:7422"] {
            assert!(bad.parse::<SinkPlace>().is_err(), "{bad}");
        }
    }
}
