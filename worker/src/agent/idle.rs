//! Watches for the moment at which the worker has been idle for long enough, and lets it leave
//! then. Nothing is polled: a bind and the end of the last call wake it, and else the time that the
//! policy names. It must not know what a call is.

use super::{
    clock::Moment,
    state::{IdleCheck, Worker},
};
use patchbay_core::idle::IdlePolicy;
use std::sync::Arc;
use tokio::time::timeout;

/// Returns when the worker leaves, for this reason or another.
pub(crate) async fn watch(worker: Arc<Worker>, policy: IdlePolicy) {
    let mut changes = worker.changes();
    loop {
        changes.borrow_and_update();
        let outcome = match worker.leave_if_idle(&policy, Moment::now()) {
            IdleCheck::Left => return,
            IdleCheck::AtChange => changes.changed().await,
            IdleCheck::In(wait) => timeout(wait, changes.changed()).await.unwrap_or(Ok(())),
        };
        if outcome.is_err() {
            return; // the worker is gone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{credentials::Credentials, state::Entry};
    use patchbay_core::{
        id::{Epoch, TenantUid},
        idle::Weight,
        latch::Claim,
        link::LeaveReason,
    };
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    fn claim() -> Claim {
        Claim { tenant: TenantUid::parse("t1").unwrap(), epoch: Epoch(1) }
    }

    fn watched(policy: IdlePolicy) -> Arc<Worker> {
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        worker.set_ready();
        tokio::spawn(watch(Arc::clone(&worker), policy));
        worker
    }

    const MINUTE: IdlePolicy = IdlePolicy { idle_timeout: Duration::from_mins(1), max_age: None };

    #[tokio::test(start_paused = true)]
    async fn the_time_runs_from_the_bind_and_from_the_last_calls_end() {
        let worker = watched(MINUTE);
        advance(Duration::from_secs(1000)).await;
        assert!(!worker.is_leaving(), "anonymous workers wait for ever");

        worker.apply_bind(&claim(), None, Moment::now()).unwrap();
        tokio::task::yield_now().await;
        let Entry::Admitted(call) = worker.enter(Some(&claim()), Weight::Call, Moment::now())
        else {
            panic!("not admitted");
        };
        advance(Duration::from_secs(1000)).await;
        tokio::task::yield_now().await;
        assert!(!worker.is_leaving(), "a call is in flight");
        drop(call);
        let ended = Instant::now();
        worker.leaving().await;
        assert_eq!(ended.elapsed().as_secs(), 60);
        assert_eq!(worker.farewell().reason, LeaveReason::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_worker_leaves_when_its_call_ends() {
        let policy = IdlePolicy { max_age: Some(Duration::from_secs(100)), ..MINUTE };
        let worker = watched(policy);
        worker.apply_bind(&claim(), None, Moment::now()).unwrap();
        let call = worker.enter(Some(&claim()), Weight::Call, Moment::now());
        advance(Duration::from_secs(101)).await;
        drop(call);
        let ended = Instant::now();
        worker.leaving().await;
        assert_eq!(ended.elapsed(), Duration::ZERO);
        assert_eq!(worker.farewell().reason, LeaveReason::MaxAge);
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_a_worker_was_kept_warm_is_not_held_against_its_tenant() {
        let policy = IdlePolicy { max_age: Some(Duration::from_secs(30)), ..MINUTE };
        let worker = watched(policy);
        advance(Duration::from_secs(1000)).await;
        worker.apply_bind(&claim(), None, Moment::now()).unwrap();
        let bound = Instant::now();
        worker.leaving().await;
        assert_eq!(bound.elapsed().as_secs(), 30);
    }
}
