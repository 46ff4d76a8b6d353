//! The decoder `page_sets` under libFuzzer.

#![no_main]

tanist_fuzz::target!("page_sets");
