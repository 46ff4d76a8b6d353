//! A broken rule, and where: what every check returns.

use std::fmt;

/// One broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, with the line where there is one, relative to the checkout.
    pub place: String,
    /// What is wrong there, and what to do instead.
    pub complaint: String,
}

impl Finding {
    pub fn new(place: impl Into<String>, complaint: impl Into<String>) -> Self {
        Self { place: place.into(), complaint: complaint.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.complaint)
    }
}

/// Fails a test with every finding listed.
#[cfg(test)]
pub fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}
