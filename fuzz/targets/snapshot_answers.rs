//! The decoder `snapshot_answers` under libFuzzer.

#![no_main]

tanist_fuzz::target!("snapshot_answers");
