//! A class's workers: what to do about them, and what to say of them.
//!
//! [`plan`] turns what is seen into actions, [`status`] into a status. Both are given the same [`View`], which
//! may be stale and incomplete: nothing that cannot be undone follows from the absence of something in a cache.

pub mod advice;
pub mod backoff;
mod lives;
mod pace;
pub mod plan;
pub mod status;
mod supply;
mod view;

pub use self::{
    pace::Pace,
    plan::{Action, Plan, plan},
    view::{Assigned, Freshness, Standing, TenantView, View, cleared, selector},
};

#[cfg(test)]
mod fixtures;
