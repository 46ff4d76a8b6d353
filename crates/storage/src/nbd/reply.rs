//! The replies of the transmission phase: one request's reply put together from the pieces in which a server sends it.
//!
//! Without a socket, so that every malformed reply there can be is tried without one. Laid out by the NBD protocol document, "Simple
//! reply message", "Structured reply chunk message" and "Structured reply types". A piece that breaks a rule ends the connection: what
//! follows it could not be told from it.

use std::collections::BTreeMap;
use std::io::Read;

use super::error::{NbdError, in_words};
use super::fields::Fields;
use super::request::{Command, Request};

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;

/// The first bytes of any reply: its kind.
pub(super) const MAGIC_LEN: usize = 4;
const SIMPLE_REST: usize = 12;
const STRUCTURED_REST: usize = 16;

/// The longest piece that is neither data nor the status of blocks, bytes: an error with the longest message there may be.
const ERROR_LIMIT: u32 = 4096 + 32;
/// As many stretches as a server should send at once, with their context ("Structured reply types").
const STATUS_LIMIT: u32 = 4 + 8 * (1 << 20);
/// Pieces without content in one reply; each of the others brings at least a byte of what was asked for.
const EMPTY_LIMIT: u32 = 64;

/// Where a reply begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Head {
    Simple { error: u32, cookie: u64 },
    Chunk(Chunk),
}

/// The header of a piece of a structured reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) flags: u16,
    pub(super) kind: u16,
    pub(super) cookie: u64,
    pub(super) length: u32,
}

const FLAG_DONE: u16 = 1;
const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const ERROR: u16 = 1 << 15;
const ERROR_OFFSET: u16 = ERROR + 2;

impl Head {
    /// How many bytes follow the magic number.
    ///
    /// # Errors
    /// [`NbdError::Malformed`] if it begins no reply.
    pub(super) fn rest_len(magic: [u8; MAGIC_LEN]) -> Result<usize, NbdError> {
        match u32::from_be_bytes(magic) {
            SIMPLE_MAGIC => Ok(SIMPLE_REST),
            STRUCTURED_MAGIC => Ok(STRUCTURED_REST),
            other => Err(NbdError::malformed(format!("a reply begins with {other:#x}"))),
        }
    }

    pub(super) fn read(from: &mut impl Read) -> Result<Self, NbdError> {
        let mut magic = [0; MAGIC_LEN];
        fill(from, &mut magic)?;
        let mut rest = [0; STRUCTURED_REST];
        let rest = rest.split_at_mut(Self::rest_len(magic)?).0;
        fill(from, rest)?;
        let mut fields = Fields::new(rest);
        if rest.len() == SIMPLE_REST {
            return Ok(Self::Simple { error: fields.u32()?, cookie: fields.u64()? });
        }
        let (flags, kind, cookie, length) = (fields.u16()?, fields.u16()?, fields.u64()?, fields.u32()?);
        Ok(Self::Chunk(Chunk { flags, kind, cookie, length }))
    }

    pub(super) fn cookie(&self) -> u64 {
        match self {
            Self::Simple { cookie, .. } | Self::Chunk(Chunk { cookie, .. }) => *cookie,
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), NbdError> {
    from.read_exact(buffer).map_err(|error| NbdError::of_socket(&error))
}

/// What a request brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Outcome {
    /// Of a read: all of what was asked for.
    pub(super) data: Vec<u8>,
    /// Of a question for the status of blocks: by the number of the context, stretches from the offset on.
    pub(super) status: BTreeMap<u32, Vec<Stretch>>,
}

/// A stretch with the flags that its context gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) length: u32,
    pub(super) flags: u32,
}

/// The reply to one request, as far as it has come.
#[derive(Debug)]
pub(super) struct Assembly {
    request: Request,
    /// Structured replies were agreed on.
    structured: bool,
    /// The numbers of the contexts that were agreed on.
    contexts: Vec<u32>,
    outcome: Outcome,
    /// Of a read, what has come: where each stretch begins and ends, in bytes of the export. None touch.
    covered: BTreeMap<u64, u64>,
    failed: Option<NbdError>,
    empty_chunks: u32,
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    More,
    Done,
}

impl Assembly {
    pub(super) fn new(request: Request, structured: bool, contexts: Vec<u32>) -> Self {
        let length = if request.command == Command::Read { request.length } else { 0 };
        let data = vec![0; usize::try_from(length).unwrap_or(0)];
        let outcome = Outcome { data, status: BTreeMap::new() };
        Self { request, structured, contexts, outcome, covered: BTreeMap::new(), failed: None, empty_chunks: 0 }
    }

