//! The decoder `agent_configurations` under libFuzzer.

#![no_main]

tanist_fuzz::target!("agent_configurations");
