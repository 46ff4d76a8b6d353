//! What a program says: read to its end, however much comes, and kept up to a bound.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::spawn;

/// What was written just before the end is still in the pipe. A process that has left the group holds it open for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// So much of what was said goes into a sentence, characters.
const QUOTED_CHARS: usize = 600;

/// How much is kept, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// All of it, because it is an answer: more is none.
    Whole(usize),
    /// The end: errors stand last.
    Last(usize),
}

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    flooded: bool,
}

/// One pipe that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    kept: Arc<Mutex<Kept>>,
    drained: Receiver<()>,
}

impl Reading {
    /// `flooded` is called once, when a whole becomes too large.
    pub(super) fn start(
        pipe: Option<impl Read + Send + 'static>,
        keep: Keep,
        flooded: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (end, drained) = channel();
        let kept = Arc::default();
        if let Some(pipe) = pipe {
            let theirs = Arc::clone(&kept);
            spawn("script-output", move || read(pipe, keep, &theirs, flooded, &end));
        }
        Self { kept, drained }
    }

    /// Waits a moment for the end of the pipe.
    pub(super) fn said(&self) -> Vec<u8> {
        // After the end, and after the one who would tell of it, there is nothing to wait for.
        let _ = self.drained.recv_timeout(DRAIN);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).flooded
    }
}

fn read(mut pipe: impl Read, keep: Keep, kept: &Mutex<Kept>, flooded: impl FnOnce(), end: &Sender<()>) {
    let mut flooded = Some(flooded);
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut chunk) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match keep {
            Keep::Last(most) => {
                kept.bytes.extend_from_slice(&chunk[..length]);
                let surplus = kept.bytes.len().saturating_sub(most);
                kept.bytes.drain(..surplus);
            }
            Keep::Whole(most) if kept.bytes.len() + length <= most => kept.bytes.extend_from_slice(&chunk[..length]),
            Keep::Whole(_) => {
                kept.flooded = true;
                drop(kept);
                flooded.take().into_iter().for_each(|tell| tell());
            }
        }
    }
    let _ = end.send(());
}

/// The last of a text on one line, without control characters, after a colon; empty if there is none.
pub(super) fn quote(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String = lines.join(" / ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let skip = line.chars().count().saturating_sub(QUOTED_CHARS);
    let last: String = line.chars().skip(skip).collect();
    match (last.is_empty(), skip) {
        (true, _) => String::new(),
        (false, 0) => format!(": {last}"),
        (false, _) => format!(": ...{last}"),
    }
}
