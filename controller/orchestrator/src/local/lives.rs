//! The workers that live, so that one can be told to end. It must not know why.

use parking_lot::Mutex;
use patchbay_core::id::Incarnation;
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Which workers live.
#[derive(Debug, Clone, Default)]
pub(super) struct Lives(Arc<Mutex<HashMap<Incarnation, CancellationToken>>>);

impl Lives {
    /// A worker lives, for as long as what is returned does.
    pub(super) fn begin(&self, incarnation: Incarnation) -> Life {
        let over = CancellationToken::new();
        self.0.lock().insert(incarnation.clone(), over.clone());
        Life { lives: self.clone(), incarnation, over }
    }

    /// This worker must end now, whatever it does. One that is gone has done so.
    pub(super) fn end(&self, incarnation: &Incarnation) {
        if let Some(over) = self.0.lock().get(incarnation) {
            over.cancel();
        }
    }
}

/// One worker's life.
#[derive(Debug)]
pub(super) struct Life {
    lives: Lives,
    incarnation: Incarnation,
    /// Cancelled when it must end.
    pub(super) over: CancellationToken,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.lives.0.lock().remove(&self.incarnation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_lives_is_told_and_one_that_is_gone_leaves_nothing() {
        let lives = Lives::default();
        let [one, other] = ["one", "other"].map(|name| Incarnation::parse(name).unwrap());
        let (first, second) = (lives.begin(one.clone()), lives.begin(other));
        lives.end(&one);
        assert!(first.over.is_cancelled() && !second.over.is_cancelled());
        drop((first, second));
        lives.end(&one);
        assert!(lives.0.lock().is_empty());
    }
}
