//! Why an alarm was not delivered. All of it may pass: the notice is tried again until it is delivered.

use tanist_script::{Exit, Said};
use tanist_wire::file::FileError;

/// What went wrong with one delivery, for the operator who reads `status`.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{0}")]
    Secret(#[from] FileError),
    #[error("the trusted certificates cannot be used: {0}")]
    Trust(String),
    #[error("it did not end within {} s", .0.as_secs())]
    Late(std::time::Duration),
    #[error("the webhook was not reached: {0}")]
    Unreached(String),
    #[error("the webhook answered {status}{}", said(.body))]
    Answered { status: u16, body: String },
    #[error("the mail was not taken: {0}")]
    Mail(String),
    #[error("the script {program} could not be started: {cause}")]
    NotStarted { program: String, cause: std::io::Error },
    #[error("the script {}{}", .0.in_words(), .1.quote())]
    Script(Exit, Said),
    #[error("the alarm cannot be used as it is configured: {0}")]
    Config(String),
}

/// What the other side said, on one line, after a colon; nothing if it said nothing.
fn said(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(300).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

/// An error with everything that led to it, in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
