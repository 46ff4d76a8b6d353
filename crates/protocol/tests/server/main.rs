//! The server's machine without its shell: states that a test puts it in, and what it says and commits.

mod agenda;
mod applications;
mod care;
mod moments;
mod overlap;
mod pools;
mod removal;
mod shown;
mod silence;
mod ways;
mod world;
