//! Small total functions on what objects hold: sums of moments that never overflow, and texts that are bounded.
//! An absurd value in an object must not end the operator.

use jiff::Timestamp;
use std::time::Duration;

/// The moment `duration` after `moment`, or the last one there is.
pub(crate) fn after(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// The moment `duration` before `moment`, or the first one there is.
pub(crate) fn before(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// `text` on one line, cut to `most` characters: what others wrote goes into statuses that are shown.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