    /// What became of it, once it is done.
    pub(super) fn finish(self) -> Result<Outcome, NbdError> {
        self.failed.map_or(Ok(self.outcome), Err)
    }

    /// Takes a piece; its payload is read from `from`, and no byte more.
    ///
    /// # Errors
    /// [`NbdError::Malformed`], or that the connection ended: nothing more can be read of it.
    pub(super) fn take(&mut self, head: &Head, from: &mut impl Read) -> Result<Progress, NbdError> {
        match head {
            Head::Simple { error, .. } => self.take_simple(*error, from),
            Head::Chunk(_) if !self.structured => {
                Err(NbdError::malformed("a structured reply came, and none was agreed on"))
            }
            Head::Chunk(chunk) => self.take_chunk(*chunk, from),
        }
    }

    fn take_simple(&mut self, error: u32, from: &mut impl Read) -> Result<Progress, NbdError> {
        let reads = self.request.command == Command::Read;
        if self.structured && reads || self.request.command == Command::BlockStatus && error == 0 || self.has_begun() {
            return Err(NbdError::malformed("a simple reply came where a structured one has to"));
        }
        if error != 0 {
            self.fail(error, "");
        } else if reads {
            fill(from, &mut self.outcome.data)?;
        }
        Ok(Progress::Done)
    }

    fn has_begun(&self) -> bool {
        !self.covered.is_empty() || self.failed.is_some() || !self.outcome.status.is_empty() || self.empty_chunks > 0
    }

    fn fail(&mut self, code: u32, said: &str) {
        let why = in_words(code, said);
        let failed = || NbdError::Server { what: self.request.in_words(), code, why };
        self.failed = Some(self.failed.take().unwrap_or_else(failed));
    }

    fn take_chunk(&mut self, chunk: Chunk, from: &mut impl Read) -> Result<Progress, NbdError> {
        match (chunk.kind, self.request.command) {
            (NONE, _) if chunk.length == 0 && chunk.is_last() => {}
            (OFFSET_DATA, Command::Read) => self.take_data(chunk.length, from)?,
            (OFFSET_HOLE, Command::Read) => self.take_hole(chunk.length, from)?,
            (BLOCK_STATUS, Command::BlockStatus) => self.take_status(chunk.length, from)?,
            (error, _) if error & ERROR != 0 => self.take_error(chunk, from)?,
            (kind, _) => {
                let (length, what) = (chunk.length, self.request.in_words());
                return Err(NbdError::malformed(format!("a piece of kind {kind} with {length} bytes answers {what}")));
            }
        }
        if !chunk.is_last() {
            return Ok(Progress::More);
        }
        self.check_whole()?;
        Ok(Progress::Done)
    }

    fn take_data(&mut self, length: u32, from: &mut impl Read) -> Result<(), NbdError> {
        let Some(data_len) = length.checked_sub(8).filter(|length| *length > 0) else {
            return Err(NbdError::malformed("a piece of data is empty"));
        };
        let mut offset = [0; 8];
        fill(from, &mut offset)?;
        let place = self.cover(u64::from_be_bytes(offset), data_len)?;
        fill(from, self.outcome.data.get_mut(place).unwrap_or_default())
    }

    fn take_hole(&mut self, length: u32, from: &mut impl Read) -> Result<(), NbdError> {
        if length != 12 {
            return Err(NbdError::malformed(format!("a hole is described in {length} bytes")));
        }
        let mut payload = [0; 12];
        fill(from, &mut payload)?;
        let mut fields = Fields::new(&payload);
        let (offset, hole_len) = (fields.u64()?, fields.u32()?);
        let place = self.cover(offset, hole_len)?;
        self.outcome.data.get_mut(place).unwrap_or_default().fill(0);
        Ok(())
    }

    /// Notes that a stretch has come, and says where in the buffer it lies.
    fn cover(&mut self, offset: u64, length: u32) -> Result<std::ops::Range<usize>, NbdError> {
        let outside = || NbdError::malformed(format!("{length} bytes at {offset} were not asked for, or come twice"));
        let (begin, asked_end) = (self.request.offset, self.request.offset + u64::from(self.request.length));
        let end = offset.checked_add(u64::from(length)).filter(|end| *end <= asked_end).ok_or_else(outside)?;
        let before = self.covered.range(..end).next_back().map(|(from, to)| (*from, *to));
        if length == 0 || offset < begin || before.is_some_and(|(_, to)| to > offset) {
            return Err(outside());
        }
        self.note_covered(offset, end, before);
        let place = |at: u64| usize::try_from(at - begin).map_err(|_| outside());
        Ok(place(offset)?..place(end)?)
    }

