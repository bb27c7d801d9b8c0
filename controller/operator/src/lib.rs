//! The operator: what a class says becomes the Kubernetes objects that make it so.
//!
//! It knows desired state; it never sees a request, a tenant's credential or a gateway. So far it holds the
//! pure part, [`build`], which needs no client and no clock.

pub mod build;
pub mod settings;

pub use settings::Settings;
