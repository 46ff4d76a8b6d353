//! Agents without hosts: as many of them in one process as a server is to be tried with.
//!
//! To the server each is an agent like any other: the protocol's own machine decides, the product's own link dials, proves who it is
//! with a certificate of its own, and finds its way back. What is not there is what an agent has below it. Its volumes exist in its reports
//! only, its engine says at once that it has opened what it was told to open, and it learns how its peers are from a table of this
//! process instead of a ping. So a crowd shows what agents cost their server, and nothing of what they cost their hosts.

#![forbid(unsafe_code)]

mod body;
mod engine;
mod members;
mod roll;
mod sight;
mod volumes;

pub use members::{Crowd, CrowdError, Welcome};
pub use roll::Loss;
pub use volumes::{source_of, target_of};
