//! The peers of this agent, over its restarts: one that starts while it is cut off from the server finds those who could carry it.
//! Only the server's word makes anybody a peer; these are places to knock at, and each has to show its certificate.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tanist_protocol::message::PeerAddress;
use tanist_wire::file::{self, Readers};
use tokio::sync::watch;

use crate::watch::Targets;

const FILE: &str = "peers.json";
/// Two hierarchies of sixteen, with room for long names.
const LONGEST_BYTES: u64 = 64 << 10;
const MOST: usize = 32;

/// What is remembered. Nothing of it is needed: what cannot be read is told and forgotten.
pub(crate) fn remembered(folder: &Path) -> Vec<PeerAddress> {
    let path = folder.join(FILE);
    let peers: Vec<PeerAddress> = match read(&path) {
        Ok(peers) => peers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the peers of an earlier start are not known");
            Vec::new()
        }
    };
    peers.into_iter().take(MOST).collect()
}

fn read(path: &Path) -> io::Result<Vec<PeerAddress>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Remembers every assignment, for as long as there can be one.
pub(crate) async fn remember(folder: PathBuf, mut assigned: watch::Receiver<Targets>) {
    let path = folder.join(FILE);
    let mut last = remembered(&folder);
    while assigned.changed().await.is_ok() {
        let peers = assigned.borrow_and_update().peers.clone();
        if peers == last {
            continue;
        }
        let (path, text) = (path.clone(), serde_json::to_vec(&peers).unwrap_or_default());
        let written = tokio::task::spawn_blocking(move || file::replace(&path, &text, Readers::Owner)).await;
        match written.map_err(|error| error.to_string()).and_then(|result| result.map_err(|error| error.to_string())) {
            Ok(()) => last = peers,
            Err(error) => tracing::warn!(error, "the peers of this agent cannot be remembered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerAddress {
        PeerAddress { agent: name.parse().unwrap(), address: format!("{name}:7421") }
    }

    #[tokio::test]
    async fn what_was_assigned_last_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        assert!(remembered(folder.path()).is_empty());
        let (assign, assigned) = watch::channel(Targets::default());
        assign.send_replace(Targets { peers: vec![peer("h2"), peer("h3")], volumes: Vec::new() });
        let keeping = tokio::spawn(remember(folder.path().to_owned(), assigned));
        drop(assign);
        keeping.await.unwrap();
        assert_eq!(remembered(folder.path()), [peer("h2"), peer("h3")]);
    }

    #[test]
    fn a_file_that_was_tampered_with_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[", "{}", "[{\"agent\":\"../x\",\"address\":\"\"}]"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(remembered(folder.path()).is_empty(), "{text}");
        }
    }
}
