//! The decoder `knowledge` under libFuzzer.

#![no_main]

tanist_fuzz::target!("knowledge");
