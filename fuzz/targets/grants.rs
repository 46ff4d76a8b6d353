//! The decoder `grants` under libFuzzer.

#![no_main]

tanist_fuzz::target!("grants");
