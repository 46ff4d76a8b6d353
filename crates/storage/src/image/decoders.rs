//! The decoders of image files, as far as only this room can reach them: see [`crate::decoders`].

use super::file_system::source_in;
use super::usage::{mount_point, process_in};

pub(crate) fn mount_of_loop(table: &str) -> Option<String> {
    mount_point(table, "loop1")
}

pub(crate) fn lock_holder(table: &str) -> Option<u32> {
    table.lines().find_map(|line| process_in(line, "08:01:12345"))
}

pub(crate) fn mount_source(table: &str) -> Option<String> {
    table.lines().find_map(|line| source_in(line, "0:52"))
}
