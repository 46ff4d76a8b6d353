//! The segments on disk, and the room they take.

use std::fs::{self, File};
use std::io::{self, Write as _};

use crate::entry::Header;
use crate::folder::Folder;
use crate::line;

/// The open segment, and the closed ones before it.
pub struct Disk {
    folder: Folder,
    limit_bytes: u64,
    /// Size of the closed ones together.
    closed: u64,
    /// Size of the open one.
    written: u64,
    open: Option<File>,
}

impl Disk {
    pub fn new(folder: Folder, limit_bytes: u64) -> Self {
        Self { folder, limit_bytes, closed: 0, written: 0, open: None }
    }

    /// Closes the segment before, and begins the next with its machine.
    pub fn open(&mut self, header: &Header, machine: &[u8]) -> io::Result<()> {
        self.open = None;
        self.folder.create()?;
        self.folder.tidy()?;
        let next = self.close_all()?;
        let mut lines = Vec::new();
        line::push(&mut lines, &serde_json::to_vec(header)?);
        line::push(&mut lines, machine);
        if lines.len() as u64 > self.limit_bytes / 4 {
            let reason =
                format!("the state of {} bytes is too large for a recording of {}", lines.len(), self.limit_bytes);
            return Err(io::Error::other(reason));
        }
        let path = self.folder.open_path(next);
        self.open = Some(File::options().append(true).create_new(true).open(&path)?);
        self.put(&lines).inspect_err(|_| {
            self.open = None;
            // A beginning of a machine is of no use; if it stays, the next opening closes it.
            let _ = fs::remove_file(&path);
        })
    }

    pub fn append(&mut self, json: &[u8]) -> io::Result<()> {
        let mut line = Vec::new();
        line::push(&mut line, json);
        self.put(&line)
    }

    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        self.make_room(lines.len() as u64)?;
        let Some(file) = &mut self.open else { return Err(io::Error::other("no segment is open")) };
        file.write_all(lines)?;
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Closes whatever is open, also of an earlier process; returns the number that comes next.
    fn close_all(&mut self) -> io::Result<u64> {
        let segments = self.folder.segments()?;
        self.closed = segments.iter().filter(|segment| segment.closed).map(|segment| segment.bytes).sum();
        for segment in segments.iter().filter(|segment| !segment.closed) {
            self.written = segment.bytes;
            match self.make_room(0) {
                Ok(()) => self.closed += self.folder.close(segment.number)?,
                // Of a time with another limit.
                Err(_) => fs::remove_file(&segment.path)?,
            }
        }
        self.written = 0;
        Ok(segments.last().map_or(1, |last| last.number + 1))
    }

    /// Removes the oldest closed segments until the open one fits besides, and besides its own compressed form.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        let needed = (self.written + more).saturating_mul(2);
        if self.closed + needed <= self.limit_bytes {
            return Ok(());
        }
        if needed > self.limit_bytes {
            return Err(io::Error::other("the recording's limit leaves no room for this input"));
        }
        let mut closed = self.folder.segments()?;
        closed.retain(|segment| segment.closed);
        self.closed = closed.iter().map(|segment| segment.bytes).sum();
        for segment in closed {
            if self.closed + needed <= self.limit_bytes {
                break;
            }
            fs::remove_file(&segment.path)?;
            self.closed -= segment.bytes;
        }
        Ok(())
    }
}
