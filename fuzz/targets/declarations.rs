//! The decoder `declarations` under libFuzzer.

#![no_main]

tanist_fuzz::target!("declarations");
