//! The words of Patchbay's domain, its pure decisions, and the wire types of the worker link.
//!
//! Everything here takes values (and, where time matters, `now`) and returns values. This crate knows
//! no Kubernetes, no HTTP server, no runtime, no clock and no environment: those live at the edge, in
//! the crates that depend on it.

pub mod allowed;
pub mod aws_keys;
pub mod boot;
pub mod chain;
pub mod cidr;
pub mod class;
pub mod digest;
pub mod egress;
pub mod enhanced;
pub mod entitlement;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod grant;
pub mod id;
pub mod identity;
pub mod idle;
pub mod jitter;
pub mod latch;
pub mod launch;
pub mod link;
pub mod mcp;
pub mod orchestrator;
pub mod pin;
pub mod placement;
pub mod provider;
pub mod quilt;
pub mod rate;
pub mod role;
pub mod routing;
pub mod session;
pub mod strict_json;
pub mod template;
pub mod tenant;
pub mod tools;
