//! The decoder `names` under libFuzzer.

#![no_main]

tanist_fuzz::target!("names");
