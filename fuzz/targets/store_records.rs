//! The decoder `store_records` under libFuzzer.

#![no_main]

tanist_fuzz::target!("store_records");
