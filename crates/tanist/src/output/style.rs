//! What rendering may know of the outside: whether colours are wanted, and what time it is.

use anstyle::{AnsiColor, Style as Ansi};
use tanist_model::time::Timestamp;

/// How to render.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub colour: bool,
    /// Ages are told against this time.
    pub now: Timestamp,
}

/// What a piece of text means to the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    /// Less important than what stands around it.
    Dim,
    /// A heading, or what the eye should find first.
    Strong,
    Plain,
}

impl Tone {
    fn ansi(self) -> Ansi {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Dim => Ansi::new().dimmed(),
            Self::Strong => Ansi::new().bold(),
            Self::Plain => Ansi::new(),
        }
    }
}

impl Style {
    /// The text in its tone, if colours are wanted.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        let ansi = tone.ansi();
        format!("{ansi}{text}{ansi:#}")
    }
}

/// Colours are for terminals whose owner did not decline them (`NO_COLOR`, see no-color.org; `TERM=dumb`).
#[must_use]
pub fn wants_colour(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert!(wants_colour(true, None, Some("xterm")));
        assert!(wants_colour(true, Some(""), None));
        assert!(!wants_colour(false, None, None));
        assert!(!wants_colour(true, Some("1"), None));
        assert!(!wants_colour(true, None, Some("dumb")));
    }

    #[test]
    fn painting_adds_nothing_without_colour() {
        let plain = Style { colour: false, now: Timestamp(0) };
        assert_eq!(plain.paint(Tone::Bad, "stopped"), "stopped");
        let colour = Style { colour: true, ..plain };
        assert_eq!(colour.paint(Tone::Strong, "x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
