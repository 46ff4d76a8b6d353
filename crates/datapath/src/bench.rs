//! What a device, a core or a link can do by itself: the parts that runs are made of, one at a time and with nothing beside it. Bounded by
//! time and by bytes.

use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use tanist_model::id::{Epoch, Epochs, RunId};
use tanist_model::stage::Stage;

use crate::arrival::Cut;
use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest, is_zero};
use crate::frame::{FrameKey, FrameNumber, Kind, StreamGeneration};
use crate::framed::{FrameReader, FrameWriter};
use crate::io::ordered::OrderedReads;
use crate::io::queue::{Direction, IoQueue, Request};
use crate::io::{BlockDevice, ExtentKind};
use crate::link::{Link, LinkError};
use crate::pool::{Pool, PooledBuffer};
use crate::stages;
use crate::transfer::POOL_BUFFERS;

/// Blocks of a volume that are kept to be encoded, sent and written.
const SAMPLE_BLOCKS: usize = 16;

/// How long a measurement may take and how much it may move, whichever comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub bytes: u64,
}

/// What was moved, and in which time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    pub bytes: u64,
    pub took: Duration,
}

impl Measured {
    /// `None` if there was nothing to move.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<u64> {
        let nanoseconds = self.took.as_nanos();
        let rate = (u128::from(self.bytes) * 1_000_000_000).checked_div(nanoseconds)?;
        u64::try_from(rate).ok().filter(|rate| *rate > 0)
    }
}

/// Whole blocks of data, as a volume holds them.
#[derive(Clone, Debug)]
pub struct Sample(Vec<Vec<u8>>);

impl Sample {
    /// Of a volume that holds no whole block of data: bytes that are no zeros, and no two blocks of them alike.
    fn made() -> Self {
        let block =
            |number: usize| (0..BLOCK_LEN).map(|at| (at.wrapping_mul(2 * number + 31) >> 7) as u8 | 1).collect();
        Self((0..SAMPLE_BLOCKS).map(block).collect())
    }

    fn block(&self, number: u64) -> &[u8] {
        let at = number % self.0.len().max(1) as u64;
        usize::try_from(at).ok().and_then(|at| self.0.get(at)).map_or(&[], Vec::as_slice)
    }
}

/// A measurement in progress.
struct Race {
    begun: Instant,
    bounds: Bounds,
    bytes: u64,
}

impl Race {
    fn start(bounds: Bounds) -> Self {
        Self { begun: Instant::now(), bounds, bytes: 0 }
    }

    fn goes_on(&self) -> bool {
        self.bytes < self.bounds.bytes && self.begun.elapsed() < self.bounds.time
    }

    fn end(&self) -> Measured {
        Measured { bytes: self.bytes, took: self.begun.elapsed() }
    }
}

/// Reads a device from its beginning, as a run does: a few requests in flight, holes not at all. With a sample of what it holds.
///
/// # Errors
/// The device's.
pub fn read(device: &dyn BlockDevice, bounds: Bounds) -> io::Result<(Measured, Sample)> {
    let (pool, mut reads) = (Pool::new(POOL_BUFFERS, BLOCK_LEN), OrderedReads::new(device));
    let (mut blocks, mut lengths) = (DataBlocks::of(device), VecDeque::new());
    let (mut race, mut sample) = (Race::start(bounds), Vec::new());
    loop {
        while reads.has_room()
            && race.goes_on()
            && let Some((offset, length)) = blocks.next()?
            && let Some(buffer) = pool.take()
        {
            reads.begin(offset, length, None, buffer)?;
            race.bytes += length as u64;
            lengths.push_back(length);
        }
        let Some(buffer) = reads.next()? else { break };
        let whole = lengths.pop_front() == Some(BLOCK_LEN);
        if whole && sample.len() < SAMPLE_BLOCKS && !is_zero(&buffer) {
            sample.push(buffer.to_vec());
        }
    }
    let sample = if sample.is_empty() { Sample::made() } else { Sample(sample) };
    Ok((race.end(), sample))
}

/// The blocks of a device that are no holes.
struct DataBlocks<'a> {
    device: &'a dyn BlockDevice,
    position: u64,
    data_end: u64,
}

impl<'a> DataBlocks<'a> {
    fn of(device: &'a dyn BlockDevice) -> Self {
        Self { device, position: 0, data_end: 0 }
    }

