//! The decoder `recordings` under libFuzzer.

#![no_main]

tanist_fuzz::target!("recordings");
