//! The decoder `agent_files` under libFuzzer.

#![no_main]

tanist_fuzz::target!("agent_files");
