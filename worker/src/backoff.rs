//! How long to wait before looking again for something that another process makes and that cannot
//! be awaited as an event: a socket in a shared directory, a server that begins to answer. It must
//! not know what is looked for, or bound the number of looks: deadlines are the caller's.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(250);

/// Waits of 20 ms, doubling up to 250 ms.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait.
    pub(crate) fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..6).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 250, 250]);
    }
}
