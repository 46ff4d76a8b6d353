//! The server's machine without its shell: states that a test puts it in, and what it says and commits.

mod agenda;
mod applications;
mod array;
mod care;
mod drill;
mod drill_timetable;
mod fenced;
mod handover;
mod moments;
mod networked;
mod numbers;
mod overlap;
mod pools;
mod readings;
mod removal;
mod shown;
mod silence;
mod ways;
mod world;
