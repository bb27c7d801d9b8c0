//! Leads: holds the Lease of the installation, does the work while it holds it, and gives it up when told to.
//!
//! What to do is [`lease::evaluate`]'s; here are the reads and writes. The work has ended before the Lease is given up,
//! and before another may take it. A lost Lease is an error: the process ends, and begins again as a new candidate.

use super::metrics::{Metrics, WriteKind};
use crate::{
    lease::{self, Candidate, Decision, STOP_AFTER},
    params::{FIELD_MANAGER, post},
    total::after,
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client, api::ObjectMeta};
use patchbay_core::{chain::Chain, jitter};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The name of the Lease.
pub const LEASE: &str = "patchbay-operator";
/// A read or write of the Lease that takes longer is none.
const LIMIT: Duration = Duration::from_secs(3);
/// After a failure it is tried again about so soon: a leader must be able to fail a few times.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A candidate looks at least so often: a Lease that was given up is taken soon.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a process does not lead any more.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The Lease could not be renewed in time, or is another's.
    #[error(
        "the leadership was lost: the Lease `{LEASE}` could not be renewed in time, or another process has it"
    )]
    Lost,
    /// The work ended by itself, which it never should.
    #[error("the work of the leader ended by itself")]
    Ended,
}

/// A candidate for the Lease of one installation.
pub(super) struct Leader {
    leases: Api<Lease>,
    /// Of this start of this process: another one is another candidate.
    me: String,
    metrics: Metrics,
    seen: Option<Lease>,
    unchanged_since: Timestamp,
    renewed: Option<Timestamp>,
    /// Moments are counted from this one by a clock that nobody sets.
    origin: (Timestamp, Instant),
}

impl Leader {
    pub(super) fn new(client: &Client, namespace: &str, me: String, metrics: Metrics) -> Self {
        let origin = (Timestamp::now(), Instant::now());
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            me,
            metrics,
            seen: None,
            unchanged_since: origin.0,
            renewed: None,
            origin,
        }
    }

    /// Waits for the leadership, and does `work` in it until `stop`. `work` is told to end by the token that it is
    /// given, and is dropped if the leadership is lost.
    pub(super) async fn lead<F: Future<Output = ()>>(
        mut self,
        stop: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), LeaderError> {
        tracing::info!(me = self.me, lease = LEASE, "a candidate for the leadership");
        while self.renewed.is_none() {
            let wait =
                self.turn().await.unwrap_or_else(|| jitter::pause(TRY_AGAIN)).min(LOOK_EVERY);
            if self.renewed.is_none() && stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return Ok(());
            }
        }
        tracing::info!(me = self.me, "leads");
        self.metrics.leads(true);
        let led = {
            let end = stop.child_token();
            let mut work = std::pin::pin!(work(end));
            loop {
                tokio::select! {
                    () = &mut work => break if stop.is_cancelled() { Ok(()) } else { Err(LeaderError::Ended) },
                    kept = self.keep() => if let Err(lost) = kept { break Err(lost) },
                }
            }
        };
        self.metrics.leads(false);
        if led.is_ok() {
            self.release().await;
        }
        led
    }

    /// Does what is due next about the Lease that it holds.
    async fn keep(&mut self) -> Result<(), LeaderError> {
        let end = self.renewed.map_or(Timestamp::MIN, |renewed| after(renewed, STOP_AFTER));
        let left = between(self.now(), end);
        let begun = Instant::now();
        let Ok(wait) = timeout(left, self.turn()).await else { return Err(LeaderError::Lost) };
        if self.renewed.is_none() {
            return Err(LeaderError::Lost);
        }
        let left = left.saturating_sub(begun.elapsed());
        sleep(wait.unwrap_or_else(|| jitter::pause(TRY_AGAIN).min(left))).await;
        Ok(())
    }

    /// Looks, and does what follows. Returns for how long nothing is to be done; none after a failure.
    async fn turn(&mut self) -> Option<Duration> {
        let now = self.now();
        let candidate = Candidate {
            me: &self.me,
            renewed: self.renewed,
            unchanged_since: self.unchanged_since,
        };
        // a leader that can wait need not look: whoever took the Lease waited longer than it may be silent
        if let (Some(_), Some(seen)) = (self.renewed, &self.seen)
            && let Decision::Wait { until } = lease::evaluate(seen.spec.as_ref(), &candidate, now)
        {
            return Some(between(now, until));
        }
        let looked = self.look().await;
        let candidate = Candidate {
            me: &self.me,
            renewed: self.renewed,
            unchanged_since: self.unchanged_since,
        };
        let spec = self.seen.as_ref().and_then(|lease| lease.spec.as_ref());
        let decision = lease::evaluate(spec, &candidate, now);
        let next = match decision {
            Decision::StepDown => {
                self.renewed = None;
                return None;
            }
            // what it has seen is old: only time may follow from it
            _ if !looked => return None,
            Decision::Wait { until } => return Some(between(now, until)),
            Decision::Acquire => lease::acquired(spec, &self.me, now),
            Decision::Renew => lease::renewed(spec.unwrap_or(&LeaseSpec::default()), now),
        };
        self.write(next, now).await
    }

    fn now(&self) -> Timestamp {
        after(self.origin.0, self.origin.1.elapsed())
    }

    async fn look(&mut self) -> bool {
        match timeout(LIMIT, self.leases.get_opt(LEASE)).await {
            Ok(Ok(found)) => {
                self.see(found);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "the Lease cannot be read");
                false
            }
            Err(_) => {
                tracing::warn!("the Lease cannot be read in time");
                false
            }
        }
    }

    fn see(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| {
            lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone())
        };
        if version(&lease) != version(&self.seen) {
            self.unchanged_since = self.now();
        }
        self.seen = lease;
    }

    async fn write(&mut self, spec: LeaseSpec, sent: Timestamp) -> Option<Duration> {
        let metadata = match &self.seen {
            // with the version that it was read with: of two that decide alike one loses
            Some(seen) => seen.metadata.clone(),
            None => ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() },
        };
        let lease = Lease { metadata, spec: Some(spec) };
        self.metrics.wrote(WriteKind::Lease);
        let params = post();
        let answer = if self.seen.is_some() {
            timeout(LIMIT, self.leases.replace(LEASE, &params, &lease)).await
        } else {
            timeout(LIMIT, self.leases.create(&params, &lease)).await
        };
        match answer {
            Ok(Ok(lease)) => {
                self.see(Some(lease));
                self.renewed = Some(sent);
                Some(Duration::ZERO)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                tracing::debug!("another candidate was first");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "the Lease cannot be written");
                None
            }
            Err(_) => {
                tracing::warn!("the Lease cannot be written in time");
                None
            }
        }
    }

    /// Gives the Lease up, so that another need not wait. All work has ended.
    async fn release(&mut self) {
        if let Some(spec) = self.seen.as_ref().and_then(|lease| lease.spec.clone()) {
            let now = self.now();
            self.write(lease::released(&spec, now), now).await;
            tracing::info!(manager = FIELD_MANAGER, "gave the leadership up");
        }
    }
}

fn between(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}
