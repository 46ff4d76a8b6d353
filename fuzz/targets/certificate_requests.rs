//! The decoder `certificate_requests` under libFuzzer.

#![no_main]

tanist_fuzz::target!("certificate_requests");
