//! The decoder `agent_messages` under libFuzzer.

#![no_main]

tanist_fuzz::target!("agent_messages");
