//! The decoder `bookmarks` under libFuzzer.

#![no_main]

tanist_fuzz::target!("bookmarks");
