//! The decoder `typed_values` under libFuzzer.

#![no_main]

tanist_fuzz::target!("typed_values");
