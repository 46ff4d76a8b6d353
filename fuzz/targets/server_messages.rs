//! The decoder `server_messages` under libFuzzer.

#![no_main]

tanist_fuzz::target!("server_messages");
