//! Waits that must not fall together: those who lost one thing at one time do not come back for it at one time.

use crate::digest::random_bytes;
use std::time::Duration;

/// Thousandths, drawn anew. Without randomness it is none at all: a wait is never shorter than it should be.
pub fn draw() -> u16 {
    let number = random_bytes().map_or(0, u32::from_ne_bytes);
    u16::try_from(number % 1000).unwrap_or_default()
}

/// A wait of `whole` less up to a half of it. `jitter` (thousandths, see [`draw`]) says how much.
pub fn shortened(whole: Duration, jitter: u16) -> Duration {
    let cut = (whole / 2).saturating_mul(u32::from(jitter.min(1000))) / 1000;
    whole.saturating_sub(cut)
}

/// How long to wait before something that failed is tried again: about this long, and never longer.
pub fn pause(about: Duration) -> Duration {
    shortened(about, draw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn pauses_are_near_what_they_are_about_and_not_all_alike() {
        let about = Duration::from_secs(10);
        let pauses: BTreeSet<_> = (0..50).map(|_| pause(about)).collect();
        assert!(pauses.iter().all(|pause| (about / 2..=about).contains(pause)), "{pauses:?}");
        assert!(pauses.len() > 1, "{pauses:?}");
    }

    proptest! {
        #[test]
        fn a_wait_is_shortened_by_a_half_at_most(whole in 0..=u64::MAX, jitter: u16) {
            let whole = Duration::from_secs(whole);
            let wait = shortened(whole, jitter);
            prop_assert!(wait <= whole && wait >= whole / 2);
        }
    }
}
