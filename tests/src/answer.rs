//! What a command answered: its exit status, its JSON, or its refusal.

use serde::de::DeserializeOwned;
use tanist_model::api::{Refusal, RefusalCode};

/// The end of one command.
#[derive(Debug)]
pub struct Answer {
    /// The command line, for messages.
    pub asked: String,
    /// The exit status; a death by signal counts as -1.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The body of an answer that must be a good one.
    ///
    /// # Panics
    /// If the command failed or its body is another one.
    #[track_caller]
    pub fn body<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 0, "{self}");
        self.any_body()
    }

    /// The body, whatever the exit status.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn any_body<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// # Panics
    /// If the command failed.
    #[track_caller]
    pub fn done(&self) {
        assert_eq!(self.status, 0, "{self}");
    }

    /// The refusal of a command that must be refused for this kind of reason.
    ///
    /// # Panics
    /// If it was not refused, or for another kind of reason.
    #[track_caller]
    pub fn refused(&self, code: RefusalCode) -> Refusal {
        assert_eq!(self.status, 1, "{self}");
        let refusal: Refusal = serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}\n{self}"));
        assert_eq!(refusal.code, code, "{self}");
        refusal
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}\n{}\n{}", self.asked, self.status, self.stdout, self.stderr)
    }
}
