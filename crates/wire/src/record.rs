//! The server's word on one takeover, for somebody who has neither the server nor its log: sealed by the server, opened offline, against
//! the authority that the reader trusts.
//!
//! The authority's own key signs, as it signs stream grants: everybody who belongs to the installation knows it, it is not renewed
//! with the server's certificate, and so a record outlives every renewal. What was signed is carried as it was signed. Around it nothing
//! is free either: a document of which a byte is not as a server writes it is refused, whether or not that byte matters.

use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tanist_model::id::ClusterId;
use tanist_model::takeover::{SignedRecord, TakeoverStatement};
use tanist_model::time::Timestamp;

use crate::ca::CertificateAuthority;
use crate::certificate::{CaHash, CertificateProblem, TrustAnchor};

/// More than any record has, bytes.
pub const RECORD_LIMIT: usize = 1 << 20;

/// By what the reader knows the authority.
#[derive(Clone, Debug)]
pub enum Trusted {
    Authority(TrustAnchor),
    Hash(CaHash),
}

impl Trusted {
    fn hash(&self) -> CaHash {
        match self {
            Self::Authority(anchor) => anchor.hash(),
            Self::Hash(hash) => *hash,
        }
    }
}

/// A record that was found to be genuine.
#[derive(Clone, Debug)]
pub struct Opened {
    pub statement: TakeoverStatement,
    pub authority: TrustAnchor,
}

/// Why a record was not made, or proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("sign the record: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("the record has {0} bytes, more than {RECORD_LIMIT}")]
    TooLong(usize),
    #[error("it is not a signed record: {0}")]
    Garbled(serde_json::Error),
    #[error("it has format '{0}', and '{understood}' is understood here", understood = SignedRecord::FORMAT)]
    Format(String),
    #[error("it is not written as a server writes it: a byte of it was altered, or a program wrote it anew")]
    Rewritten,
    #[error("it carries no readable certificate of an authority: {0}")]
    Authority(CertificateProblem),
    #[error("it was signed by the authority {shown} of cluster {cluster}, and {trusted} is trusted here")]
    Foreign { shown: CaHash, cluster: ClusterId, trusted: CaHash },
    #[error("the signature is not that of the authority over this statement")]
    Signature,
    #[error("the statement is signed and not understood: {0}")]
    Statement(serde_json::Error),
    #[error("the statement is signed, and says more than is understood here: {0}")]
    SaysMore(String),
    #[error("the statement is of cluster {stated}, and its authority is that of cluster {authority}")]
    Cluster { stated: ClusterId, authority: ClusterId },
    #[error("it was signed at {at}, and the authority's certificate is valid from {not_before} to {not_after}")]
    NotInForce { at: Timestamp, not_before: Timestamp, not_after: Timestamp },
}

impl RecordError {
    /// What the reader can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Sign(_) => "this is a fault of the server's host or of its authority's key: restore it from a backup",
            Self::Format(_) | Self::SaysMore(_) | Self::Statement(_) => {
                "check it with the version of tanist that wrote it, or with a later one"
            }
            Self::Foreign { .. } => {
                "name the authority of the installation that the record is of: --authority CA.pem, from that server's GET /api/v1/ca or \
                 its directory"
            }
            Self::TooLong(_) | Self::Garbled(_) | Self::Rewritten | Self::Authority(_) | Self::Signature => {
                "believe nothing of it; have it printed again by its server: tanist replication record NAME EPOCH > FILE"
            }
            Self::Cluster { .. } | Self::NotInForce { .. } => {
                "believe nothing of it: the authority's key has signed what no server of tanist says; find out who has that key"
            }
        }
    }
}

/// Signs a statement. What it gives is what [`open`] takes: that is tried before.
///
/// # Errors
/// [`RecordError`].
pub fn seal(authority: &CertificateAuthority, statement: &TakeoverStatement) -> Result<SignedRecord, RecordError> {
    let text = serde_json::to_string(statement).map_err(RecordError::Statement)?;
    let record = SignedRecord {
        format: SignedRecord::FORMAT.to_owned(),
        signature: hex::encode(authority.sign(&signed_part(SignedRecord::FORMAT, &text))?),
        statement: text,
        authority: hex::encode(authority.anchor().der()),
    };
    open(&write(&record)?, &Trusted::Authority(authority.anchor().clone()))?;
    Ok(record)
}