    fn next(&mut self) -> io::Result<Option<(u64, usize)>> {
        let size_bytes = self.device.size_bytes();
        while self.position < size_bytes && self.position >= self.data_end {
            let extent = self.device.extent_at(self.position)?;
            let whole_end = if extent.end >= size_bytes { size_bytes } else { extent.end - extent.end % BLOCK_BYTES };
            match extent.kind {
                ExtentKind::Hole if whole_end > self.position => self.position = whole_end,
                ExtentKind::Hole | ExtentKind::Data => self.data_end = extent.end.max(self.position + 1),
            }
        }
        if self.position >= size_bytes {
            return Ok(None);
        }
        let (offset, length) = (self.position, BLOCK_BYTES.min(size_bytes - self.position));
        self.position += length;
        Ok(Some((offset, usize::try_from(length).unwrap_or(BLOCK_LEN))))
    }
}

/// Looks for zeros and makes digests, on one core as in a run.
#[must_use]
pub fn encode(sample: &Sample, bounds: Bounds) -> Measured {
    let mut race = Race::start(bounds);
    let mut number = 0;
    while race.goes_on() {
        let block = sample.block(number);
        // The compiler is not to see that nobody uses it.
        std::hint::black_box((is_zero(block), BlockDigest::of(block)));
        race.bytes += BLOCK_BYTES;
        number += 1;
    }
    race.end()
}

/// Writes a device from its beginning and flushes it, which is part of the time. **What it held is lost.**
///
/// # Errors
/// The device's.
pub fn overwrite(device: &dyn BlockDevice, sample: &Sample, bounds: Bounds) -> io::Result<Measured> {
    let mut writes = device.queue();
    let mut free = filled(sample, writes.depth());
    let mut race = Race::start(bounds);
    let mut offset = 0;
    while race.goes_on() && offset + BLOCK_BYTES <= device.size_bytes() {
        let buffer = match free.pop() {
            Some(buffer) => buffer,
            None => match finish_one(&mut *writes)? {
                Some(buffer) => buffer,
                None => break,
            },
        };
        writes.begin(Request { direction: Direction::Write, offset, length: BLOCK_LEN, pages: None, buffer })?;
        (offset, race.bytes) = (offset + BLOCK_BYTES, race.bytes + BLOCK_BYTES);
    }
    while finish_one(&mut *writes)?.is_some() {}
    device.flush()?;
    Ok(race.end())
}

fn filled(sample: &Sample, count: usize) -> Vec<PooledBuffer> {
    let pool = Pool::new(count, BLOCK_LEN);
    let mut buffers: Vec<_> = (0..count).filter_map(|_| pool.take()).collect();
    buffers.iter_mut().zip(0..).for_each(|(buffer, number)| buffer.copy_from_slice(sample.block(number)));
    buffers
}

