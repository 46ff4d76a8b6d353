//! The decoder `stored_digests` under libFuzzer.

#![no_main]

tanist_fuzz::target!("stored_digests");
