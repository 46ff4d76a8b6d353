//! The decoder `device_patterns` under libFuzzer.

#![no_main]

tanist_fuzz::target!("device_patterns");
