//! The decoder `preambles` under libFuzzer.

#![no_main]

tanist_fuzz::target!("preambles");
