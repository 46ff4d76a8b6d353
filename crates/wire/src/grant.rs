//! The server's word that one reader may stream one run to one holder. A holder cannot ask the server while the server is away, and
//! must not believe a reader that says it may; so the server signs, the reader carries, and the holder compares. The
//! authority's key signs, because every agent can check it already and there is no other key to distribute.

use serde::{Deserialize, Serialize};
use tanist_model::excerpt::excerpt;
use tanist_model::id::{AgentName, ClusterId, Epochs, ReplicationId, RunId};
use tanist_model::time::Timestamp;

use crate::ca::CertificateAuthority;
use crate::certificate::TrustAnchor;

/// More than any grant has, bytes.
pub const GRANT_LIMIT: usize = 4 << 10;
/// The form of a sealed grant: this number, the length of the text (two bytes, big-endian), the text, its signature.
const FORMAT: u8 = 1;
const HEAD: usize = 3;
/// Goes before the text into what is signed. The same key signs certificates; those begin with the byte 0x30, so that neither can
/// ever be taken for the other.
const DOMAIN: &[u8] = b"tanist-stream-grant/1\0";

/// Permission for `reader` to open streams of this run to `holder`, under these epochs and this generation only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamGrant {
    pub cluster: ClusterId,
    pub replication: ReplicationId,
    pub run: RunId,
    pub epochs: Epochs,
    /// The opening of the run that the holder has announced: a grant for an earlier one opens nothing.
    pub generation: u64,
    pub reader: AgentName,
    pub holder: AgentName,
    /// The server's clock, for the records: what ends a grant is the next generation or epoch, never a clock.
    pub issued_at: Timestamp,
}

/// Why a grant was not made, or opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("sign a stream grant: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("a stream grant of {0} bytes is longer than {GRANT_LIMIT}")]
    TooLong(usize),
    #[error("the stream grant is cut off or garbled")]
    Garbled,
    #[error("the stream grant has format {0}, and {FORMAT} is understood here")]
    Format(u8),
    #[error("the stream grant was not signed by this installation's authority")]
    Signature,
    #[error("the stream grant is signed, but its text is not understood: {}", excerpt(&.0.to_string()))]
    Text(#[from] serde_json::Error),
    #[error("the stream grant is signed, but says more than is understood here")]
    NotCanonical,
    #[error("the stream grant is for cluster {granted}, and this is cluster {open}")]
    Cluster { granted: ClusterId, open: ClusterId },
    #[error("the stream grant is for replication {granted}, and {open} is open")]
    Replication { granted: ReplicationId, open: ReplicationId },
    #[error("the stream grant is for run {granted}, and {open} is open")]
    Run { granted: RunId, open: RunId },
    #[error("the stream grant is for the epochs {granted}, and {open} are in force")]
    Epochs { granted: Epochs, open: Epochs },
    #[error("the stream grant is for generation {granted} of the stream, and {open} is open")]
    Generation { granted: u64, open: u64 },
    #[error("the stream grant is for reader {granted}, and {open} shows it")]
    Reader { granted: AgentName, open: AgentName },
    #[error("the stream grant is for holder {granted}, and this is {open}")]
    Holder { granted: AgentName, open: AgentName },
}

impl GrantError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Epochs { .. } | Self::Generation { .. } | Self::Run { .. } => {
                "the stream is from before a takeover or a new opening: nothing to do, the reader gets another grant"
            }
            Self::Format(_) | Self::Text(_) | Self::NotCanonical => {
                "upgrade the older side: releases that follow each other work together"
            }
            Self::Sign(_) => "this is a fault of the server's host or of its authority's key: restore it from a backup",
            Self::Signature | Self::Cluster { .. } => {
                "after `server init` was run anew, every host has to join again with a new token"
            }
            Self::TooLong(_) | Self::Garbled | Self::Replication { .. } | Self::Reader { .. } | Self::Holder { .. } => {
                "the reader shows a grant that is not its own: look at what runs on its host, and compare the versions"
            }
        }
    }
}

impl StreamGrant {
    /// Compares with what the holder has open. `reader` is the name in the certificate of whoever shows the grant.
    ///
    /// # Errors
    /// The first [`GrantError`] that names a difference.
    #[expect(clippy::too_many_arguments, reason = "one for each field that is compared, each of a type of its own")]
    pub fn permits(
        &self,
        cluster: ClusterId,
        replication: ReplicationId,
        run: RunId,
        epochs: Epochs,
        generation: u64,
        reader: &AgentName,
        holder: &AgentName,
    ) -> Result<(), GrantError> {
        same(&self.cluster, &cluster, |granted, open| GrantError::Cluster { granted, open })?;
        same(&self.replication, &replication, |granted, open| GrantError::Replication { granted, open })?;
        same(&self.run, &run, |granted, open| GrantError::Run { granted, open })?;
        same(&self.epochs, &epochs, |granted, open| GrantError::Epochs { granted, open })?;
        same(&self.generation, &generation, |granted, open| GrantError::Generation { granted, open })?;
        same(&self.reader, reader, |granted, open| GrantError::Reader { granted, open })?;
        same(&self.holder, holder, |granted, open| GrantError::Holder { granted, open })
    }
}

