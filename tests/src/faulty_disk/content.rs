//! What a file of the faulty disk holds: what is stored, and over it what was written since the last sync. A disk with a volatile cache
//! answers reads from both, and loses the second when a flush fails; so that this can really happen, nothing of it is stored before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;
/// What one file may have unflushed; with more the disk writes it back by itself, as disks do.
const MOST_PAGES: usize = (512 << 20) / PAGE_LEN;
/// Pages that are stored in one piece.
const PIECE_PAGES: u64 = 256;

#[derive(Debug)]
enum Page {
    Data(Box<[u8; PAGE_LEN]>),
    Hole,
}

/// A stretch of a file from a position on: whether there is data, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretch {
    is_data: bool,
    end: u64,
}

#[derive(Debug)]
pub(super) struct Content {
    stored: File,
    /// By their number in the file.
    unflushed: BTreeMap<u64, Page>,
    /// Behind the last unflushed byte; the file is at least so long.
    end: u64,
}

impl Content {
    /// Of a file that is open for reading and writing.
    pub(super) fn of(stored: File) -> Self {
        Self { stored, unflushed: BTreeMap::new(), end: 0 }
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.stored.metadata()?.len().max(self.end))
    }

    /// There is something that a sync would store.
    pub(super) fn is_unflushed(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// Bytes of unflushed data.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        let is_data = |page: &&Page| matches!(page, Page::Data(_));
        self.unflushed.values().filter(is_data).count() as u64 * PAGE
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.size()?.saturating_sub(offset)).unwrap_or(length).min(length);
        let mut bytes = self.read_stored(offset, length)?;
        let to = offset + length as u64;
        for (number, page) in self.unflushed.range(offset / PAGE..to.div_ceil(PAGE)) {
            let at = number * PAGE;
            let (from, end) = (at.max(offset), (at + PAGE).min(to));
            let part = &mut bytes[index(from - offset)..index(end - offset)];
            match page {
                Page::Data(data) => part.copy_from_slice(&data[index(from - at)..index(end - at)]),
                Page::Hole => part.fill(0),
            }
        }
        Ok(bytes)
    }

    /// Zeros behind the end of what is stored.
    fn read_stored(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let (mut bytes, mut done) = (vec![0; length], 0);
        while done < length {
            match self.stored.read_at(&mut bytes[done..], offset + done as u64)? {
                0 => break,
                got => done += got,
            }
        }
        Ok(bytes)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = index(at % PAGE);
            let length = (PAGE_LEN - within).min(bytes.len() - done);
            let mut page = if length == PAGE_LEN { Box::new([0; PAGE_LEN]) } else { self.page(at / PAGE)? };
            page[within..within + length].copy_from_slice(&bytes[done..done + length]);
            self.unflushed.insert(at / PAGE, Page::Data(page));
            done += length;
        }
        self.end = self.end.max(offset + bytes.len() as u64);
        if self.unflushed.len() > MOST_PAGES { self.flush() } else { Ok(()) }
    }

    /// A page as it is read.
    fn page(&self, number: u64) -> io::Result<Box<[u8; PAGE_LEN]>> {
        let mut page = Box::new([0; PAGE_LEN]);
        match self.unflushed.get(&number) {
            Some(Page::Data(data)) => page.copy_from_slice(&data[..]),
            Some(Page::Hole) => {}
            None => page.copy_from_slice(&self.read_stored(number * PAGE, PAGE_LEN)?),
        }
        Ok(page)
    }

    /// Zeros without data, within the size of the file.
    pub(super) fn punch(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length).min(self.size()?);
        let mut at = offset;
        while at < end {
            let page_end = (at / PAGE + 1) * PAGE;
            let to = page_end.min(end);
            if at.is_multiple_of(PAGE) && (to == page_end || to == self.size()?) {
                self.unflushed.insert(at / PAGE, Page::Hole);
            } else {
                let mut page = self.page(at / PAGE)?;
                page[index(at % PAGE)..=index((to - 1) % PAGE)].fill(0);
                self.unflushed.insert(at / PAGE, Page::Data(page));
            }
            at = to;
        }
        Ok(())
    }

    /// Sizes are part of what a file system keeps in a journal: they hold at once.
    pub(super) fn resize(&mut self, size: u64) -> io::Result<()> {
        self.unflushed.split_off(&size.div_ceil(PAGE));
        if let Some(Page::Data(page)) = self.unflushed.get_mut(&(size / PAGE)) {
            page[index(size % PAGE)..].fill(0);
        }
        self.end = self.end.min(size);
        self.stored.set_len(size)
    }

    /// Space for a range that may be longer than the file.
    pub(super) fn allocate(&mut self, offset: u64, length: u64, flags: FallocateFlags) -> io::Result<()> {
        Ok(fallocate(&self.stored, flags, offset, length)?)
    }

    /// What is unflushed is stored. After an error it is all still there, to be tried again.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let size = self.size()?;
        let mut numbers = self.unflushed.keys().copied().peekable();
        while let Some(first) = numbers.next() {
            let mut last = first;
            while last - first + 1 < PIECE_PAGES && numbers.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            self.store(first, last, size)?;
        }
        if self.stored.metadata()?.len() < size {
            // It ends in a hole.
            self.stored.set_len(size)?;
        }
        self.unflushed.clear();
        self.end = 0;
        Ok(())
    }

    /// Consecutive pages, each of which is unflushed.
    fn store(&self, first: u64, last: u64, size: u64) -> io::Result<()> {
        let mut data = Vec::new();
        let mut data_from = first * PAGE;
        for (number, page) in self.unflushed.range(first..=last) {
            match page {
                Page::Data(bytes) => data.extend_from_slice(&bytes[..]),
                Page::Hole => {
                    self.store_data(data_from, &data, size)?;
                    data.clear();
                    data_from = (number + 1) * PAGE;
                    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&self.stored, hole, number * PAGE, PAGE)?;
                }
            }
        }
        self.store_data(data_from, &data, size)
    }

    fn store_data(&self, at: u64, data: &[u8], size: u64) -> io::Result<()> {
        let length = data.len().min(usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX));
        self.stored.write_all_at(&data[..length], at)
    }

    /// What is unflushed never was.
    pub(super) fn lose(&mut self) {
        self.unflushed.clear();
        self.end = 0;
    }

    /// The next data, or the next hole; the end of the file is one.
    pub(super) fn seek(&self, from: u64, wants_data: bool) -> io::Result<u64> {
        let size = self.size()?;
        let mut at = from;
        while at < size {
            let stretch = self.stretch(at, size)?;
            if stretch.is_data == wants_data {
                return Ok(at);
            }
            at = stretch.end;
        }
        if wants_data || from >= size { Err(Errno::NXIO.into()) } else { Ok(size) }
    }

    /// A write of this range needs space that the file does not have.
    pub(super) fn needs_space(&self, offset: u64, length: u64) -> io::Result<bool> {
        let (size, end) = (self.size()?, offset + length);
        let mut at = offset;
        while at < end {
            if at >= size {
                return Ok(true);
            }
            let stretch = self.stretch(at, size)?;
            if !stretch.is_data {
                return Ok(true);
            }
            at = stretch.end;
        }
        Ok(false)
    }

    fn stretch(&self, at: u64, size: u64) -> io::Result<Stretch> {
        let mut pages = self.unflushed.range(at / PAGE..);
        let next = match pages.next() {
            Some((number, page)) if *number == at / PAGE => {
                return Ok(Stretch { is_data: matches!(page, Page::Data(_)), end: ((number + 1) * PAGE).min(size) });
            }
            other => other.map_or(size, |(number, _)| number * PAGE),
        };
        let find = |from| match seek(&self.stored, from) {
            Err(Errno::NXIO) => Ok(size),
            found => found.map_err(io::Error::from),
        };
        let data = find(SeekFrom::Data(at))?;
        let is_data = data <= at;
        let end = if is_data { find(SeekFrom::Hole(at))? } else { data };
        Ok(Stretch { is_data, end: end.min(next).min(size) })
    }
}

