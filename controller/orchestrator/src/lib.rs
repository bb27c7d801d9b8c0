//! Where workers are: sandboxes of this machine, or pods of a cluster.
//!
//! Each implementation of the core's `Orchestrator` trait is a module; the gateway sees only the trait.
//! This crate must not know HTTP, tokens or identities.

mod changes;
pub mod kubernetes;
pub mod local;
