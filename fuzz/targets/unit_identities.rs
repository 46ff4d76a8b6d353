//! The decoder `unit_identities` under libFuzzer.

#![no_main]

tanist_fuzz::target!("unit_identities");
