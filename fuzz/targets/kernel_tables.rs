//! The decoder `kernel_tables` under libFuzzer.

#![no_main]

tanist_fuzz::target!("kernel_tables");
