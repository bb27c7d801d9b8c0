//! MCP's official conformance suite: a server that has all that it asks for, how the suite is run against it, and what it
//! cannot see, as faults of a proxy.

pub mod fault;
pub mod front;
pub mod server;
pub mod suite;
pub mod through;
