//! How answers look. Rendering is pure: a view and a [`Style`] go in, text comes out; [`Screen`] alone writes.

pub mod apply;
pub mod bench;
pub mod drills;
pub mod error;
pub mod events;
pub mod explain;
pub mod lists;
pub mod matrix;
pub mod plan;
pub mod progress;
pub mod record;
#[cfg(test)]
pub(crate) mod samples;
pub mod screen;
pub mod show;
pub mod stages;
pub mod status;
pub mod style;
pub mod table;
pub mod takeovers;
#[cfg(test)]
mod tests;
pub mod units;
pub mod why;
pub mod words;

pub use screen::Screen;
pub use style::{Style, Tone};