fn same<T: PartialEq + Clone>(
    granted: &T,
    open: &T,
    mismatch: impl FnOnce(T, T) -> GrantError,
) -> Result<(), GrantError> {
    if granted == open { Ok(()) } else { Err(mismatch(granted.clone(), open.clone())) }
}

/// Signs a grant. What it gives is what [`open`] takes: that is tried before.
///
/// # Errors
/// [`GrantError`].
pub fn seal(authority: &CertificateAuthority, grant: &StreamGrant) -> Result<Vec<u8>, GrantError> {
    let sealed = sealed_text(authority, &serde_json::to_vec(grant)?)?;
    open(&sealed, authority.anchor())?;
    Ok(sealed)
}

pub(crate) fn sealed_text(authority: &CertificateAuthority, text: &[u8]) -> Result<Vec<u8>, GrantError> {
    let signature = authority.sign(&signed_part(text))?;
    let length = u16::try_from(text.len()).map_err(|_| GrantError::TooLong(text.len()))?;
    Ok([&[FORMAT], length.to_be_bytes().as_slice(), text, &signature].concat())
}

/// Reads a grant. Nothing of it is looked at before the signature has been checked.
///
/// # Errors
/// [`GrantError`].
pub fn open(sealed: &[u8], anchor: &TrustAnchor) -> Result<StreamGrant, GrantError> {
    if sealed.len() > GRANT_LIMIT {
        return Err(GrantError::TooLong(sealed.len()));
    }
    let (text, signature) = parts(sealed)?;
    if !anchor.has_signed(&signed_part(text), signature) {
        return Err(GrantError::Signature);
    }
    let grant = serde_json::from_slice(text)?;
    if serde_json::to_vec(&grant)? != text {
        return Err(GrantError::NotCanonical);
    }
    Ok(grant)
}

fn parts(sealed: &[u8]) -> Result<(&[u8], &[u8]), GrantError> {
    let (&[format, high, low], rest) = sealed.split_first_chunk::<HEAD>().ok_or(GrantError::Garbled)?;
    if format != FORMAT {
        return Err(GrantError::Format(format));
    }
    rest.split_at_checked(u16::from_be_bytes([high, low]).into()).ok_or(GrantError::Garbled)
}

