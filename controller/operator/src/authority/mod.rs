//! The control plane's certificate authority: who may speak to workers, from a Secret to certificates of roles.
//!
//! Workers trust the roots in a `ConfigMap` that they mount; a gateway and an operator show a certificate that one of
//! these signed. [`rotation`] decides when a root gives way to the next, [`bundle`] what workers trust meanwhile,
//! [`root`] makes roots and certificates, and [`keep`] carries it out for the leader; where others make them,
//! [`Publisher`] is all that is left. A root's key is in one Secret, which the operator alone reads. None of this
//! knows workers, tenants or classes.

pub mod bundle;
mod error;
pub mod keep;
mod publish;
pub mod root;
pub mod rotation;

pub use self::{
    bundle::Bundle,
    error::KeepError,
    keep::{Keeper, Kept, Names},
    publish::Publisher,
    root::{Certificate, Root, Roots},
    rotation::Terms,
};
