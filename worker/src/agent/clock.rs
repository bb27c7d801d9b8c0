//! The moment at which something happened, on both clocks: the monotonic one for how long ago, the
//! wall clock for people. The rest of the agent takes moments as values. It must not know what
//! happened.

use jiff::Timestamp;
use tokio::time::Instant;

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// For durations.
    pub(crate) instant: Instant,
    /// For reports and for comparison with expiries.
    pub(crate) timestamp: Timestamp,
}

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), timestamp: Timestamp::now() }
    }
}
