//! Callers that call without a pause, each with the credential of the moment, while a test rolls something. It turns
//! "under load, and none fails" into counts of answers. It must not know what is called.

use anyhow::{Context, bail};
use std::{collections::BTreeMap, future::Future, sync::Arc};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

const CALLERS: usize = 4;

/// Running callers; they end when this is dropped.
pub struct Load {
    credential: watch::Sender<Arc<str>>,
    answers: mpsc::UnboundedReceiver<(usize, Arc<str>)>,
    callers: JoinSet<anyhow::Result<()>>,
    answered: usize,
}

impl Load {
    /// Begins: each caller makes `call`, which fails if its answer is not right, again and again.
    pub fn begin<C, F>(credential: &str, call: C) -> Self
    where
        C: Fn(Arc<str>) -> F + Clone + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let (sender, of_next_call) = watch::channel::<Arc<str>>(credential.into());
        let (answered, answers) = mpsc::unbounded_channel();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (call, answered) = (call.clone(), answered.clone());
            let of_next_call = of_next_call.clone();
            callers.spawn(async move {
                loop {
                    let credential = of_next_call.borrow().clone();
                    call(credential.clone()).await?;
                    if answered.send((caller, credential)).is_err() {
                        return Ok(());
                    }
                }
            });
        }
        Self { credential: sender, answers, callers, answered: 0 }
    }

    /// Callers use this one from their next call on. Returns once none of a caller's calls with another is under way.
    pub async fn roll_to(&mut self, credential: &str) -> anyhow::Result<()> {
        self.credential.send_replace(credential.into());
        self.goes_on(2).await
    }

    /// Returns once every caller had answers to `wanted` more calls with the credential of the moment. Answers from before
    /// count for none of them: whoever has failed since would go unnoticed.
    ///
    /// # Errors
    ///
    /// If a call failed.
    pub async fn goes_on(&mut self, wanted: usize) -> anyhow::Result<()> {
        let current = self.credential.borrow().clone();
        while self.answers.try_recv().is_ok() {
            self.answered += 1;
        }
        let mut counts = BTreeMap::new();
        while counts.len() < CALLERS || counts.values().any(|count| *count < wanted) {
            tokio::select! {
                Some((caller, with)) = self.answers.recv() => {
                    self.answered += 1;
                    if with == current {
                        *counts.entry(caller).or_insert(0) += 1;
                    }
                }
                // nobody ends but by a failure
                ended = self.callers.join_next() => {
                    ended.context("every caller has ended")???;
                    bail!("a caller has ended");
                }
            }
        }
        Ok(())
    }

    /// How many calls were answered, as far as was looked.
    pub const fn answered(&self) -> usize {
        self.answered
    }

    /// Callers.
    pub const fn callers(&self) -> usize {
        CALLERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_load_goes_on_with_what_it_was_rolled_to_and_tells_of_a_failure() {
        let mut load = Load::begin("one", async |credential| {
            tokio::task::yield_now().await;
            ensure!(&*credential != "bad", "refused");
            Ok(())
        });
        load.goes_on(3).await.unwrap();
        load.roll_to("two").await.unwrap();
        load.goes_on(1).await.unwrap();
        assert!(load.answered() >= CALLERS * 6, "{}", load.answered());
        assert_eq!(load.roll_to("bad").await.unwrap_err().to_string(), "refused");
    }

    #[tokio::test]
    async fn a_failure_while_nobody_looked_is_told_of_whatever_was_answered_before() {
        let calls = Arc::new(AtomicUsize::new(0));
        let mut load = Load::begin("one", move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                ensure!(call < 10 * CALLERS, "refused");
                Ok(())
            }
        });
        while load.answers.len() < 10 * CALLERS {
            tokio::task::yield_now().await;
        }
        assert_eq!(load.goes_on(1).await.unwrap_err().to_string(), "refused");
    }
}
