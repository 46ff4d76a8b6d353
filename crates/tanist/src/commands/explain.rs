//! `tanist explain`.

use std::process::ExitCode;

use serde::Serialize;
use tanist_model::event::{EventCode, Severity};

use super::Outcome;
use super::session::Session;
use crate::cli::ExplainArgs;
use crate::output::explain::{page, render_codes, render_page};

/// A code and what is known of it, for programs.
#[derive(Serialize)]
struct Explanation {
    code: EventCode,
    severity: Severity,
    title: &'static str,
    page: &'static str,
}

pub fn run(args: &ExplainArgs, session: &Session<'_>) -> Outcome {
    match args.code {
        Some(code) => session.screen.answer(&explanation(code), |e, style| render_page(e.page, style))?,
        None => {
            let all: Vec<Explanation> = EventCode::ALL.iter().copied().map(explanation).collect();
            session.screen.answer(&all, |_, style| render_codes(style))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explanation(code: EventCode) -> Explanation {
    Explanation { code, severity: code.severity(), title: code.title(), page: page(code).unwrap_or_default() }
}
