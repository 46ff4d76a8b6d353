//! One line of a segment: a checksum, and JSON. `grep` and `less` read it; a line that a killed process left unfinished shows.

use std::io::{self, BufRead, Read as _};

use xxhash_rust::xxh3::xxh3_64;

/// Hexadecimal digits of the checksum, and a space.
const PREFIX: usize = 17;
/// The longest line that is read: more than any machine's state.
const LONGEST: u64 = 512 << 20;

/// Why a line is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("read: {0}")]
    Io(#[from] io::Error),
    #[error("line {0} is damaged: its checksum does not fit")]
    Damaged(usize),
    #[error("line {0} is longer than any that is written")]
    TooLong(usize),
}

/// Appends a line with its checksum.
pub fn push(lines: &mut Vec<u8>, json: &[u8]) {
    lines.reserve(json.len() + PREFIX + 1);
    lines.extend_from_slice(format!("{:016x} ", xxh3_64(json)).as_bytes());
    lines.extend_from_slice(json);
    lines.push(b'\n');
}

/// Reads lines one after the other.
pub struct Lines<R> {
    from: R,
    number: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(from: R) -> Self {
        Self { from, number: 0, buffer: Vec::new() }
    }

    pub fn number(&self) -> usize {
        self.number
    }

    /// The JSON of the next line; `None` at the end, which an unfinished line is too.
    pub fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.buffer.clear();
        self.number += 1;
        let read = self.from.by_ref().take(LONGEST).read_until(b'\n', &mut self.buffer)? as u64;
        if self.buffer.pop_if(|last| *last == b'\n').is_none() {
            return if read == LONGEST { Err(LineError::TooLong(self.number)) } else { Ok(None) };
        }
        match self.buffer.split_at_checked(PREFIX) {
            Some((prefix, json)) if prefix == format!("{:016x} ", xxh3_64(json)).as_bytes() => Ok(Some(json)),
            _ => Err(LineError::Damaged(self.number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<String>, Option<LineError>) {
        let mut lines = Lines::new(bytes);
        let mut all = Vec::new();
        loop {
            match lines.next() {
                Ok(Some(line)) => all.push(String::from_utf8(line.to_vec()).unwrap()),
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    fn written() -> Vec<u8> {
        let mut lines = Vec::new();
        push(&mut lines, b"{\"a\":1}");
        push(&mut lines, b"{\"b\":2}");
        lines
    }

    #[test]
    fn lines_survive() {
        assert!(matches!(read(&written()), (lines, None) if lines == ["{\"a\":1}", "{\"b\":2}"]));
    }

    /// A killed process leaves the beginning of a line, whatever its length.
    #[test]
    fn an_unfinished_line_is_cut_off() {
        let all = written();
        let first = all.len() / 2;
        for length in first..all.len() {
            let (lines, error) = read(&all[..length]);
            assert!(error.is_none() && lines.len() == 1, "{length}");
        }
    }

    #[test]
    fn no_byte_of_a_finished_line_can_change() {
        let all = written();
        for place in 0..all.len() - 1 {
            let mut bytes = all.clone();
            bytes[place] ^= 1;
            assert!(matches!(read(&bytes), (_, Some(LineError::Damaged(_)))), "byte {place}");
        }
    }
}
