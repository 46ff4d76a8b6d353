//! The decoder `sendings` under libFuzzer.

#![no_main]

tanist_fuzz::target!("sendings");
