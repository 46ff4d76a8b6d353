//! The decoder `schedules` under libFuzzer.

#![no_main]

tanist_fuzz::target!("schedules");
