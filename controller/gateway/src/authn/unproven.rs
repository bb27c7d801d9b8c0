//! How many questions about credentials that nobody has proven yet a provider is asked at a time: whoever makes credentials
//! up presses no catalog by them. A few wait for their turn, for a while, and the rest is turned away at once. This module
//! must not know what is asked.

use std::time::Duration;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Questions that are under way at a time.
const MOST_ASKED: usize = 32;
/// Questions that wait for their turn: the users of a gateway that begins anew are all unproven, and come at once.
const MOST_WAITING: usize = 1000;
/// How long one waits.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The turns of one provider.
#[derive(Debug)]
pub(super) struct Unproven {
    /// Those who ask, and those who wait to.
    room: Semaphore,
    asked: Semaphore,
}

/// A turn to ask, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _room: SemaphorePermit<'a>,
    _asked: SemaphorePermit<'a>,
}

/// Too many others ask, or wait to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Default for Unproven {
    fn default() -> Self {
        Self::new(MOST_ASKED, MOST_WAITING)
    }
}

impl Unproven {
    /// Turns for so many at a time, while so many others wait.
    pub(super) fn new(asked: usize, waiting: usize) -> Self {
        Self { room: Semaphore::new(asked + waiting), asked: Semaphore::new(asked) }
    }

    /// A turn, in the order in which they were asked for.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, TooMany> {
        let room = self.room.try_acquire().map_err(|_| TooMany)?;
        match timeout(LONGEST_WAIT, self.asked.acquire()).await {
            Ok(Ok(asked)) => Ok(Turn { _room: room, _asked: asked }),
            Ok(Err(_)) | Err(_) => Err(TooMany),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    #[tokio::test]
    async fn few_ask_at_a_time_some_wait_and_who_comes_then_is_turned_away() {
        let turns = Unproven::new(2, 1);
        let asking = [turns.turn().await.unwrap(), turns.turn().await.unwrap()];
        let mut waiting = Box::pin(turns.turn());
        assert!((&mut waiting).now_or_never().is_none(), "a third one asks");
        assert_eq!(turns.turn().await.unwrap_err(), TooMany);
        drop(asking);
        let waited = waiting.await.unwrap();
        // who has gone holds nothing
        let another = turns.turn().await.unwrap();
        drop((waited, another));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_for_ever_and_who_gave_up_leaves_the_place() {
        let turns = Unproven::new(1, 1);
        let asking = turns.turn().await.unwrap();
        let begun = Instant::now();
        assert_eq!(turns.turn().await.unwrap_err(), TooMany);
        assert_eq!(begun.elapsed(), LONGEST_WAIT);
        drop(asking);
        assert!(turns.turn().await.is_ok());
    }
}
