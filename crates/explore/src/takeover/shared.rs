//! A part of a state that many states have in common: kept once, and known by its fingerprint.
//!
//! The machines say what they are by their `Debug` form, which leaves nothing out: every field of theirs is derived. Its hash is taken once,
//! when a part changes, and stands for the part from then on. Two parts that differ and hash alike would pass for one: with 64 bits
//! and the ten million states of the largest world that is as likely as one in a hundred thousand.

use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A value, shared by the states that have it.
pub struct Shared<T>(Arc<Part<T>>);

/// The print is kept with the value: whoever takes it first takes it for all.
#[derive(Debug)]
struct Part<T> {
    value: T,
    print: OnceLock<u64>,
}

impl<T: Clone> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), print: OnceLock::new() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Part { value, print: OnceLock::new() }))
    }
}

impl<T: Clone> Shared<T> {
    /// Changes it for this state alone.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let part = Arc::make_mut(&mut self.0);
        part.print = OnceLock::new();
        change(&mut part.value)
    }
}

impl<T: Debug> Shared<T> {
    pub fn print(&self) -> u64 {
        *self.0.print.get_or_init(|| print_of(&self.0.value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Debug> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print() == other.print()
    }
}

impl<T: Debug> Eq for Shared<T> {}

impl<T: Debug> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print().hash(state);
    }
}

impl<T: Debug> Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

/// Takes a `Debug` form as it is written, a buffer at a time, without keeping it.
struct Printer {
    hasher: DefaultHasher,
    buffer: [u8; 512],
    filled: usize,
}

impl Printer {
    fn empty(&mut self) {
        self.hasher.write(&self.buffer[..self.filled]);
        self.filled = 0;
    }
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.filled == self.buffer.len() {
                self.empty();
            }
            let (now, later) = rest.split_at(rest.len().min(self.buffer.len() - self.filled));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            rest = later;
        }
        Ok(())
    }
}

/// A print of a `Debug` form.
pub fn print_of(value: &impl Debug) -> u64 {
    let mut printer = Printer { hasher: DefaultHasher::new(), buffer: [0; 512], filled: 0 };
    // A buffer that is emptied takes everything.
    let _ = write!(printer, "{value:?}");
    printer.empty();
    printer.hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_of_one_state_alone_and_shows_in_the_print() {
        let first = Shared::new(vec![1]);
        let mut second = first.clone();
        assert_eq!(first, second);
        second.change(|list| list.push(2));
        assert_ne!(first, second);
        assert_eq!(*first, [1]);
        second.change(Vec::pop);
        assert_eq!(first, second);
    }
}
