//! Single things to do, each on its own: they take time, fail, and are cut off when the leadership ends. What came
//! of one is told as an [`Outcome`]; nothing here remembers anything, and nothing here is decided.

pub(super) mod class;
pub(super) mod pods;
pub(super) mod tenants;
pub(super) mod workers;

use super::{context::Context, writes::WriteError};
use crate::observe::Said;
use patchbay_core::id::Incarnation;

/// What a job is about: there is one at a time about each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A worker and its pod.
    Pod(Incarnation),
    /// A tenant's object, by its name.
    Tenant(String),
    /// New pods of the class.
    Create,
    /// Lists of everything.
    List,
    /// The class's own object.
    Class,
    /// Boot documents of revisions that nobody has.
    Boots,
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing to remember: what is seen next shows it.
    Done,
    /// A write failed that should be tried again soon.
    Failed,
    /// Pods were created, and perhaps not all.
    Created {
        /// Those that were.
        pods: Vec<Incarnation>,
        /// What the cluster has against further ones.
        refused: Option<String>,
        /// Whether one failed for want of an answer.
        is_incomplete: bool,
    },
    /// A worker said where it is.
    Said(Said),
    /// A worker contradicted what it had said.
    Contradicted,
    /// A worker knows that it is to leave when it is idle.
    AskedToLeave,
    /// A worker answered.
    Heard,
    /// A pod is not who it should be.
    Refused(String),
    /// A worker could not be asked.
    Unreachable,
}

/// The object that a write was about, by its name, for the log.
#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    Class(&'a str),
    Pod(&'a str),
    Tenant(&'a str),
}

/// What a failed write comes to. That somebody else was faster is no failure: what is seen next shows it.
fn failed(context: &Context, error: &WriteError, of: Of<'_>, what: &str) -> Outcome {
    context.metrics.failed(error.category());
    // a field without a value is not in the line
    let (class, pod, tenant) = match of {
        Of::Class(name) => (Some(name), None, None),
        Of::Pod(name) => (None, Some(name), None),
        Of::Tenant(name) => (None, None, Some(name)),
    };
    if error.is_race() {
        tracing::debug!(class, pod, tenant, error = error.text(), what);
        return Outcome::Done;
    }
    tracing::warn!(class, pod, tenant, error = error.text(), "{what}");
    Outcome::Failed
}
