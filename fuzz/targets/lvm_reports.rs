//! The decoder `lvm_reports` under libFuzzer.

#![no_main]

tanist_fuzz::target!("lvm_reports");