fn finish_one(writes: &mut (dyn IoQueue + '_)) -> io::Result<Option<PooledBuffer>> {
    let Some(over) = writes.next()? else { return Ok(None) };
    over.result.map(|()| Some(over.request.buffer))
}

/// Nothing that a gate knows.
const KEY: FrameKey =
    FrameKey { run: RunId(0), epochs: Epochs { source: Epoch(0), target: Epoch(0) }, generation: StreamGeneration(0) };

/// Sends frames of blocks over links whose other ends are with [`receive`], one thread a link, until those ends have all.
///
/// # Errors
/// [`LinkError`].
pub fn send(links: Vec<Link>, sample: &Sample, bounds: Bounds) -> Result<Measured, LinkError> {
    let begun = Instant::now();
    let share = Bounds { bytes: bounds.bytes / links.len().max(1) as u64, ..bounds };
    let sent = thread::scope(|scope| {
        let start =
            |(stream, link)| stages::spawn_in(scope, Stage::Network, move || send_one(stream, link, sample, share));
        let running: Vec<_> = (0..).zip(links).map(start).collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.sum::<Result<u64, LinkError>>()
    })?;
    Ok(Measured { bytes: sent, took: begun.elapsed() })
}

fn send_one(stream: u16, link: Link, sample: &Sample, bounds: Bounds) -> Result<u64, LinkError> {
    let Link { reader, writer, shutdown } = link;
    let _cut = Cut::new(shutdown);
    let (mut writer, mut reader) = (FrameWriter { stream, inner: writer }, FrameReader::new(stream, reader));
    let digest = BlockDigest::of_zeros(BLOCK_BYTES);
    let mut race = Race::start(bounds);
    let mut number = 0;
    while race.goes_on() {
        let kind = Kind::Data { number: FrameNumber(number), offset: race.bytes, digest };
        writer.say(KEY, kind, sample.block(number))?;
        (number, race.bytes) = (number + 1, race.bytes + BLOCK_BYTES);
    }
    writer.say(KEY, Kind::End { number: FrameNumber(number), offset: race.bytes }, &[])?;
    match reader.next_small()?.header.kind {
        Kind::Durable { seq } if seq == race.bytes => Ok(seq),
        kind => Err(LinkError::Unexpected { kind: kind.code() }),
    }
}

/// Takes what [`send`] sends over one link, checks it and drops it; how many bytes it was. Stores nothing.
///
/// # Errors
/// [`LinkError`].
pub fn receive(link: Link) -> Result<u64, LinkError> {
    let Link { reader, writer, shutdown } = link;
    let _cut = Cut::new(shutdown);
    let (mut writer, mut reader) = (FrameWriter { stream: 0, inner: writer }, FrameReader::new(0, reader));
    let pool = Pool::new(1, BLOCK_LEN);
    let mut seq = 0;
    loop {
        let Some(frame) = reader.next(|| pool.take())? else { return Ok(seq) };
        match frame.header.kind {
            Kind::Data { .. } => seq += frame.header.volume_bytes(),
            Kind::End { .. } => break,
            kind => return Err(LinkError::Unexpected { kind: kind.code() }),
        }
    }
    writer.say(KEY, Kind::Durable { seq }, &[])?;
    // The other side cuts the link when it has heard that.
    let _ = reader.next_small();
    Ok(seq)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;
    use crate::io::memory::MemoryDevice;

    const ALL: Bounds = Bounds { time: Duration::from_secs(60), bytes: 1 << 30 };

    fn device(blocks: u64, data: &[u64]) -> MemoryDevice {
        let device = MemoryDevice::new(blocks * BLOCK_BYTES + 100);
        data.iter().for_each(|block| device.write_at(block * BLOCK_BYTES, &vec![*block as u8; BLOCK_LEN]).unwrap());
        device
    }

    #[test]
    fn what_holds_data_is_read_and_nothing_else() {
        let (measured, sample) = read(&device(100, &[1, 2, 70]), ALL).unwrap();
        assert_eq!(measured.bytes, 3 * BLOCK_BYTES);
        assert_eq!(sample.0.iter().map(|block| block[0]).collect::<Vec<_>>(), [1, 2, 70]);
        let (nothing, made) = read(&device(100, &[]), ALL).unwrap();
        assert_eq!((nothing.bytes, nothing.bytes_per_second()), (0, None));
        assert!(!is_zero(made.block(3)) && made.block(3) != made.block(4));
    }

    #[test]
    fn bounds_are_kept() {
        let few = Bounds { bytes: 2 * BLOCK_BYTES, ..ALL };
        let source = device(9, &[0, 1, 2, 3, 4, 5]);
        let (measured, sample) = read(&source, few).unwrap();
        assert_eq!(measured.bytes, few.bytes);
        assert_eq!(encode(&sample, few).bytes, few.bytes);
        let target = device(9, &[]);
        assert_eq!(overwrite(&target, &sample, few).unwrap().bytes, few.bytes);
        let at_once = Bounds { time: Duration::ZERO, ..ALL };
        assert_eq!(read(&source, at_once).unwrap().0.bytes, 0);
        assert_eq!(encode(&sample, at_once).bytes, 0);
    }

    #[test]
    fn only_whole_blocks_of_a_scratch_volume_are_written() {
        let target = device(3, &[]);
        assert_eq!(overwrite(&target, &Sample::made(), ALL).unwrap().bytes, 3 * BLOCK_BYTES);
        let mut tail = [1; 100];
        target.read_at(3 * BLOCK_BYTES, &mut tail).unwrap();
        assert_eq!(tail, [0; 100]);
    }

    fn link(stream: UnixStream) -> Link {
        let (reader, writer) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let shutdown = move || drop(stream.shutdown(std::net::Shutdown::Both));
        Link { reader: Box::new(reader), writer: Box::new(writer), shutdown: Arc::new(shutdown) }
    }

    #[test]
    fn what_is_sent_over_all_links_has_come() {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..2).map(|_| UnixStream::pair().unwrap()).unzip();
        let sinks: Vec<_> = theirs.into_iter().map(|end| thread::spawn(move || receive(link(end)).unwrap())).collect();
        let bounds = Bounds { bytes: 6 * BLOCK_BYTES, ..ALL };
        let sent = send(ours.into_iter().map(link).collect(), &Sample::made(), bounds).unwrap();
        assert_eq!(sent.bytes, 6 * BLOCK_BYTES);
        assert_eq!(sinks.into_iter().map(|sink| sink.join().unwrap()).sum::<u64>(), sent.bytes);
    }

    #[test]
    fn another_end_that_is_no_sink_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let other = thread::spawn(move || {
            let mut heard = vec![0; 4096];
            theirs.read_exact(&mut heard).unwrap();
            theirs.write_all(&[0; 4096]).unwrap();
        });
        let bounds = Bounds { bytes: BLOCK_BYTES, ..ALL };
        assert!(send(vec![link(ours)], &Sample::made(), bounds).is_err());
        other.join().unwrap();
    }
}
