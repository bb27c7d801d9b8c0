//! From a validated class and the installation's settings to Kubernetes objects. Pure: no client, no clock.
//!
//! All workers of a class are alike: no function here is given anything of a tenant, so nothing of one can
//! get into a manifest. What a builder makes depends on its arguments alone, and the same arguments give the
//! same bytes.

mod boot;
mod containers;
pub mod disruption_budget;
mod error;
pub mod labels;
mod metadata;
pub mod network_policy;
mod places;
mod pod;
pub mod ranges;
mod revision;
pub mod service_account;
mod volumes;

pub use self::{
    error::BuildError,
    metadata::ClassRef,
    pod::{AGENT, SERVER, Worker, worker},
};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod pod_tests;
