//! Small total functions on what objects hold: sums of moments that never overflow, waits, and texts that are bounded.
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

/// A wait of `whole` less up to a half of it. `jitter` (thousandths) says how much, so that those who wait for one reason do
/// not come back at one time.
pub(crate) fn shortened(whole: Duration, jitter: u16) -> Duration {
    let cut = (whole / 2).saturating_mul(u32::from(jitter.min(1000))) / 1000;
    whole.saturating_sub(cut)
}

/// `text` on one line, cut to `most` characters: what others wrote goes into statuses that are shown.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
