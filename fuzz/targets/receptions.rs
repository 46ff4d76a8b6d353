//! The decoder `receptions` under libFuzzer.

#![no_main]

tanist_fuzz::target!("receptions");
