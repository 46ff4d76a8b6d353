//! Why a connection ended, in words that are true of what was seen.

use std::io::ErrorKind;

use tanist_wire::frame::FrameError;

#[must_use]
pub fn why_ended(error: &FrameError) -> String {
    let FrameError::Io(source) = error else { return error.to_string() };
    match source.kind() {
        // A process that dies closes its socket without the goodbye of TLS.
        ErrorKind::UnexpectedEof => "it was closed without a goodbye, as when a process dies".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "it was reset by the agent's host".to_owned(),
        ErrorKind::TimedOut => "the agent's host no longer answers".to_owned(),
        _ => source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_reads_differently_from_a_reset() {
        let words = |kind: ErrorKind| why_ended(&FrameError::Io(kind.into()));
        assert!(words(ErrorKind::UnexpectedEof).contains("without a goodbye"));
        assert!(words(ErrorKind::ConnectionReset).contains("reset"));
        assert_eq!(why_ended(&FrameError::Failed), FrameError::Failed.to_string());
    }
}
