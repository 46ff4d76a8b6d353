//! `tanist demo`.

use tanist_model::api::{Refusal, RefusalCode};

use super::Outcome;
use super::session::Session;
use crate::cli::server::DemoArgs;

pub fn run(_args: &DemoArgs, _session: &Session<'_>) -> Outcome {
    Err(Refusal::new(RefusalCode::Invalid, "this build has the operator's commands only, and no demonstration").into())
}