    /// Neighbours become one, so that a read that comes in order is one stretch however small its pieces are.
    fn note_covered(&mut self, offset: u64, mut end: u64, before: Option<(u64, u64)>) {
        if let Some(next_end) = self.covered.remove(&end) {
            end = next_end;
        }
        let from = before.filter(|(_, to)| *to == offset).map_or(offset, |(from, _)| from);
        self.covered.insert(from, end);
    }

    fn take_status(&mut self, length: u32, from: &mut impl Read) -> Result<(), NbdError> {
        let payload = payload(length, STATUS_LIMIT, from)?;
        let mut fields = Fields::new(&payload);
        let context = fields.u32()?;
        let (stretches, rest) = fields.rest().as_chunks::<8>();
        let is_known = self.contexts.contains(&context) && !self.outcome.status.contains_key(&context);
        if !rest.is_empty() || stretches.is_empty() || !is_known {
            return Err(NbdError::malformed(format!("a status of blocks in {length} bytes about context {context}")));
        }
        let stretches = stretches.iter().map(stretch).collect::<Result<Vec<_>, _>>()?;
        self.outcome.status.insert(context, stretches);
        Ok(())
    }

    /// An error of any kind begins alike; what is not known of it is read over.
    fn take_error(&mut self, chunk: Chunk, from: &mut impl Read) -> Result<(), NbdError> {
        self.empty_chunks += 1;
        if self.empty_chunks > EMPTY_LIMIT {
            return Err(NbdError::malformed("a reply does not end"));
        }
        let payload = payload(chunk.length, ERROR_LIMIT, from)?;
        let mut fields = Fields::new(&payload);
        let (code, message_len) = (fields.u32()?, fields.u16()?);
        let message = fields.bytes(usize::from(message_len))?;
        if chunk.kind == ERROR_OFFSET {
            self.check_error_offset(fields.u64()?)?;
        }
        if code == 0 {
            return Err(NbdError::malformed("an error without a number"));
        }
        self.fail(code, &String::from_utf8_lossy(message));
        Ok(())
    }

    fn check_error_offset(&self, offset: u64) -> Result<(), NbdError> {
        let asked = self.request.offset..=self.request.offset + u64::from(self.request.length);
        if asked.contains(&offset) {
            Ok(())
        } else {
            Err(NbdError::malformed(format!("an error at {offset}, where nothing was asked for")))
        }
    }

    /// A reply that ends without an error has brought everything.
    fn check_whole(&self) -> Result<(), NbdError> {
        let begin = self.request.offset;
        let whole = match self.request.command {
            _ if self.failed.is_some() => true,
            Command::Read => self.covered.get(&begin) == Some(&(begin + u64::from(self.request.length))),
            Command::BlockStatus => self.outcome.status.len() == self.contexts.len(),
            _ => true,
        };
        if whole {
            Ok(())
        } else {
            Err(NbdError::malformed(format!("the answer to {} leaves something out", self.request.in_words())))
        }
    }
}

impl Chunk {
    fn is_last(self) -> bool {
        self.flags & FLAG_DONE != 0
    }
}

fn payload(length: u32, limit: u32, from: &mut impl Read) -> Result<Vec<u8>, NbdError> {
    if length > limit {
        return Err(NbdError::malformed(format!("a piece of a reply has {length} bytes")));
    }
    let mut bytes = Vec::new();
    let wanted = u64::from(length);
    // Room is made for what comes, not for what was announced.
    let got = from.take(wanted).read_to_end(&mut bytes).map_err(|error| NbdError::of_socket(&error))?;
    if got as u64 == wanted { Ok(bytes) } else { Err(NbdError::of_socket(&std::io::ErrorKind::UnexpectedEof.into())) }
}

fn stretch(bytes: &[u8; 8]) -> Result<Stretch, NbdError> {
    let mut fields = Fields::new(bytes);
    let stretch = Stretch { length: fields.u32()?, flags: fields.u32()? };
    if stretch.length == 0 { Err(NbdError::malformed("a stretch of no bytes has a status")) } else { Ok(stretch) }
}