/// Within a buffer that is in memory.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn content() -> Content {
        Content::of(tempfile::tempfile().unwrap())
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, index(content.size().unwrap()) + 10).unwrap()
    }

    /// Against a vector of bytes, with every operation in any order; what is lost is what came after the last flush.
    #[test]
    fn it_reads_as_it_was_written_until_it_is_lost() {
        let mut random = Random::seeded("a faulty file");
        let (mut content, mut model) = (content(), Vec::new());
        let mut kept = model.clone();
        for _ in 0..2000 {
            let offset = random.between(0, 6 * PAGE);
            let length = random.between(1, 2 * PAGE);
            let range = index(offset)..index(offset + length);
            match random.between(0, 8) {
                0..4 => {
                    let mut bytes = vec![0; range.len()];
                    random.fill(&mut bytes);
                    content.write(offset, &bytes).unwrap();
                    model.resize(model.len().max(range.end), 0);
                    model[range].copy_from_slice(&bytes);
                }
                4 => {
                    content.punch(offset, length).unwrap();
                    let end = range.end.min(model.len());
                    model.get_mut(range.start..end).unwrap_or_default().fill(0);
                }
                5 => {
                    content.flush().unwrap();
                    content.resize(offset).unwrap();
                    model.resize(index(offset), 0);
                    kept.clone_from(&model);
                }
                6 => {
                    content.flush().unwrap();
                    assert!(!content.is_unflushed());
                    kept.clone_from(&model);
                }
                _ => {
                    content.lose();
                    model.clone_from(&kept);
                }
            }
            assert!(all(&content) == model, "{} bytes against {}", content.size().unwrap(), model.len());
        }
    }

    #[test]
    fn a_cut_file_shows_nothing_of_its_old_end_when_it_grows_again() {
        let mut content = content();
        content.write(0, &[1; 5000]).unwrap();
        content.resize(4500).unwrap();
        content.resize(6000).unwrap();
        let bytes = all(&content);
        assert!(bytes.len() == 6000 && bytes[..4500] == [1; 4500] && bytes[4500..] == [0; 1500]);
    }

    #[test]
    fn holes_and_data_are_told_apart_before_and_after_a_flush() {
        let mut content = content();
        content.resize(10 * PAGE).unwrap();
        content.write(2 * PAGE, &[1; 2 * PAGE_LEN]).unwrap();
        content.write(8 * PAGE, &[1]).unwrap();
        content.flush().unwrap();
        content.punch(3 * PAGE, PAGE).unwrap();
        content.write(5 * PAGE, &[1]).unwrap();
        for flushed in [false, true] {
            let found = [0, 2, 3, 5, 6, 9].map(|page| content.seek(page * PAGE, true).map_or(0, |at| at / PAGE));
            assert_eq!(found, [2, 2, 5, 5, 8, 0], "data, flushed: {flushed}");
            let found = [0, 2, 5, 8, 9].map(|page| content.seek(page * PAGE, false).map_or(0, |at| at / PAGE));
            assert_eq!(found, [0, 3, 6, 9, 9], "holes, flushed: {flushed}");
            assert_eq!(content.seek(10 * PAGE, false).unwrap_err().raw_os_error(), Some(Errno::NXIO.raw_os_error()));
            assert!(content.needs_space(PAGE, 2 * PAGE).unwrap() && content.needs_space(10 * PAGE, 1).unwrap());
            assert!(!content.needs_space(2 * PAGE, PAGE).unwrap() && !content.needs_space(5 * PAGE, 10).unwrap());
            content.flush().unwrap();
        }
    }
}
