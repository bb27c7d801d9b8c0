//! How fast and how patiently a class's workers are changed. Values, so that tests have their own.

use std::time::Duration;

/// Bounds and patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Actions of one pass; what is left is decided again by the next one.
    pub actions: usize,
    /// Pods created by one pass.
    pub creates: usize,
    /// Pods created within [`Self::window`], whichever operator created them.
    pub creates_per_window: usize,
    /// See [`Self::creates_per_window`].
    pub window: Duration,
    /// For how long a gateway holds a request that waits for a worker.
    pub hold: Duration,
    /// A wait that is over before is not told in its tenant's status: the word would cost a write, and most where
    /// many wait.
    pub untold: Duration,
    /// A worker beyond those that are wanted stays this long: a client whose wait ended comes back, and must
    /// find the worker that was started for it.
    pub linger: Duration,
    /// A pod that does not start in this time is made anew, perhaps on a better node.
    pub start_within: Duration,
    /// A worker that looks anonymous is asked this often whether it is.
    pub ask_every: Duration,
    /// The same, while somebody waits who should long have it.
    pub ask_when_wanted: Duration,
    /// After this long an assignment that its worker contradicts is no race that is still being run.
    pub settle: Duration,
    /// A worker that was assigned and is not bound after this long is given up: nobody came back for it.
    pub abandoned: Duration,
    /// A worker that is Ready for this long has started well.
    pub steady: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            actions: 256,
            creates: 100,
            creates_per_window: 500,
            window: Duration::from_secs(10),
            hold: Duration::from_mins(1),
            untold: Duration::from_secs(5),
            linger: Duration::from_mins(1),
            start_within: Duration::from_mins(10),
            ask_every: Duration::from_secs(30),
            ask_when_wanted: Duration::from_secs(2),
            settle: Duration::from_secs(10),
            abandoned: Duration::from_mins(5),
            steady: Duration::from_secs(10),
        }
    }
}
