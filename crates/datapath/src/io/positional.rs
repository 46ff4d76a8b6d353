//! Positional transfers that are whole: repeated after a signal, continued after a short one, at whole sectors.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::pool::ALIGNMENT;

/// How much of the buffer, from its beginning, direct I/O can move at this offset.
///
/// `sector` is what the device wants offsets and lengths to be multiples of; memory is aligned to the largest.
#[must_use]
pub fn directly_movable(offset: u64, buffer: &[u8], sector: usize) -> usize {
    let aligned = offset.is_multiple_of(sector as u64) && buffer.as_ptr().align_offset(ALIGNMENT) == 0;
    if aligned { buffer.len() - buffer.len() % sector } else { 0 }
}

/// One read, repeated only if a signal interrupted it.
///
/// # Errors
/// The operating system's.
pub fn read_once(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads until the buffer is full. After a short transfer it goes on at the next whole sector, which keeps direct I/O aligned.
///
/// # Errors
/// The operating system's; `UnexpectedEof` if the file ends before.
pub fn read_all(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let got = read_once(file, offset + done as u64, &mut buffer[done..])?;
        done = next_start(done, got, buffer.len()).ok_or_else(|| shrunk(offset + (done + got) as u64))?;
    }
    Ok(())
}

/// Writes it all; after a short transfer it goes on as [`read_all`] does.
///
/// # Errors
/// The operating system's.
pub fn write_all(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let put = match file.write_at(&bytes[done..], offset + done as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        done = next_start(done, put, bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
    }
    Ok(())
}

/// Where to go on after `moved` bytes from `done`; `None` if no whole sector was moved.
fn next_start(done: usize, moved: usize, length: usize) -> Option<usize> {
    let end = done + moved;
    let next = if end == length { end } else { end - moved % ALIGNMENT };
    (next > done).then_some(next)
}

#[derive(Debug, thiserror::Error)]
enum SizeError {
    #[error("the volume ends at {0}, before its size when it was opened")]
    Shrunk(u64),
    #[error("the volume had {0} bytes when it was opened and has {1} now")]
    Resized(u64, u64),
}

/// The volume ends at this offset, before the size it had when it was opened.
#[must_use]
pub fn shrunk(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, SizeError::Shrunk(at))
}

/// The volume has another size than when it was opened.
#[must_use]
pub fn resized(from: u64, to: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, SizeError::Resized(from, to))
}
