//! The decoder `requests` under libFuzzer.

#![no_main]

tanist_fuzz::target!("requests");
