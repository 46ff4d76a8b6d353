//! Doing it again: the recorded inputs to the same machine, and its decisions beside the recorded ones.

use std::io::{self, BufRead};

use serde_json::value::RawValue;
use tanist_model::time::{Now, Timestamp};
use tanist_protocol::agent::AgentMachine;
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::ServerMachine;

use crate::entry::{Before, FORMAT, Header, Read};
use crate::line::{LineError, Lines};
use crate::machine::{Machine, Role};

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{file}: {source}")]
    Line { file: String, source: LineError },
    #[error("{file}, line {line}: not what a recorder writes: {cause}")]
    Meaning { file: String, line: usize, cause: String },
    #[error("{file} is written in format {found}; this program reads format {FORMAT}")]
    Format { file: String, found: u32 },
    #[error(
        "{file} was recorded by version {found}; this program is version {own}, which may decide otherwise, and rightly"
    )]
    Version { file: String, found: String, own: &'static str },
    #[error("{file} is of {found:?}, and those before it are of {first:?}")]
    Mixed { file: String, found: Role, first: Role },
    #[error("there is no segment in it")]
    Empty,
}

/// One recorded input, replayed.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub role: Role,
    pub at: Timestamp,
    /// JSON; `None`: the machine took the store's word in the place of its own.
    pub input: Option<&'a str>,
    /// JSON; `None`: nothing was decided.
    pub output: Option<&'a str>,
}

/// Where something else came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    pub file: String,
    pub line: usize,
    pub at: Timestamp,
    pub input: String,
    pub recorded: String,
    pub replayed: String,
}

/// What a replay found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    pub segments: u64,
    pub inputs: u64,
    pub decisions: u64,
    /// Segments that were found to begin exactly where the replay of the one before had come to.
    pub joined: u64,
    /// Inputs that were not recorded.
    pub lost: u64,
    /// The first, if there is any: what follows it follows from it.
    pub divergence: Option<Divergence>,
}

/// A segment to replay: the name of its file, and its lines.
pub type Source<'a> = (String, Box<dyn BufRead + 'a>);

/// Replays segments in their order, up to the first divergence.
///
/// # Errors
/// [`ReplayError`] if they are damaged, or not of this version.
pub fn replay<'a>(
    segments: impl IntoIterator<Item = io::Result<Source<'a>>>,
    own: &'static str,
    mutations: Mutations,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Replayed, ReplayError> {
    let mut found = Replayed::default();
    let (mut server, mut agent) = (Carried::<ServerMachine>::default(), Carried::<AgentMachine>::default());
    let mut first = None;
    for source in segments {
        let (file, lines) =
            source.map_err(|error| ReplayError::Line { file: "a segment".to_owned(), source: error.into() })?;
        let mut reading = Reading { file, lines: Lines::new(lines) };
        let Some(header) = reading.header(own)? else { continue };
        let first = *first.get_or_insert(header.role);
        if header.role != first {
            return Err(ReplayError::Mixed { file: reading.file, found: header.role, first });
        }
        found.segments += 1;
        if let Before::Gap { lost } = header.before {
            found.lost += lost;
        }
        match header.role {
            Role::Server => server.segment(&header, &mut reading, mutations, watch, &mut found)?,
            Role::Agent => agent.segment(&header, &mut reading, mutations, watch, &mut found)?,
        }
        if found.divergence.is_some() {
            break;
        }
    }
    if found.segments == 0 { Err(ReplayError::Empty) } else { Ok(found) }
}

/// A segment on its way in.
struct Reading<'a> {
    file: String,
    lines: Lines<Box<dyn BufRead + 'a>>,
}

impl Reading<'_> {
    fn next(&mut self) -> Result<Option<&[u8]>, ReplayError> {
        self.lines.next().map_err(|source| ReplayError::Line { file: self.file.clone(), source })
    }

    fn meaning(&self, cause: impl ToString) -> ReplayError {
        ReplayError::Meaning { file: self.file.clone(), line: self.lines.number(), cause: cause.to_string() }
    }

    /// `None` if the process ended before it had written the first line.
    fn header(&mut self, own: &'static str) -> Result<Option<Header>, ReplayError> {
        /// What every format has.
        #[derive(serde::Deserialize)]
        struct Any {
            format: u32,
        }
        let Some(line) = self.next()?.map(<[u8]>::to_vec) else { return Ok(None) };
        let any: Any = serde_json::from_slice(&line).map_err(|error| self.meaning(error))?;
        let file = || self.file.clone();
        if any.format != FORMAT {
            return Err(ReplayError::Format { file: file(), found: any.format });
        }
        let header: Header = serde_json::from_slice(&line).map_err(|error| self.meaning(error))?;
        if header.version != own {
            return Err(ReplayError::Version { file: file(), found: header.version, own });
        }
        Ok(Some(header))
    }
}

