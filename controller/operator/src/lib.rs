//! The operator: what a class says becomes the Kubernetes objects that make it so.
//!
//! It knows desired state; it never sees a request, a tenant's credential or a gateway. So far it holds the
//! pure parts, which need no client and no clock: [`build`] makes manifests, [`observe`] reads pods,
//! [`worker_class`] decides what to do and what to say of a class, [`tenant`] what to say of a tenant,
//! [`enrol`] which key is a pod's, and [`lease`] who leads.

pub mod authority;
pub mod build;
pub mod enrol;
pub mod lease;
pub mod observe;
pub mod settings;
pub mod tenant;
mod total;
pub mod worker_class;

pub use settings::Settings;
