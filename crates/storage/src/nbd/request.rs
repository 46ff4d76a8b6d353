//! What a client asks for once the handshake is over ("Transmission phase"), and what a server can do.

const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The length of a request without its payload, bytes.
pub(super) const REQUEST_LEN: usize = 28;

const COMMAND_FUA: u16 = 1;

/// What the server can do with an export ("Transmission flags").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Abilities(pub(super) u16);

impl Abilities {
    fn has(self, bit: u16) -> bool {
        // Bit 0 says that the others mean anything.
        self.0 & 1 != 0 && self.0 & (1 << bit) != 0
    }

    pub(crate) fn read_only(self) -> bool {
        self.has(1)
    }

    pub(crate) fn flush(self) -> bool {
        self.has(2)
    }

    /// Writes that are durable when they are answered.
    pub(crate) fn fua(self) -> bool {
        self.has(3)
    }

    pub(crate) fn write_zeroes(self) -> bool {
        self.has(6)
    }

    /// A flush on one connection covers what was answered on every other.
    pub(crate) fn multi_conn(self) -> bool {
        self.has(8)
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Read,
    Write {
        fua: bool,
    },
    Flush,
    /// Zeros, by whatever way the server likes best: without `NBD_CMD_FLAG_NO_HOLE` it may make a hole, which must read as zeros.
    WriteZeroes {
        fua: bool,
    },
    BlockStatus,
}

impl Command {
    fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write { .. } => 1,
            Self::Flush => 3,
            Self::WriteZeroes { .. } => 6,
            Self::BlockStatus => 7,
        }
    }

    fn flags(self) -> u16 {
        match self {
            Self::Write { fua: true } | Self::WriteZeroes { fua: true } => COMMAND_FUA,
            _ => 0,
        }
    }

    /// Whether it may change a byte of the export, now or late.
    pub(super) fn modifies(self) -> bool {
        matches!(self, Self::Write { .. } | Self::WriteZeroes { .. })
    }
}

/// A request, of bytes from `offset` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Request {
    /// As it is sent; the payload of a write follows.
    pub(super) fn encode(&self, cookie: u64) -> [u8; REQUEST_LEN] {
        message(self.command.flags(), self.command.number(), cookie, self.offset, self.length)
    }

    pub(super) fn in_words(&self) -> String {
        let what = match self.command {
            Command::Read => "to read",
            Command::Write { .. } => "to write",
            Command::Flush => return "to flush".to_owned(),
            Command::WriteZeroes { .. } => "to zero",
            Command::BlockStatus => "for the holes in",
        };
        format!("{what} {} bytes at {}", self.length, self.offset)
    }
}

/// `NBD_CMD_DISC`: everything was answered, and nothing follows.
pub(super) fn goodbye() -> [u8; REQUEST_LEN] {
    message(0, 2, 0, 0, 0)
}

fn message(flags: u16, number: u16, cookie: u64, offset: u64, length: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&length.to_be_bytes());
    bytes
}
