//! MCP's official conformance suite: a server that has all that it asks for.

pub mod server;
