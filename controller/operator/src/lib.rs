//! The operator: what a class says becomes the Kubernetes objects that make it so.
//!
//! It knows desired state; it never sees a request, a tenant's credential or a gateway. The pure parts need no client
//! and no clock: [`build`] makes manifests, [`observe`] reads pods, [`worker_class`] decides what to do and what to
//! say of a class, [`tenant`] what to say of a tenant, [`identity_provider`] of a provider, [`enrol`] which key is a pod's, and [`lease`] who leads.
//! [`driver`] carries it out, on what [`cache`] sees, and [`link`] is its way to workers.

pub mod api_error;
pub mod authority;
pub mod build;
pub mod cache;
pub mod driver;
pub mod enrol;
pub mod identity_provider;
pub mod lease;
pub mod link;
pub mod observe;
mod params;
pub mod session_roots;
pub mod settings;
pub mod tenant;
mod total;
pub mod worker_class;

pub use settings::Settings;
