//! Waits for what becomes so by a change, however many wait and however much changes. It must not know what is waited for.

use std::time::Duration;
use tokio::{sync::watch, time::sleep};

/// Whoever waits looks again so often at most: thousands may wait, and each change is told to all of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Completes as soon as `is_so`, or with the last change that there will be.
pub(crate) async fn until(mut version: watch::Receiver<u64>, is_so: impl Fn() -> bool) {
    loop {
        version.mark_unchanged();
        if is_so() {
            return;
        }
        sleep(PAUSE).await;
        if version.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn what_becomes_so_while_nobody_looks_is_seen_and_much_that_changes_costs_few_looks() {
        let (version, looks) = (watch::Sender::new(0), AtomicUsize::new(0));
        let is_so = || {
            looks.fetch_add(1, Ordering::Relaxed);
            *version.borrow() >= 1000
        };
        let change = async {
            for _ in 0..1000 {
                version.send_modify(|version| *version += 1);
                sleep(Duration::from_millis(1)).await;
            }
        };
        let begun = Instant::now();
        tokio::join!(until(version.subscribe(), is_so), change);
        assert!(begun.elapsed() <= Duration::from_millis(1200), "{:?}", begun.elapsed());
        let looks = looks.load(Ordering::Relaxed);
        assert!((2..=12).contains(&looks), "{looks}");
    }

    #[tokio::test]
    async fn what_is_so_already_is_not_waited_for_nor_what_can_never_be() {
        let version = watch::Sender::new(0);
        until(version.subscribe(), || true).await;
        let waiting = version.subscribe();
        drop(version);
        until(waiting, || false).await;
    }
}
