//! The messages of the handshake, without a socket: what options a client asks for, and what a server's answers say.
//!
//! Laid out by the NBD protocol document, "Newstyle negotiation", "Option types" and "Option reply types". Every length is the
//! server's claim and is checked before anything is read by it.

use super::error::{NbdError, quoted};
use super::fields::Fields;

pub(super) const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Of the server's and of the client's flags of the handshake alike.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 2;

/// The longest name of an export or of a metadata context, bytes ("Conventions").
pub(super) const NAME_LIMIT: usize = 4096;
/// The longest answer to an option that is read, bytes: a name and a description, with room to spare.
pub(super) const REPLY_LIMIT: u32 = 16 << 10;
/// The length of the header of an answer, bytes.
pub(super) const REPLY_HEAD_LEN: usize = 20;

/// What a client asks for in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Opt {
    ExportName = 1,
    Abort = 2,
    List = 3,
    StartTls = 5,
    Go = 7,
    StructuredReply = 8,
    ListMetaContext = 9,
    SetMetaContext = 10,
}

impl Opt {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::ExportName | Self::Go => "the export",
            Self::Abort => "to end",
            Self::List => "to list its exports",
            Self::StartTls => "TLS",
            Self::StructuredReply => "structured replies",
            Self::ListMetaContext => "to list metadata contexts",
            Self::SetMetaContext => "metadata contexts",
        }
    }
}

/// A request for an option, as it is sent.
pub(super) fn request(option: Opt, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend((option as u32).to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The data of `NBD_OPT_GO`: the export, and that its size constraints will be honoured.
pub(super) fn go_data(export: &str) -> Vec<u8> {
    let mut data = string(export);
    data.extend(1u16.to_be_bytes());
    data.extend(INFO_BLOCK_SIZE.to_be_bytes());
    data
}

/// The data of the options about metadata contexts.
pub(super) fn meta_data(export: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(export);
    data.extend(u32::try_from(queries.len()).unwrap_or(u32::MAX).to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The header of an answer to an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReplyHead {
    pub(super) kind: u32,
    pub(super) length: u32,
}

impl ReplyHead {
    /// # Errors
    /// [`NbdError::Malformed`] if it is no answer to this option, or longer than any may be.
    pub(super) fn read(bytes: &[u8; REPLY_HEAD_LEN], option: Opt) -> Result<Self, NbdError> {
        let mut fields = Fields::new(bytes);
        if fields.u64()? != OPTION_REPLY_MAGIC {
            return Err(NbdError::malformed("an answer to an option begins with another number"));
        }
        let (about, kind, length) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if about != option as u32 {
            return Err(NbdError::malformed(format!("option {} was answered as if it were {about}", option as u32)));
        }
        if length > REPLY_LIMIT {
            return Err(NbdError::malformed(format!("an answer to option {about} has {length} bytes")));
        }
        Ok(Self { kind, length })
    }
}

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Ack,
    /// One of the exports, by name.
    Server(String),
    Info(Info),
    Context(MetaContext),
    Refused(Refusal),
}

/// Why an option was refused, with the server's own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) said: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    Unsupported,
    Policy,
    Invalid,
    Platform,
    TlsRequired,
    Unknown,
    Shutdown,
    BlockSizeRequired,
    TooBig,
    Other(u32),
}

impl Refusal {
    pub(super) fn in_words(&self) -> String {
        let why = match self.reason {
            Reason::Unsupported => "it does not know that option".to_owned(),
            Reason::Policy => "its configuration does not allow it".to_owned(),
            Reason::Invalid => "it calls the request invalid".to_owned(),
            Reason::Platform => "it was built without it".to_owned(),
            Reason::TlsRequired => "it wants TLS first".to_owned(),
            Reason::Unknown => "there is no such export".to_owned(),
            Reason::Shutdown => "it is being shut down".to_owned(),
            Reason::BlockSizeRequired => "it wants its block sizes honoured".to_owned(),
            Reason::TooBig => "too much was asked for".to_owned(),
            Reason::Other(number) => format!("error {number:#x}"),
        };
        format!("{why}{}", self.said)
    }
}

/// A piece of information about an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Info {
    Export {
        size_bytes: u64,
        flags: u16,
    },
    BlockSize(BlockSizes),
    /// A name, a description, or something that is not known: to be ignored.
    Other(u16),
}

/// A metadata context that the server has, with the number that it bears on this connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MetaContext {
    pub(super) id: u32,
    pub(super) name: String,
}