fn signed_part(text: &[u8]) -> Vec<u8> {
    [DOMAIN, text].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tanist_model::id::Epoch;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_342_800_123_456);
    const CLUSTER: ClusterId = ClusterId(7);

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }

    fn authority() -> CertificateAuthority {
        CertificateAuthority::create(CLUSTER, NOW).unwrap()
    }

    fn epochs(source: u32, target: u32) -> Epochs {
        Epochs { source: Epoch(source), target: Epoch(target) }
    }

    fn grant() -> StreamGrant {
        StreamGrant {
            cluster: CLUSTER,
            replication: ReplicationId(8),
            run: RunId(9),
            epochs: epochs(3, 4),
            generation: u64::MAX,
            reader: name("h1"),
            holder: name("h2"),
            issued_at: NOW,
        }
    }

    #[test]
    fn a_grant_survives_sealing_with_the_longest_names_too() {
        let authority = authority();
        let long = StreamGrant { reader: name(&"r".repeat(63)), holder: name(&"h".repeat(63)), ..grant() };
        for grant in [grant(), long] {
            let sealed = seal(&authority, &grant).unwrap();
            assert!(sealed.len() <= GRANT_LIMIT / 4, "{}", sealed.len());
            assert_eq!(open(&sealed, authority.anchor()).unwrap(), grant);
        }
    }

    #[test]
    fn any_changed_missing_or_added_byte_is_refused() {
        let authority = authority();
        let sealed = seal(&authority, &grant()).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(open(&changed, authority.anchor()).is_err(), "byte {at}");
            assert!(open(&sealed[..at], authority.anchor()).is_err(), "cut at {at}");
        }
        assert!(open(&[&sealed[..], &[0]].concat(), authority.anchor()).is_err());
    }

    #[test]
    fn another_authority_of_the_same_cluster_opens_nothing() {
        let sealed = seal(&authority(), &grant()).unwrap();
        assert!(matches!(open(&sealed, authority().anchor()), Err(GrantError::Signature)));
    }

    #[test]
    fn a_signature_over_the_text_alone_is_for_something_else() {
        let authority = authority();
        let sealed = seal(&authority, &grant()).unwrap();
        let (text, _) = parts(&sealed).unwrap();
        let stripped = [&sealed[..HEAD + text.len()], &authority.sign(text).unwrap()].concat();
        assert!(matches!(open(&stripped, authority.anchor()), Err(GrantError::Signature)));
    }

    #[test]
    fn a_signed_text_is_read_strictly() {
        let authority = authority();
        let text = serde_json::to_string(&grant()).unwrap();
        assert_eq!(open(&sealed_text(&authority, text.as_bytes()).unwrap(), authority.anchor()).unwrap(), grant());
        let opened = |text: &str| open(&sealed_text(&authority, text.as_bytes()).unwrap(), authority.anchor());
        for more in [format!(" {text}"), text.replacen('{', r#"{"colour":"blue","#, 1), text.replace(r#"":"#, r#"": "#)]
        {
            assert!(matches!(opened(&more), Err(GrantError::NotCanonical)), "{more}");
        }
        for other in ["", "{}", "[]", &text.replace("h1", "H1"), &text.replace(r#""source":3"#, r#""source":-3"#)] {
            assert!(matches!(opened(other), Err(GrantError::Text(_))), "{other}");
        }
    }

    #[test]
    fn what_is_too_long_or_of_another_format_is_refused_by_name() {
        let authority = authority();
        let mut sealed = seal(&authority, &grant()).unwrap();
        sealed[0] = 2;
        assert!(matches!(open(&sealed, authority.anchor()), Err(GrantError::Format(2))));
        let long = vec![FORMAT; GRANT_LIMIT + 1];
        assert!(matches!(open(&long, authority.anchor()), Err(GrantError::TooLong(_))));
    }

    #[test]
    fn a_grant_that_could_not_be_opened_is_not_made() {
        let timeless = StreamGrant { issued_at: Timestamp(i64::MAX), ..grant() };
        assert!(matches!(seal(&authority(), &timeless), Err(GrantError::Text(_))));
    }

    /// What a holder would say to `shown` that has `grant()` open.
    fn judged(shown: &StreamGrant) -> Result<(), GrantError> {
        let open = grant();
        let StreamGrant { cluster, replication, run, epochs, generation, reader, holder, .. } = &open;
        shown.permits(*cluster, *replication, *run, *epochs, *generation, reader, holder)
    }

    #[test]
    fn each_difference_is_named() {
        use GrantError as E;
        judged(&StreamGrant { issued_at: Timestamp(0), ..grant() }).unwrap();
        let with = |change: fn(&mut StreamGrant)| {
            let mut shown = grant();
            change(&mut shown);
            let error = judged(&shown).unwrap_err();
            assert!(!error.hint().is_empty());
            error
        };
        assert!(matches!(with(|g| g.cluster = ClusterId(1)), E::Cluster { open: CLUSTER, .. }));
        assert!(matches!(with(|g| g.replication = ReplicationId(1)), E::Replication { .. }));
        assert!(matches!(with(|g| g.run = RunId(1)), E::Run { granted: RunId(1), open: RunId(9) }));
        assert!(matches!(with(|g| g.epochs = epochs(2, 4)), E::Epochs { .. }));
        assert!(matches!(with(|g| g.epochs = epochs(3, 5)), E::Epochs { .. }));
        assert!(matches!(with(|g| g.generation = 1), E::Generation { granted: 1, open: u64::MAX }));
        assert!(matches!(with(|g| g.reader = name("h3")), E::Reader { .. }));
        assert!(matches!(with(|g| g.holder = name("h3")), E::Holder { .. }));
        let exchanged = StreamGrant { reader: name("h2"), holder: name("h1"), ..grant() };
        assert!(matches!(judged(&exchanged), Err(E::Reader { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_open_nothing_and_panic_nowhere(bytes in prop::collection::vec(any::<u8>(), 0..GRANT_LIMIT + 2)) {
            prop_assert!(open(&bytes, anchor()).is_err());
        }

        #[test]
        fn arbitrary_texts_and_signatures_open_nothing(
            text in prop::collection::vec(any::<u8>(), 0..600),
            signature in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let length = u16::try_from(text.len()).unwrap().to_be_bytes();
            let sealed = [&[FORMAT], length.as_slice(), &text, &signature].concat();
            prop_assert!(matches!(open(&sealed, anchor()), Err(GrantError::Signature)));
        }
    }

    fn anchor() -> &'static TrustAnchor {
        static ANCHOR: std::sync::LazyLock<TrustAnchor> = std::sync::LazyLock::new(|| authority().anchor().clone());
        &ANCHOR
    }
}
