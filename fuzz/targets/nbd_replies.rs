//! The decoder `nbd_replies` under libFuzzer.

#![no_main]

tanist_fuzz::target!("nbd_replies");
