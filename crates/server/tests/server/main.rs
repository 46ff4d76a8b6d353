//! A whole server, spoken to as agents and operators speak to it: real TLS on a real socket, a real store, scripted agents.

mod alarms;
mod joining;
mod puppet;
mod renewing;
mod replicating;
mod serving;
mod store;
mod watched;
mod world;
