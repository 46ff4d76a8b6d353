//! The decoder `signatures` under libFuzzer.

#![no_main]

tanist_fuzz::target!("signatures");
