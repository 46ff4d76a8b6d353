//! Numbers in network byte order out of bytes that a server wrote: what is not there is not read.

use super::error::NbdError;

/// A message, read from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], NbdError> {
        let (first, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| NbdError::malformed("a message is too short"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, NbdError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NbdError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, NbdError> {
        self.take().map(u64::from_be_bytes)
    }

    /// As many bytes as the message itself says.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], NbdError> {
        let (first, rest) =
            self.0.split_at_checked(length).ok_or_else(|| NbdError::malformed("a message is too short"))?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}
