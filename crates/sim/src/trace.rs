//! What happened, as a hash always (the same seed gives the same one) and as a readable log when asked for.

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: verbose.then(Vec::new) }
    }

    /// Notes an event: two numbers for the hash, a sentence for the reader.
    pub fn note(&mut self, at: u64, kind: &'static str, number: u64, sentence: impl FnOnce() -> String) {
        for byte in kind.bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(at);
        self.mix(number);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6}  {kind:<10} {}", at as f64 / 1e6, sentence()));
        }
    }

    fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
    }

    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The log, if it was asked for.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or(&[])
    }
}