/// The machine, from one segment to the next.
struct Carried<M> {
    machine: Option<M>,
    now: Now,
}

impl<M> Default for Carried<M> {
    fn default() -> Self {
        Self { machine: None, now: Now::default() }
    }
}

impl<M: Machine> Carried<M> {
    fn segment(
        &mut self,
        header: &Header,
        reading: &mut Reading<'_>,
        mutations: Mutations,
        watch: &mut dyn FnMut(Step<'_>),
        found: &mut Replayed,
    ) -> Result<(), ReplayError> {
        let Some(opening) = reading.next()?.map(<[u8]>::to_vec) else { return Ok(()) };
        let carried = self.machine.take().filter(|_| header.before == Before::Continues);
        if let Some(carried) = carried {
            let replayed = serde_json::to_vec(&carried).map_err(|error| reading.meaning(error))?;
            if replayed != opening {
                found.divergence = Some(self.parted(reading, &opening, &replayed, header.begun));
                return Ok(());
            }
            found.joined += 1;
        }
        let machine: M = serde_json::from_slice(&opening).map_err(|error| reading.meaning(error))?;
        let mut machine = machine.breaking(mutations);
        loop {
            let number = reading.lines.number() + 1;
            let Some(line) = reading.next()? else { break };
            let outcome = self.line(&mut machine, line, watch, found);
            match outcome {
                Ok(None) => {}
                Ok(Some(divergence)) => {
                    found.divergence = Some(Divergence { file: reading.file.clone(), line: number, ..divergence });
                    return Ok(());
                }
                Err(cause) => return Err(reading.meaning(cause)),
            }
        }
        self.machine = Some(machine);
        Ok(())
    }

    fn line(
        &mut self,
        machine: &mut M,
        line: &[u8],
        watch: &mut dyn FnMut(Step<'_>),
        found: &mut Replayed,
    ) -> Result<Option<Divergence>, String> {
        let in_words = |error: serde_json::Error| error.to_string();
        let read: Read<'_> = serde_json::from_slice(line).map_err(in_words)?;
        let (at, input) = match read {
            Read { reload: Some(state), at: None, input: None, output: None } => {
                let state = serde_json::from_str(state.get()).map_err(in_words)?;
                // A server whose store is another's takes nothing more; the recording ends there too.
                let _ = machine.take_over_state(state);
                watch(Step { role: M::ROLE, at: self.now.wall, input: None, output: None });
                return Ok(None);
            }
            Read { at: Some(at), input: Some(input), reload: None, .. } => (Now::from(at), input),
            _ => return Err("neither an input with its time nor a state".to_owned()),
        };
        self.now = at;
        found.inputs += 1;
        let decided = machine.decide(at, serde_json::from_str(input.get()).map_err(in_words)?);
        found.decisions += decided.decisions().len() as u64;
        let concealed = M::conceal_output(&decided);
        let replayed = (!concealed.is_empty()).then(|| serde_json::to_string(concealed.as_ref()));
        let replayed = replayed.transpose().map_err(in_words)?;
        let recorded = read.output.map(RawValue::get);
        watch(Step { role: M::ROLE, at: at.wall, input: Some(input.get()), output: recorded });
        if replayed.as_deref() == recorded {
            return Ok(None);
        }
        let said = |text: Option<&str>| text.unwrap_or("nothing").to_owned();
        let (recorded, replayed) = (said(recorded), said(replayed.as_deref()));
        let input = input.get().to_owned();
        Ok(Some(Divergence { file: String::new(), line: 0, at: at.wall, input, recorded, replayed }))
    }

    /// The replay of a segment has not come to where the next one begins.
    fn parted(&self, reading: &Reading<'_>, opening: &[u8], replayed: &[u8], at: Timestamp) -> Divergence {
        let differ = opening.iter().zip(replayed).take_while(|(a, b)| a == b).count();
        let around = |bytes: &[u8]| {
            let from = differ.saturating_sub(200);
            String::from_utf8_lossy(bytes.get(from..(differ + 200).min(bytes.len())).unwrap_or_default()).into_owned()
        };
        Divergence {
            file: reading.file.clone(),
            line: reading.lines.number(),
            at,
            input: "the whole machine, written down again".to_owned(),
            recorded: around(opening),
            replayed: around(replayed),
        }
    }
}
