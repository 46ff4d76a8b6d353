//! Asks a person before something that cannot be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use tanist_model::api::{Refusal, RefusalCode};

use crate::failure::Failure;
use crate::output::Screen;

/// True if a person is to be asked. A script is never made to wait: it said what it wants, and whoever asks for JSON is one.
#[must_use]
pub fn is_wanted(yes: bool, screen: &Screen) -> bool {
    !yes && !screen.is_json() && somebody_is_there()
}

/// True if somebody is there to answer: the question is read on standard error, and an answer that goes elsewhere belongs to
/// a script.
fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks, and refuses unless the answer is yes.
///
/// # Errors
/// [`Failure::Refused`] if the answer is no.
pub fn ask(question: &str) -> Result<(), Failure> {
    let failed = |source| Failure::io("ask for a confirmation", source);
    let mut screen = std::io::stderr().lock();
    write!(screen, "{question} [y/N] ").and_then(|()| screen.flush()).map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    if is_yes(&line) {
        Ok(())
    } else {
        Err(Refusal::new(RefusalCode::Invalid, "not confirmed; nothing was done").into())
    }
}

/// Asks if somebody is there, and refuses if nobody is: `--yes` says it beforehand.
///
/// # Errors
/// [`Failure::Refused`].
pub fn require(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if somebody_is_there() {
        return ask(question);
    }
    let refusal = Refusal::new(RefusalCode::Invalid, "this needs a confirmation, and nobody is there to ask");
    Err(refusal.cause(question).hint("if that is so, say `--yes`").into())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("YES"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("yep") && !is_yes("n"));
    }
}
