//! The decoder `lvm_deltas` under libFuzzer.

#![no_main]

tanist_fuzz::target!("lvm_deltas");
