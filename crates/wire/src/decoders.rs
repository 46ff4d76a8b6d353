//! What has to hold of whatever a stranger on the network hands to this crate. Each function takes any bytes, gives them to one decoder and
//! asserts what must be true of every input; what was refused it gives back in the decoder's own words.
//!
//! Only in builds with the feature `decoders`: the tests and fuzz targets of the crate `decoders` call these.

use std::fmt::{Debug, Display};
use std::sync::LazyLock;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::ca::CertificateAuthority;
use crate::certificate::{PeerIdentity, TrustAnchor, member_uri, parse_member};
use crate::frame::{FRAME_LIMIT, FrameError, JsonFrames};
use crate::grant::{self, StreamGrant};
use crate::handshake::{Admission, Answer, CLOCK_TOLERANCE, ClientPreamble, VersionRange};

type Verdict = Result<(), String>;

const CLUSTER: ClusterId = ClusterId(7);
const NOW: Timestamp = Timestamp(1_795_342_800_123_456);

/// New in every process: nothing that a corpus holds was signed by it.
static AUTHORITY: LazyLock<Option<CertificateAuthority>> =
    LazyLock::new(|| CertificateAuthority::create(CLUSTER, NOW).ok());

fn authority() -> Result<&'static CertificateAuthority, String> {
    AUTHORITY.as_ref().ok_or_else(|| "no authority can be made here".to_owned())
}

fn words(error: impl Display) -> String {
    error.to_string()
}

/// A stream of messages is read the same in whatever pieces it arrives, costs no more room than has arrived, and every message of it
/// survives being written down again. The first byte is the size of the pieces.
///
/// # Errors
/// Why the stream was given up.
pub fn message_stream<M: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Verdict {
    let (step, stream) = bytes.split_first().ok_or("an empty stream")?;
    let (whole, verdict) = read_in_pieces::<M>(stream, stream.len().max(1));
    let (pieces, verdict_of_pieces) = read_in_pieces::<M>(stream, usize::from(*step) + 1);
    assert_eq!((&pieces, verdict_of_pieces), (&whole, verdict.clone()), "pieces of {step} are read otherwise");
    whole.iter().for_each(survives);
    verdict
}

/// One message, as the body of a frame.
///
/// # Errors
/// Why it was refused.
pub fn message<M: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) -> Verdict {
    let length = u32::try_from(body.len()).map_err(words)?;
    let (messages, verdict) = read_in_pieces::<M>(&[&length.to_be_bytes(), body].concat(), body.len() + 4);
    messages.iter().for_each(survives);
    verdict
}

fn read_in_pieces<M: DeserializeOwned + Serialize>(stream: &[u8], step: usize) -> (Vec<M>, Verdict) {
    let mut decoder = JsonFrames::<M>::new(FRAME_LIMIT);
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        assert!(buffer.capacity() <= 2 * stream.len().max(64), "room for what has not arrived");
        match drain(&mut decoder, &mut buffer, &mut messages) {
            Ok(()) => {}
            Err(error) => return (messages, Err(words(error))),
        }
    }
    let ended = decoder.decode_eof(&mut buffer).map(|message| messages.extend(message));
    (messages, ended.map_err(words))
}

fn drain<M: DeserializeOwned>(
    decoder: &mut JsonFrames<M>,
    buffer: &mut BytesMut,
    messages: &mut Vec<M>,
) -> Result<(), FrameError> {
    while let Some(message) = decoder.decode(buffer)? {
        messages.push(message);
    }
    Ok(())
}

fn survives<M: DeserializeOwned + Serialize + PartialEq + Debug>(message: &M) {
    let mut written = BytesMut::new();
    JsonFrames::new(2 * FRAME_LIMIT).encode(message, &mut written).expect("what was read can be written");
    let read = JsonFrames::<M>::new(2 * FRAME_LIMIT).decode(&mut written).expect("what was written can be read");
    assert_eq!(read.as_ref(), Some(message));
}

/// Whoever is let in by its preamble is known, of this cluster, speaks a version that both sides know, and its clock is near ours.
///
/// # Errors
/// Why it was refused.
pub fn preambles(bytes: &[u8]) -> Verdict {
    if bytes.first() == Some(&b'!') {
        return message::<Answer>(&bytes[1..]);
    }
    message::<ClientPreamble>(bytes)?;
    let preamble: ClientPreamble = serde_json::from_slice(bytes).map_err(words)?;
    let holder = PeerIdentity::from_pem(authority()?.certificate_pem()).ok();
    let admission = Admission::of_agents(CLUSTER);
    assert!(admission.judge(holder.as_ref(), &preamble, NOW).is_err(), "the authority's certificate is no agent's");
    let agent = agent_identity()?;
    let (_, version) = admission.judge(Some(&agent), &preamble, NOW).map_err(words)?;
    assert!(VersionRange::SUPPORTED.contains(version) && preamble.versions.contains(version));
    assert!(preamble.wall.since(NOW) <= CLOCK_TOLERANCE && NOW.since(preamble.wall) <= CLOCK_TOLERANCE);
    Ok(())
}

