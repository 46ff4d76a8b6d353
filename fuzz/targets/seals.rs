//! The decoder `seals` under libFuzzer.

#![no_main]

tanist_fuzz::target!("seals");
