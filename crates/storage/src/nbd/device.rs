//! An export as a block device: any range is read, whole blocks of the server are written, zeros without carrying them where it can.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tanist_datapath::io::{check_range, check_whole_sectors};
use tanist_datapath::{BlockDevice, Extent, ExtentKind};

use super::client::Client;
use super::error::{NbdError, code};
use super::handshake::ALLOCATION;
use super::options::BlockSizes;
use super::reply::Stretch;
use super::request::{Abilities, Command, Request};

/// The longest request that carries data, bytes: what is read is held once more while it is in flight.
const DATA_LIMIT: u32 = 1 << 20;
/// The longest request that carries none, bytes: a server's time for it is limited too.
const ZERO_LIMIT: u32 = 32 << 20;
/// What a server is asked about at once, bytes, so that its answer is short whatever the export looks like.
const STATUS_LIMIT: u32 = 1 << 30;
/// For how long an answer about holes is believed: somebody else may write into one.
const STATUS_LIFE: Duration = Duration::from_secs(1);

/// Reads as zeros ("`base:allocation` metadata context"). That nothing is allocated says nothing of what is read there.
const STATE_ZERO: u32 = 2;

/// An open export.
#[derive(Debug)]
pub(super) struct NbdDevice {
    client: Client,
    size_bytes: u64,
    blocks: BlockSizes,
    abilities: Abilities,
    /// What was heard of holes last.
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    begin: u64,
    stretches: Vec<Stretch>,
    until: Instant,
}

impl NbdDevice {
    /// # Errors
    /// [`NbdError::Malformed`] if nothing could be read of an export of this size in blocks of this size.
    pub(super) fn new(client: Client) -> Result<Self, NbdError> {
        let opened = client.opened();
        let (size_bytes, blocks, abilities) = (opened.size_bytes, opened.blocks, opened.abilities);
        if i64::try_from(size_bytes).is_err() {
            return Err(NbdError::malformed(format!("an export of {size_bytes} bytes cannot be")));
        }
        if !size_bytes.is_multiple_of(u64::from(blocks.minimum)) {
            let minimum = blocks.minimum;
            return Err(NbdError::malformed(format!(
                "{size_bytes} bytes in blocks of {minimum}: the last cannot be reached"
            )));
        }
        Ok(Self { client, size_bytes, blocks, abilities, known: Mutex::default() })
    }

    pub(super) fn abilities(&self) -> Abilities {
        self.abilities
    }

    pub(super) fn blocks(&self) -> BlockSizes {
        self.blocks
    }

    /// Why it cannot be a target, whatever the operator says.
    pub(super) fn unfit_as_target(&self) -> Option<String> {
        if !self.abilities.flush() && !self.abilities.fua() {
            return Some(
                "its server offers neither flush nor FUA, so nothing written there is known to be durable".to_owned(),
            );
        }
        let minimum = self.blocks.minimum;
        (minimum > 4096)
            .then(|| format!("it is written in blocks of {minimum} bytes; 4096 are the most that can be used"))
    }

    /// The longest piece with data: whole blocks, and no longer than the server takes.
    fn data_limit(&self) -> u64 {
        let most = u64::from(self.blocks.maximum.min(DATA_LIMIT));
        let minimum = u64::from(self.blocks.minimum);
        (most - most % minimum).max(minimum)
    }

    /// Where writes are durable when they are answered because there is nothing else.
    fn needs_fua(&self) -> bool {
        !self.abilities.flush()
    }

    fn read_blocks(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let step = usize::try_from(self.data_limit()).unwrap_or(usize::MAX);
        let mut tickets = Vec::new();
        for (n, piece) in buffer.chunks(step).enumerate() {
            let at = offset + (n * step) as u64;
            tickets.push(self.client.submit(request(Command::Read, at, piece.len() as u64), &[])?);
        }
        for (ticket, piece) in tickets.into_iter().zip(buffer.chunks_mut(step)) {
            piece.copy_from_slice(&ticket.wait()?.data);
        }
        Ok(())
    }

    /// A range that is no whole blocks, through one that is.
    fn read_around(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let minimum = u64::from(self.blocks.minimum);
        let (begin, end) = (offset - offset % minimum, (offset + buffer.len() as u64).next_multiple_of(minimum));
        let mut whole = vec![0; usize::try_from(end - begin).map_err(io::Error::other)?];
        self.read_blocks(begin, &mut whole)?;
        let from = usize::try_from(offset - begin).map_err(io::Error::other)?;
        buffer.copy_from_slice(&whole[from..from + buffer.len()]);
        Ok(())
    }

