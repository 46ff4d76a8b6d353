//! The decoder `backups` under libFuzzer.

#![no_main]

tanist_fuzz::target!("backups");
