//! The decoder `message_streams` under libFuzzer.

#![no_main]

tanist_fuzz::target!("message_streams");