/// The document as bytes: the one way to write it, with a line break at its end.
///
/// # Errors
/// [`RecordError::Garbled`] if it cannot be written as JSON.
pub fn write(record: &SignedRecord) -> Result<Vec<u8>, RecordError> {
    let mut bytes = serde_json::to_vec(record).map_err(RecordError::Garbled)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a document and checks who signed it. Nothing of the statement is looked at before; whether it is consistent in itself
/// ([`TakeoverStatement::contradictions`]) is another question.
///
/// # Errors
/// [`RecordError`].
pub fn open(document: &[u8], trusted: &Trusted) -> Result<Opened, RecordError> {
    if document.len() > RECORD_LIMIT {
        return Err(RecordError::TooLong(document.len()));
    }
    let record: SignedRecord = serde_json::from_slice(document).map_err(RecordError::Garbled)?;
    if record.format != SignedRecord::FORMAT {
        return Err(RecordError::Format(record.format));
    }
    // The API sends it without the line break.
    let written = write(&record)?;
    if document != written && Some(document) != written.strip_suffix(b"\n") {
        return Err(RecordError::Rewritten);
    }
    let anchor = shown_authority(&record, trusted)?;
    let signature = bytes_of(&record.signature)?;
    if !anchor.has_signed(&signed_part(&record.format, &record.statement), &signature) {
        return Err(RecordError::Signature);
    }
    let statement = understood(&record.statement)?;
    stated_in_force(&statement, &anchor)?;
    Ok(Opened { statement, authority: anchor })
}

/// The authority that the document shows, if it is the one that is trusted: it shows what is meant, and is no reason to believe it.
fn shown_authority(record: &SignedRecord, trusted: &Trusted) -> Result<TrustAnchor, RecordError> {
    let der = CertificateDer::from(bytes_of(&record.authority)?);
    let (shown, expected) = (CaHash::of(&der), trusted.hash());
    let anchor = TrustAnchor::from_der(der).map_err(RecordError::Authority)?;
    if shown != expected {
        return Err(RecordError::Foreign { shown, cluster: anchor.cluster(), trusted: expected });
    }
    Ok(anchor)
}

/// Lower case only: each text of bytes has one form.
fn bytes_of(text: &str) -> Result<Vec<u8>, RecordError> {
    let bytes = hex::decode(text).map_err(|_| RecordError::Rewritten)?;
    if hex::encode(&bytes) == text { Ok(bytes) } else { Err(RecordError::Rewritten) }
}

/// The statement, if all of it is understood: a field that is passed over in silence would look as if it had been checked.
fn understood(text: &str) -> Result<TakeoverStatement, RecordError> {
    let said: Value = serde_json::from_str(text).map_err(RecordError::Statement)?;
    let statement: TakeoverStatement = serde_json::from_str(text).map_err(RecordError::Statement)?;
    let heard = serde_json::to_value(&statement).map_err(RecordError::Statement)?;
    match passed_over(&said, &heard, "") {
        Some(path) => Err(RecordError::SaysMore(path)),
        None => Ok(statement),
    }
}

/// The first thing said that was not heard. What is heard and was not said is a default of a later version.
fn passed_over(said: &Value, heard: &Value, path: &str) -> Option<String> {
    match (said, heard) {
        (Value::Object(said), Value::Object(heard)) => said.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            heard.get(key).map_or(Some(path.clone()), |heard| passed_over(value, heard, &path))
        }),
        (Value::Array(said), Value::Array(heard)) if said.len() == heard.len() => {
            let pairs = said.iter().zip(heard).enumerate();
            pairs.into_iter().find_map(|(at, (said, heard))| passed_over(said, heard, &format!("{path}[{at}]")))
        }
        _ => (said != heard).then(|| path.to_owned()),
    }
}

fn stated_in_force(statement: &TakeoverStatement, anchor: &TrustAnchor) -> Result<(), RecordError> {
    let (stated, authority) = (statement.cluster, anchor.cluster());
    if stated != authority {
        return Err(RecordError::Cluster { stated, authority });
    }
    let (at, (not_before, not_after)) = (statement.signed_at, anchor.validity());
    if at < not_before || not_after < at {
        return Err(RecordError::NotInForce { at, not_before, not_after });
    }
    Ok(())
}

/// The format goes before the statement, so that no signature of this key for another purpose can be taken for one of these:
/// certificates begin with 0x30, grants with their own words.
fn signed_part(format: &str, statement: &str) -> Vec<u8> {
    [format.as_bytes(), b"\0", statement.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
