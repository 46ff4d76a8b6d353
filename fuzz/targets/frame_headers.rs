//! The decoder `frame_headers` under libFuzzer.

#![no_main]

tanist_fuzz::target!("frame_headers");
