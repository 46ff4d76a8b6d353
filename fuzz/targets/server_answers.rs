//! The decoder `server_answers` under libFuzzer.

#![no_main]

tanist_fuzz::target!("server_answers");