/// The constraints of requests, bytes ("Size constraints").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockSizes {
    /// Offsets and lengths are multiples of it.
    pub(crate) minimum: u32,
    /// From here on requests cost the server no reading of its own.
    pub(crate) preferred: u32,
    /// The longest payload of a request.
    pub(crate) maximum: u32,
}

impl BlockSizes {
    /// Of a server that says nothing of it.
    pub(crate) const DEFAULT: Self = Self { minimum: 1, preferred: 4096, maximum: 32 << 20 };

    fn read(mut fields: Fields<'_>) -> Result<Self, NbdError> {
        let sizes = Self { minimum: fields.u32()?, preferred: fields.u32()?, maximum: fields.u32()? };
        let sound = sizes.minimum.is_power_of_two()
            && sizes.minimum <= 1 << 16
            && sizes.preferred.is_power_of_two()
            && sizes.preferred >= sizes.minimum
            && sizes.maximum >= sizes.preferred;
        let Self { minimum, preferred, maximum } = sizes;
        if fields.rest().is_empty() && sound {
            return Ok(sizes);
        }
        Err(NbdError::malformed(format!("block sizes of {minimum}, {preferred} and {maximum} bytes cannot be")))
    }
}

const REP_ACK: u32 = 1;
const REP_SERVER: u32 = 2;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const REP_ERROR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

impl Reply {
    /// # Errors
    /// [`NbdError::Malformed`] if it is none, or not laid out as it has to be.
    pub(super) fn read(kind: u32, payload: &[u8]) -> Result<Self, NbdError> {
        match kind {
            REP_ACK if payload.is_empty() => Ok(Self::Ack),
            REP_SERVER => server(payload).map(Self::Server),
            REP_INFO => Info::read(payload).map(Self::Info),
            REP_META_CONTEXT => context(payload).map(Self::Context),
            error if error & REP_ERROR != 0 => {
                Ok(Self::Refused(Refusal { reason: reason(error), said: quoted(payload) }))
            }
            _ => Err(NbdError::malformed(format!("answer {kind} of {} bytes is none", payload.len()))),
        }
    }
}

fn reason(error: u32) -> Reason {
    match error & !REP_ERROR {
        1 => Reason::Unsupported,
        2 => Reason::Policy,
        3 => Reason::Invalid,
        4 => Reason::Platform,
        5 => Reason::TlsRequired,
        6 => Reason::Unknown,
        7 => Reason::Shutdown,
        8 => Reason::BlockSizeRequired,
        9 => Reason::TooBig,
        other => Reason::Other(other),
    }
}

/// A name in a server's answer: whole, in UTF-8, and no longer than names are.
fn name(bytes: &[u8]) -> Result<String, NbdError> {
    let text = std::str::from_utf8(bytes).map_err(|_| NbdError::malformed("a name is not in UTF-8"))?;
    if text.len() > NAME_LIMIT || text.contains('\0') {
        return Err(NbdError::malformed(format!("a name of {} bytes cannot be one", text.len())));
    }
    Ok(text.to_owned())
}

fn server(payload: &[u8]) -> Result<String, NbdError> {
    let mut fields = Fields::new(payload);
    let length = fields.u32()?;
    name(fields.bytes(usize::try_from(length).unwrap_or(usize::MAX))?)
}

fn context(payload: &[u8]) -> Result<MetaContext, NbdError> {
    let mut fields = Fields::new(payload);
    Ok(MetaContext { id: fields.u32()?, name: name(fields.rest())? })
}

impl Info {
    fn read(payload: &[u8]) -> Result<Self, NbdError> {
        let mut fields = Fields::new(payload);
        match fields.u16()? {
            INFO_EXPORT if payload.len() == 12 => Ok(Self::Export { size_bytes: fields.u64()?, flags: fields.u16()? }),
            INFO_EXPORT => Err(NbdError::malformed("what is said of the export has another length")),
            INFO_BLOCK_SIZE => BlockSizes::read(fields).map(Self::BlockSize),
            other => Ok(Self::Other(other)),
        }
    }
}
