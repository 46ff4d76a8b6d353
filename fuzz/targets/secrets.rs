//! The decoder `secrets` under libFuzzer.

#![no_main]

tanist_fuzz::target!("secrets");
