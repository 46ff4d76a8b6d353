//! The decoder `certificates` under libFuzzer.

#![no_main]

tanist_fuzz::target!("certificates");
