//! For how long a tenant's open streams may go on: as long as the tenant has shown a credential that is still good, whichever
//! it is. Pure: time is given. It must not know streams, or how a credential is judged.

use crate::activate::Verdict;
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{digest::Digest, identity::Authenticated};
use std::sync::Arc;

/// How often a credential is judged anew while its tenant has streams. What is asked of others is remembered by whoever
/// asks it: a catalog's word counts for a minute, and a stream ends soon after it.
const LOOK: SignedDuration = SignedDuration::from_secs(5);
/// The same after whoever judges could not be asked, which may have taken long.
const LOOK_UNANSWERED: SignedDuration = SignedDuration::from_secs(30);
/// Credentials of one tenant that are kept: of more, those that end last.
const MOST: usize = 4;

/// The credentials by which one tenant's streams may go on.
#[derive(Debug, Default)]
pub(crate) struct Warrants(Vec<Warrant>);

#[derive(Debug)]
struct Warrant {
    user: Arc<Authenticated>,
    /// When it is judged anew.
    look: Timestamp,
}

impl Warrants {
    /// The tenant showed this credential, and it was good at `now`.
    pub(crate) fn show(&mut self, user: &Authenticated, now: Timestamp) {
        if self.0.iter().any(|held| held.user.digest == user.digest) {
            return;
        }
        let look = next(user.identity.expires_at, now, LOOK);
        self.0.push(Warrant { user: Arc::new(user.clone()), look });
        if self.0.len() > MOST {
            // one that does not say when it ends may last longest
            let ends = |held: &Warrant| held.user.identity.expires_at.unwrap_or(Timestamp::MAX);
            let first = (0..self.0.len()).min_by_key(|at| self.0.get(*at).map(ends));
            if let Some(first) = first {
                self.0.remove(first);
            }
        }
    }

    /// When somebody must be judged; none where nobody is left.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.0.iter().map(|held| held.look).min()
    }

    /// Who must be judged at `now`.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Arc<Authenticated>> {
        self.0.iter().filter(|held| held.look <= now).map(|held| held.user.clone()).collect()
    }

    /// How this credential was judged at `now`. One that nobody could judge stays as it was: its last good verdict counts.
    pub(crate) fn judged(&mut self, credential: &Digest, verdict: Verdict, now: Timestamp) {
        if verdict == Verdict::Over {
            self.0.retain(|held| held.user.digest != *credential);
        }
        let after = if verdict == Verdict::Unknown { LOOK_UNANSWERED } else { LOOK };
        for held in self.0.iter_mut().filter(|held| held.user.digest == *credential) {
            held.look = next(held.user.identity.expires_at, now, after);
        }
    }

    /// Whether no credential is left: the tenant's streams are over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// When a credential that was judged at `now` is judged anew: after a while, or when it ends by its own word.
fn next(end: Option<Timestamp>, now: Timestamp, after: SignedDuration) -> Timestamp {
    let look = now.checked_add(after).unwrap_or(Timestamp::MAX);
    end.filter(|end| *end > now).map_or(look, |end| look.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn credential(name: u8, expires_at: Option<i64>) -> Authenticated {
        fixtures::credential(&name.to_string(), expires_at.map(at))
    }

    #[test]
    fn streams_are_over_with_the_last_good_credential_and_not_with_the_first() {
        let mut warrants = Warrants::default();
        let (old, new) = (credential(1, Some(100)), credential(2, Some(200)));
        warrants.show(&old, at(0));
        warrants.show(&new, at(50));
        warrants.judged(&old.digest, Verdict::Over, at(130));
        assert!(!warrants.is_over());
        warrants.judged(&new.digest, Verdict::Over, at(230));
        assert!(warrants.is_over());
        assert_eq!(warrants.next_look(), None);
    }

    #[test]
    fn whoever_cannot_be_asked_ends_nothing_and_is_asked_less_often() {
        let mut warrants = Warrants::default();
        let key = credential(1, None);
        warrants.show(&key, at(0));
        assert!(warrants.due(at(4)).is_empty() && warrants.due(at(5)).len() == 1);
        warrants.judged(&key.digest, Verdict::Unknown, at(5));
        assert!(!warrants.is_over());
        assert_eq!(warrants.next_look(), Some(at(35)));
        warrants.judged(&key.digest, Verdict::Good, at(35));
        assert_eq!(warrants.next_look(), Some(at(40)));
    }

    #[test]
    fn a_credential_is_judged_at_its_own_end_and_then_as_often_as_others() {
        let mut warrants = Warrants::default();
        let token = credential(1, Some(7));
        warrants.show(&token, at(0));
        warrants.judged(&token.digest, Verdict::Good, at(5));
        assert_eq!(warrants.next_look(), Some(at(7)));
        // clocks may differ: it may be good for a little longer than it says
        warrants.judged(&token.digest, Verdict::Good, at(7));
        assert_eq!(warrants.next_look(), Some(at(12)));
    }

    #[test]
    fn of_many_credentials_those_that_end_last_are_kept() {
        let mut warrants = Warrants::default();
        for (name, end) in [(1, Some(50)), (2, None), (3, Some(10)), (4, Some(20)), (5, Some(30))] {
            warrants.show(&credential(name, end), at(0));
            warrants.show(&credential(name, end), at(1));
        }
        let mut kept: Vec<_> =
            warrants.0.iter().map(|held| held.user.identity.expires_at).collect();
        kept.sort();
        assert_eq!(kept, [None, Some(at(20)), Some(at(30)), Some(at(50))]);
    }

    proptest! {
        /// Whatever is shown and judged, somebody is looked at within the longest pause, and never before now.
        #[test]
        fn nobody_is_forgotten(
            steps in proptest::collection::vec((0..6u8, 0..200_i64, 0..4u8), 1..60),
        ) {
            let mut warrants = Warrants::default();
            for (now, (name, end, step)) in (0..).step_by(3).zip(steps) {
                let user = credential(name, (end > 20).then_some(end));
                match step {
                    0 => warrants.judged(&user.digest, Verdict::Over, at(now)),
                    1 => warrants.judged(&user.digest, Verdict::Unknown, at(now)),
                    2 => warrants.judged(&user.digest, Verdict::Good, at(now)),
                    _ => warrants.show(&user, at(now)),
                }
                prop_assert_eq!(warrants.next_look().is_none(), warrants.is_over());
                prop_assert!(warrants.0.len() <= MOST);
                for held in &warrants.0 {
                    prop_assert!(held.look <= at(now) + LOOK_UNANSWERED);
                }
            }
        }
    }
}
