//! Black-box suites of Patchbay, and the doubles and fixtures that they run against.

pub mod fixture;
pub mod binaries;
pub mod controller;
pub mod http;
pub mod mcp;
pub mod processes;