fn agent_identity() -> Result<PeerIdentity, String> {
    static AGENT: LazyLock<Option<PeerIdentity>> = LazyLock::new(|| {
        let request = crate::identity::PrivateKey::generate().ok()?.certificate_request().ok()?;
        let issued = AUTHORITY.as_ref()?.issue_agent(&request, &AgentName::new("h1").ok()?, NOW).ok()?;
        PeerIdentity::from_pem(&issued.certificate_pem).ok()
    });
    AGENT.clone().ok_or_else(|| "no certificate can be made here".to_owned())
}

/// A grant opens only if the authority has signed it, and only in the one form in which a server writes it. A first byte that is
/// odd has the rest signed as the text of a grant.
///
/// # Errors
/// Why it opens nothing.
pub fn grants(bytes: &[u8]) -> Verdict {
    let (choice, rest) = bytes.split_first().ok_or("an empty grant")?;
    let authority = authority()?;
    if choice % 2 == 0 {
        let refused = grant::open(rest, authority.anchor()).map(drop);
        assert!(refused.is_err(), "nobody has signed this");
        return refused.map_err(words);
    }
    let sealed = grant::sealed_text(authority, rest).map_err(words)?;
    let granted: StreamGrant = grant::open(&sealed, authority.anchor()).map_err(words)?;
    assert_eq!(serde_json::to_vec(&granted).map_err(words)?, rest, "another text says the same");
    let again = grant::seal(authority, &granted).map_err(words)?;
    assert_eq!(grant::open(&again, authority.anchor()).map_err(words)?, granted);
    let mut damaged = sealed;
    let place = usize::from(*choice) % damaged.len();
    damaged[place] ^= 1;
    assert!(grant::open(&damaged, authority.anchor()).is_err(), "byte {place} was changed");
    Ok(())
}

/// A certificate names a member or an authority, never both, and by one name only.
///
/// # Errors
/// Why it names nobody.
pub fn certificates(bytes: &[u8]) -> Verdict {
    let holder = match std::str::from_utf8(bytes) {
        Ok(pem) if pem.starts_with("-----") => PeerIdentity::from_pem(pem),
        _ => PeerIdentity::from_der(bytes),
    };
    let anchor = TrustAnchor::from_der(bytes.to_vec().into());
    match (holder, anchor) {
        (Ok(holder), anchor) => {
            assert!(anchor.is_err(), "{holder:?} is an authority too");
            let uri = member_uri(holder.cluster, &holder.role);
            assert_eq!(parse_member(&uri), Some((holder.cluster, holder.role.clone())), "{uri}");
            assert!(holder.renew_at() <= holder.not_after.max(holder.not_before), "{holder:?}");
            Ok(())
        }
        (Err(_), Ok(anchor)) => {
            assert!(!anchor.has_signed(bytes, bytes));
            Ok(())
        }
        (Err(problem), Err(_)) => Err(words(problem)),
    }
}

/// Whatever a request for a certificate says of names, the authority writes the name that the token gave.
///
/// # Errors
/// Why nothing was signed.
pub fn certificate_requests(bytes: &[u8]) -> Verdict {
    let text = match std::str::from_utf8(bytes) {
        Ok(pem) if pem.starts_with("-----") => pem.to_owned(),
        _ => in_pem(bytes),
    };
    let name = AgentName::new("h1").map_err(words)?;
    let issued = authority()?.issue_agent(&text, &name, NOW).map_err(words)?;
    let holder = PeerIdentity::from_pem(&issued.certificate_pem).map_err(words)?;
    assert_eq!((holder.cluster, holder.agent()), (CLUSTER, Some(&name)));
    assert!(TrustAnchor::from_pem(&issued.certificate_pem).is_err(), "it made an authority");
    Ok(())
}

/// DER in its armour: base64 (RFC 4648), in lines.
fn in_pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for triple in der.chunks(3) {
        let bits = triple.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - triple.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            body.push(if place > triple.len() { '=' } else { char::from(digit) });
        }
    }
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}