    fn check_write(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes, offset, length)?;
        check_whole_sectors(self.sector_bytes(), offset, length)?;
        self.forget_holes();
        Ok(())
    }

    fn forget_holes(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write_pieces(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let step = usize::try_from(self.data_limit()).unwrap_or(usize::MAX);
        let command = Command::Write { fua: self.needs_fua() };
        let mut tickets = Vec::new();
        let mut failed = None;
        for (n, piece) in bytes.chunks(step).enumerate() {
            let at = offset + (n * step) as u64;
            match self.client.submit(request(command, at, piece.len() as u64), piece) {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Every answer is waited for, also after a failure: what is in flight is not left behind.
        for answer in tickets.into_iter().map(|ticket| ticket.wait()) {
            failed = failed.or(answer.err());
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// By the server's own way to zeros; `false` if it has none for this.
    fn zero_by_command(&self, offset: u64, length: u64) -> Result<bool, NbdError> {
        if !self.abilities.write_zeroes() {
            return Ok(false);
        }
        let minimum = self.blocks.minimum;
        let step = u64::from(ZERO_LIMIT - ZERO_LIMIT % minimum);
        let command = Command::WriteZeroes { fua: self.needs_fua() };
        let mut at = offset;
        while at < offset + length {
            let piece = step.min(offset + length - at);
            match self.client.run(request(command, at, piece), &[]) {
                Ok(_) => at += piece,
                Err(NbdError::Server { code: code::INVALID | code::NOT_SUPPORTED | code::OVERFLOW, .. }) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn zero_by_writing(&self, offset: u64, length: u64) -> io::Result<()> {
        let step = self.data_limit();
        let zeros = vec![0; usize::try_from(step.min(length)).map_err(io::Error::other)?];
        let mut at = offset;
        while at < offset + length {
            let piece = step.min(offset + length - at);
            self.write_pieces(at, zeros.split_at(usize::try_from(piece).unwrap_or(zeros.len())).0)?;
            at += piece;
        }
        Ok(())
    }

    fn has_status(&self) -> bool {
        self.client.opened().contexts.iter().any(|context| context.name == ALLOCATION)
    }

    fn ask_status(&self, offset: u64) -> io::Result<Known> {
        let minimum = u64::from(self.blocks.minimum);
        let begin = offset - offset % minimum;
        let most = u64::from(STATUS_LIMIT);
        let asked = request(Command::BlockStatus, begin, most.min(self.size_bytes - begin));
        let stretches = self.client.status(asked, ALLOCATION)?;
        Ok(Known { begin, stretches, until: Instant::now() + STATUS_LIFE })
    }
}

impl Known {
    /// The stretch around an offset with its neighbours of the same kind; `None` if it is not known.
    fn extent_at(&self, offset: u64, size_bytes: u64) -> Option<Extent> {
        let mut begin = self.begin;
        let mut found: Option<Extent> = None;
        for stretch in &self.stretches {
            let end = begin.saturating_add(u64::from(stretch.length)).min(size_bytes);
            let kind = if stretch.flags & STATE_ZERO == 0 { ExtentKind::Data } else { ExtentKind::Hole };
            match &mut found {
                None if (begin..end).contains(&offset) => found = Some(Extent { kind, end }),
                Some(extent) if extent.kind == kind => extent.end = end,
                Some(_) => break,
                None => {}
            }
            begin = end;
        }
        found
    }
}

/// No longer than 32 bits can say: the callers see to that.
fn request(command: Command, offset: u64, length: u64) -> Request {
    Request { command, offset, length: u32::try_from(length).unwrap_or(u32::MAX) }
}

impl BlockDevice for NbdDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> u64 {
        u64::from(self.blocks.minimum)
    }

    /// No page cache of this host is in between; what the server's is, only its operator knows.
    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len() as u64;
        check_range(self.size_bytes, offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let minimum = u64::from(self.blocks.minimum);
        let whole = offset.is_multiple_of(minimum) && length.is_multiple_of(minimum);
        if whole { self.read_blocks(offset, buffer) } else { self.read_around(offset, buffer) }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_write(offset, bytes.len() as u64)?;
        let written = self.write_pieces(offset, bytes);
        self.forget_holes();
        written
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length)?;
        let zeroed = match self.zero_by_command(offset, length) {
            Ok(false) => self.zero_by_writing(offset, length),
            by_command => by_command.map(drop).map_err(io::Error::from),
        };
        self.forget_holes();
        zeroed
    }

    fn flush(&self) -> io::Result<()> {
        Ok(self.client.flush()?)
    }

    fn unresolved(&self) -> Option<String> {
        self.client.unresolved()
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        if offset >= self.size_bytes || !self.has_status() {
            return Ok(Extent { kind: ExtentKind::Data, end: self.size_bytes });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.as_ref().filter(|known| Instant::now() < known.until);
        if let Some(extent) = fresh.and_then(|known| known.extent_at(offset, self.size_bytes)) {
            return Ok(extent);
        }
        let heard = self.ask_status(offset)?;
        let extent = heard.extent_at(offset, self.size_bytes);
        // An answer that ends before what was asked about says nothing of it.
        let unknown = Extent { kind: ExtentKind::Data, end: (heard.begin + self.sector_bytes()).min(self.size_bytes) };
        *known = Some(heard);
        Ok(extent.unwrap_or(unknown))
    }
}
