//! What `tanist bench` does beyond asking what is there: worlds of its own, made and taken down again.

pub mod server;
