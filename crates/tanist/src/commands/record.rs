//! `tanist replication record` and `tanist verify-record`: evidence of a takeover, and its check without a server.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::takeover::SignedRecord;
use tanist_wire::certificate::{CaHash, TrustAnchor};
use tanist_wire::record::{self, Opened, RECORD_LIMIT, Trusted};

use super::Outcome;
use super::session::Session;
use crate::cli::VerifyRecordArgs;
use crate::client::context::Context;
use crate::failure::Failure;
use crate::output::record::{VerifiedRecord, render_verified};

/// The document as it is to be kept, in whatever form answers are wanted: it has one only.
pub fn print(record: &SignedRecord, session: &Session<'_>) -> Outcome {
    let unwritable = |error: record::RecordError| Refusal::new(RefusalCode::Internal, error.to_string());
    let document = record::write(record).map_err(unwritable)?;
    session.screen.text(&String::from_utf8_lossy(&document))?;
    Ok(ExitCode::SUCCESS)
}

pub fn verify(args: &VerifyRecordArgs, session: &Session<'_>) -> Outcome {
    let document = read(&args.file)?;
    let opened = record::open(&document, &trusted(args, session)?)
        .map_err(|error| refused(args, "is not genuine", error.to_string()).hint(error.hint()))?;
    consistent(args, &opened)?;
    session.screen.answer(&VerifiedRecord::of(opened), render_verified)?;
    Ok(ExitCode::SUCCESS)
}

/// What the authority has signed can still be impossible: a server whose store was tampered with signs what it finds there.
fn consistent(args: &VerifyRecordArgs, opened: &Opened) -> Result<(), Refusal> {
    let found: Vec<String> = opened.statement.contradictions().iter().map(ToString::to_string).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(refused(args, "is signed, and contradicts itself", found.join("; ")).hint(
        "believe nothing of it, and look at that server: its store was altered, or tanist has a fault; please report it with this file",
    ))
}

fn refused(args: &VerifyRecordArgs, what: &str, cause: String) -> Refusal {
    Refusal::new(RefusalCode::Invalid, format!("the record {} {what}", args.file.display())).cause(cause)
}

/// Whoever is trusted: nothing that stands in the document decides it.
fn trusted(args: &VerifyRecordArgs, session: &Session<'_>) -> Result<Trusted, Failure> {
    if let Some(hash) = &args.ca_hash {
        let hash = hash.parse::<CaHash>().map_err(|e| Refusal::new(RefusalCode::Invalid, e.to_string()))?;
        return Ok(Trusted::Hash(hash));
    }
    let (place, pem) = match &args.authority {
        Some(file) => (file.clone(), text(file)?),
        None => context_authority(session)?,
    };
    let unusable = |cause: String| {
        Refusal::new(RefusalCode::Invalid, format!("{} has no certificate of an authority", place.display()))
            .cause(cause)
            .hint("name the ca.pem of the server's directory, or what GET /api/v1/ca gives")
    };
    let anchor = TrustAnchor::from_pem(&pem).map_err(|problem| unusable(problem.to_string()))?;
    Ok(Trusted::Authority(anchor))
}

fn context_authority(session: &Session<'_>) -> Result<(std::path::PathBuf, String), Failure> {
    let file = session.context_file()?;
    match Context::load(&file) {
        Ok(context) => Ok((file, context.ca)),
        Err(error) => {
            let refusal = Refusal::new(RefusalCode::Invalid, "it is not said which authority is trusted");
            Err(refusal.cause(error.to_string()).hint("name it: --authority CA.pem, or --ca-hash HASH").into())
        }
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|source| Failure::io(format!("read {}", file.display()), source))
}

/// No more than any record has, whatever the file is.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::io(format!("read {}", file.display()), source);
    let limit = RECORD_LIMIT as u64 + 1;
    let mut document = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut document).map_err(failed)?;
    } else {
        std::fs::File::open(file).map_err(failed)?.take(limit).read_to_end(&mut document).map_err(failed)?;
    }
    Ok(document)
}
