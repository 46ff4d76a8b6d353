//! The decoder `retentions` under libFuzzer.

#![no_main]

tanist_fuzz::target!("retentions");
