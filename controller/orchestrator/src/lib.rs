//! Where workers are: sandboxes of this machine.
//!
//! Each implementation of the core's `Orchestrator` trait is a module; the gateway sees only the trait.
//! This crate must not know HTTP, tokens or identities.

pub mod local;
