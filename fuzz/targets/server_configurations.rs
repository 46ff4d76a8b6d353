//! The decoder `server_configurations` under libFuzzer.

#![no_main]

tanist_fuzz::target!("server_configurations");
