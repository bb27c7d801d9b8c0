//! Why a worker leaves, in the words of its farewell: the reason that the operator copies into the
//! tenant's status, and a detail for people. It must not know how a worker leaves.

use patchbay_core::link::LeaveReason;

/// Why a worker leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Why.
    pub(crate) reason: LeaveReason,
    /// More about it, for people.
    pub(crate) detail: Option<String>,
}

impl Departure {
    pub(crate) fn new(reason: LeaveReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: Some(detail.into()) }
    }

    /// Whether the MCP server is gone, so that nothing in flight can come to its end.
    pub(crate) const fn is_without_server(&self) -> bool {
        matches!(self.reason, LeaveReason::ServerExited)
    }
}

impl From<LeaveReason> for Departure {
    fn from(reason: LeaveReason) -> Self {
        Self { reason, detail: None }
    }
}
