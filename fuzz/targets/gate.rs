//! The decoder `gate` under libFuzzer.

#![no_main]

tanist_fuzz::target!("gate");
