//! Over the network only what differs is sent: any target becomes the source, whatever breaks, and the bytes on the wire are counted.
//!
//! `TANIST_DELTA_GIB=4` counts them over a volume of so many GiB; without it over half of one, with budgets in proportion.

mod support;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use support::session::{Session, WireFault, connect, faulty, key};
use support::{MIB, Random, changed, comparing, contents, copy, reference, two_states, volume};
use tanist_datapath::io::memory::MemoryDevice;
use tanist_datapath::{
    BlockDevice, Digests, Extent, ExtentKind, SenderEvent, StoredDigests, TransferConfig, TransferEvent,
};
use tanist_model::byte_range::ByteRange;
use tanist_model::policy::VerifyMode;
use tanist_model::run::Checkpoint;

#[test]
fn any_target_becomes_the_source_over_any_streams() {
    for seed in 0..40 {
        let (bytes, before) = two_states(seed, 30 * MIB);
        let size_bytes = bytes.len() as u64;
        let target = Arc::new(MemoryDevice::with_bytes(&before));
        let mut config = comparing(Checkpoint::START, size_bytes);
        if seed % 3 == 0 {
            config.unconditional.insert(ByteRange::new(2 * MIB, 4 * MIB));
        }
        let source = Arc::new(MemoryDevice::with_bytes(&bytes));
        let streams = [1, 2, 4][seed as usize % 3];
        let end = Session::start(&source, &target, config, connect(streams)).finished();
        assert_eq!(end, reference(&bytes), "seed {seed}");
        target.power_loss();
        assert!(contents(&*target) == bytes, "seed {seed}, {size_bytes} bytes differ");
    }
}

/// Each attempt loses one stream at some byte, and the target its cache; the next one writes its window whole.
#[test]
fn a_comparing_copy_whose_streams_break_again_and_again_ends_equal() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let size_bytes = 10 * MIB + random.below(MIB);
        let bytes = volume(seed, size_bytes);
        let source = Arc::new(MemoryDevice::with_bytes(&bytes));
        let target = Arc::new(MemoryDevice::with_bytes(&changed(seed + 500, &bytes)));
        let stall_bytes = 4 * MIB;
        let attempt = |from: Checkpoint| {
            let window = ByteRange::new(from.seq, (from.seq + stall_bytes).min(size_bytes));
            TransferConfig { stall_bytes, unconditional: [window].into_iter().collect(), ..comparing(from, size_bytes) }
        };
        let mut from = Checkpoint::START;
        for generation in 1..6 {
            let mut ends = connect(2);
            let victim = usize::try_from(random.below(2)).unwrap();
            let at = random.below(2 * MIB) * random.below(2) + random.below(2000);
            let side = if random.below(3) == 0 { &mut ends.target } else { &mut ends.source };
            let link = side.remove(victim);
            side.insert(victim, faulty(link, at, if random.below(2) == 0 { WireFault::Cut } else { WireFault::Flip }));
            let (sending, receiving) = Session::open(&source, &target, attempt(from), key(generation), ends);
            if let Some(receiving) = receiving {
                from = receiving.commit_all(from, |_, _| {}).committed;
                let kept = usize::try_from(from.seq).unwrap();
                assert!(target.durable_bytes(from.seq) == bytes[..kept], "seed {seed}: not durable below {kept}");
            }
            let _ = sending.last();
            target.power_loss();
        }
        let end = Session::start(&source, &target, attempt(from), connect(2)).finished();
        assert_eq!(end, reference(&bytes), "seed {seed}");
        assert!(contents(&*target) == bytes, "seed {seed}");
    }
}

