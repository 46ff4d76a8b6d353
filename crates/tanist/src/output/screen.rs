//! The one place that writes: answers to standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tanist_model::time::Timestamp;

use super::error::render_refusal;
use super::style::{Style, wants_colour};
use crate::cli::Format;
use crate::failure::Failure;

/// Where a command's answer goes, and in which form.
#[derive(Debug)]
pub struct Screen {
    format: Format,
}

impl Screen {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The style of standard output now.
    #[must_use]
    pub fn style(&self) -> Style {
        style(std::io::stdout().is_terminal())
    }

    /// Writes an answer: the body itself as JSON, or as `render` has it.
    ///
    /// # Errors
    /// [`Failure::Io`] if standard output is gone.
    pub fn answer<T: Serialize>(&self, body: &T, render: impl FnOnce(&T, Style) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.text(&json(body, std::io::stdout().is_terminal())),
            Format::Table => self.text(&render(body, self.style())),
        }
    }

    /// Writes one body of a stream: as JSON always on one line.
    ///
    /// # Errors
    /// [`Failure::Io`] if standard output is gone.
    pub fn item<T: Serialize>(&self, body: &T, render: impl FnOnce(&T, Style) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.text(&json(body, false)),
            Format::Table => self.text(&render(body, self.style())),
        }
    }

    /// Writes text that has no JSON form, ending in a line break.
    ///
    /// # Errors
    /// [`Failure::Io`] if standard output is gone.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let line_break = if text.ends_with('\n') { "" } else { "\n" };
        let written = write!(out, "{text}{line_break}").and_then(|()| out.flush());
        written.map_err(|source| Failure::io("write the answer", source))
    }

    /// Tells a person something besides the answer; programs are not disturbed.
    pub fn note(&self, text: &str) {
        if !self.is_json() {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Tells why the command failed.
    pub fn failure(&self, failure: &Failure) {
        let refusal = failure.refusal();
        let terminal = std::io::stderr().is_terminal();
        let text = match self.format {
            Format::Json => json(&refusal, terminal),
            Format::Table => render_refusal(&refusal, style(terminal)),
        };
        let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    }
}

fn style(terminal: bool) -> Style {
    let no_color = std::env::var("NO_COLOR").ok();
    let term = std::env::var("TERM").ok();
    Style { colour: wants_colour(terminal, no_color.as_deref(), term.as_deref()), now: now() }
}

/// The wall clock, for ages.
#[must_use]
pub fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(elapsed)
}

/// The bodies are plain data with text keys; those always have a JSON form.
fn json<T: Serialize>(body: &T, pretty: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(body) } else { serde_json::to_string(body) };
    text.unwrap_or_default()
}