/// A volume made of a seed as it is read: a third zeros, of which the pages that were written are kept.
struct Seeded {
    size_bytes: u64,
    written: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Seeded {
    fn new(size_bytes: u64) -> Arc<Self> {
        Arc::new(Self { size_bytes, written: Mutex::default() })
    }

    fn page(&self, page: u64) -> Vec<u8> {
        if let Some(bytes) = self.written.lock().unwrap().get(&page) {
            return bytes.clone();
        }
        let mut bytes = vec![0; 4096];
        if !(page / 700).is_multiple_of(3) {
            Random(page).fill(&mut bytes);
        }
        bytes
    }

    fn change(&self, page: u64) {
        let mut bytes = vec![0; 4096];
        Random(page ^ 0xc0ffee).fill(&mut bytes);
        self.written.lock().unwrap().insert(page, bytes);
    }
}

impl BlockDevice for Seeded {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_direct(&self) -> bool {
        true
    }

    /// A stretch of zeros is a hole, up to the first page that was written.
    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        let (page, written) = (offset / 4096, self.written.lock().unwrap());
        let stretch_end = (page / 700 + 1) * 700;
        let next = written.range(page..stretch_end).next().map_or(stretch_end, |(next, _)| *next);
        let is_hole = (page / 700).is_multiple_of(3) && next > page;
        let (kind, end) = if is_hole { (ExtentKind::Hole, next) } else { (ExtentKind::Data, page + 1) };
        Ok(Extent { kind, end: (end * 4096).min(self.size_bytes) })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (page, to) in (offset / 4096..).zip(buffer.chunks_mut(4096)) {
            to.copy_from_slice(&self.page(page));
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let pages = (offset / 4096..).zip(bytes.chunks(4096)).map(|(page, bytes)| (page, bytes.to_vec()));
        self.written.lock().unwrap().extend(pages);
        Ok(())
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        let pages = (offset / 4096..(offset + length) / 4096).map(|page| (page, vec![0; 4096]));
        self.written.lock().unwrap().extend(pages);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn counted_size() -> u64 {
    std::env::var("TANIST_DELTA_GIB").map_or(512 * MIB, |gib| gib.parse::<u64>().unwrap() << 30)
}

/// Bytes on the wire in both directions, as the target counts them, and the bytes that it wrote.
fn wire_and_written(source: &Arc<Seeded>, target: &Arc<Seeded>, digests: Digests) -> (u64, u64) {
    let config = TransferConfig { compare: true, digests, ..TransferConfig::new(Checkpoint::START, source.size_bytes) };
    let (sent, outcome) = Session::start(source, target, config, connect(2)).run();
    let (SenderEvent::Finished { progress: sent }, TransferEvent::Finished { progress: got, .. }) =
        (sent, &outcome.last)
    else {
        panic!("not finished: {:?}", outcome.last)
    };
    assert!(sent.wire_bytes.abs_diff(got.wire_bytes) < 4096, "{sent:?}, {got:?}");
    (got.wire_bytes, got.written_bytes + got.zeroed_bytes)
}

/// Both sides are read; or digests of what the target holds are stored at the source.
fn ways(folder: &Path, size_bytes: u64) -> [(&'static str, Digests); 2] {
    let (path, device) = (folder.join("base"), Seeded::new(size_bytes));
    let record = Digests { changes: None, stored: None, record_to: Some(path.clone()) };
    let (config, nowhere) = (TransferConfig::new(Checkpoint::START, size_bytes), Arc::new(Nowhere(size_bytes)));
    let config = TransferConfig { digests: record, verify: VerifyMode::Off, ..config };
    let end = copy(&device, &nowhere, config).finished();
    let stored = StoredDigests::open(&path, size_bytes, end.chain).unwrap().map(Arc::new);
    [("both sides read", Digests::default()), ("stored digests", Digests { stored, record_to: None, changes: None })]
}

/// Takes what is written.
struct Nowhere(u64);

impl BlockDevice for Nowhere {
    fn size_bytes(&self) -> u64 {
        self.0
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn zero_range(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_did_not_change_stays_off_the_wire() {
    let size_bytes = counted_size();
    let (budget, folder) = ((2 * MIB * size_bytes) >> 32, tempfile::tempdir().unwrap());
    for (way, digests) in ways(folder.path(), size_bytes) {
        let (source, target) = (Seeded::new(size_bytes), Seeded::new(size_bytes));
        let (wire, written) = wire_and_written(&source, &target, digests);
        println!("nothing changed, {way}: {wire} bytes on the wire for {size_bytes}, {budget} allowed");
        assert!(wire <= budget, "{way}: {wire} bytes on the wire, {budget} allowed");
        assert_eq!(written, 0);
    }
}

#[test]
fn one_page_in_a_hundred_costs_little_more_than_itself() {
    let size_bytes = counted_size();
    let (budget, folder) = ((48 * MIB * size_bytes) >> 32, tempfile::tempdir().unwrap());
    for (way, digests) in ways(folder.path(), size_bytes) {
        let (source, target) = (Seeded::new(size_bytes), Seeded::new(size_bytes));
        let (mut random, pages) = (Random(7), size_bytes / 4096);
        (0..pages / 100).for_each(|_| source.change(random.below(pages)));
        let (wire, written) = wire_and_written(&source, &target, digests);
        println!("1 % changed, {way}: {wire} bytes on the wire for {size_bytes}, {budget} allowed");
        assert!(wire <= budget, "{way}: {wire} bytes on the wire, {budget} allowed");
        assert!(written <= size_bytes / 100, "{way}: {written}");
        let changed: Vec<u64> = source.written.lock().unwrap().keys().copied().collect();
        assert!(changed.into_iter().all(|page| source.page(page) == target.page(page)), "{way}");
    }
}

/// A device that says when it is read at a place, or that waits at its first read until another was.
struct Paced {
    inner: MemoryDevice,
    place: u64,
    says: Option<SyncSender<()>>,
    waits: Mutex<Option<Receiver<()>>>,
}

impl BlockDevice for Paced {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(other) = self.waits.lock().unwrap().take() {
            other.recv().unwrap();
        }
        if offset == self.place {
            self.says.iter().for_each(|says| says.try_send(()).unwrap_or_default());
        }
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.zero_range(offset, length)
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.inner.extent_at(offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What waits for the target's word must not keep back what comes before it: the target looks only so far ahead of what has come. The
/// source is far behind the hole when the target's first word comes.
#[test]
fn data_behind_a_long_hole_does_not_keep_back_what_is_before_it() {
    let size_bytes = 304 * MIB;
    let filled = |byte: u8| {
        let device = MemoryDevice::new(size_bytes);
        for at in [0, 299, 300, 301, 302, 303] {
            device.write_at(at * MIB, &vec![7; 1 << 20]).unwrap();
            device.write_at(at * MIB + 4096, &[byte; 4096]).unwrap();
        }
        device
    };
    let (says, waits) = sync_channel(1);
    let paced = |inner, says, waits| Arc::new(Paced { inner, place: 302 * MIB, says, waits: Mutex::new(waits) });
    let (source, target) = (paced(filled(8), Some(says), None), paced(filled(7), None, Some(waits)));
    let config = TransferConfig { compare: true, ..TransferConfig::new(Checkpoint::START, size_bytes) };
    let (_, outcome) = Session::start(&source, &target, config, connect(2)).run();
    let TransferEvent::Finished { progress, .. } = outcome.last else { panic!("{:?}", outcome.last) };
    assert_eq!(progress.written_bytes, 6 * 4096, "{progress:?}");
    assert!(contents(&*target) == contents(&*source));
}

/// A page of data in a hole costs a page, and not the block around it.
#[test]
fn data_in_the_holes_of_a_target_costs_what_it_is() {
    let size_bytes = 16 * MIB;
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap()];
    for block in 0..16 {
        let at = block * (1 << 20) + (block % 7) * 4096;
        Random(block as u64 + 1).fill(&mut bytes[at..at + 4096]);
    }
    let (source, target) = (Arc::new(MemoryDevice::with_bytes(&bytes)), Arc::new(MemoryDevice::new(size_bytes)));
    let (_, outcome) = Session::start(&source, &target, comparing(Checkpoint::START, size_bytes), connect(2)).run();
    let TransferEvent::Finished { progress, .. } = outcome.last else { panic!("{:?}", outcome.last) };
    assert_eq!(progress.written_bytes, 16 * 4096, "{progress:?}");
    assert!(contents(&*target) == bytes);
}
