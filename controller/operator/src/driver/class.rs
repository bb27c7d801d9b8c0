//! One class: from what is seen of it to what is done and said, again and again.
//!
//! Each class has a task of its own, which remembers what it learned (no lock, and no class waits for another). A
//! pass decides, and starts jobs; it never waits for one, so that a worker that does not answer holds up nobody.
//! There is one job at a time about each pod and tenant. The order of a pass is dereference, validate, build,
//! apply, plan, act, status.

mod acts;
mod words;

use super::{
    apply::Prepared,
    context::Context,
    jobs::{Key, Outcome},
    memory::Memory,
};
use crate::{
    cache::Snapshot,
    total::after,
    worker_class::{
        View,
        plan::{Action, plan},
        status::Unusable,
    },
};
use jiff::Timestamp;
use patchbay_core::{id::ClassName, jitter};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// What happens at about the same time is looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// Of the time, a pass over a large class takes at most a part of one in this many.
const EASE: u32 = 4;
/// A write that failed is tried again after about this long.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// A class that could not be used is tried again after about this long, unless it changes before.
const UNUSABLE_FOR: Duration = Duration::from_secs(10);
/// Jobs that have begun when the leadership is given up may take this long to end.
const LAST_JOBS: Duration = Duration::from_secs(5);

/// Why a class cannot be used, until it is another generation or some time has passed.
struct Standing {
    why: Unusable,
    generation: Option<i64>,
    until: Timestamp,
}

/// A class's task.
pub(super) struct Task {
    context: Arc<Context>,
    name: String,
    memory: Memory,
    prepared: Option<Prepared>,
    /// Why the class cannot be used as it is.
    unusable: Option<Standing>,
    jobs: JoinSet<(Key, Outcome)>,
    busy: BTreeSet<Key>,
    /// Pods that are being created.
    creating: usize,
    /// Tenants whose status is as it should be, and what that followed from.
    said: BTreeMap<String, words::Basis>,
    /// When the class's status was written last.
    status_written: Option<Timestamp>,
    /// The revisions whose boot documents may be there.
    boots: BTreeSet<String>,
    /// Whether that is known: those of earlier processes are found by a list.
    are_boots_known: bool,
    /// When to look again, whatever happens.
    look_again: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(context: Arc<Context>, name: String) -> Self {
        Self {
            context,
            name,
            memory: Memory::default(),
            prepared: None,
            unusable: None,
            jobs: JoinSet::new(),
            busy: BTreeSet::new(),
            creating: 0,
            said: BTreeMap::new(),
            status_written: None,
            boots: BTreeSet::new(),
            are_boots_known: false,
            look_again: None,
        }
    }

    /// Runs until nothing of the class is left, or `stop`: then jobs that have begun are waited for.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let waker = self.context.cache.waker(&self.name);
        let mut gather = Duration::ZERO;
        loop {
            // what comes meanwhile is seen, or wakes it again
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(gather) => {}
            }
            while let Some(done) = self.jobs.try_join_next() {
                if !self.take(done) {
                    return;
                }
            }
            let begun = Instant::now();
            if self.pass().await.is_none() {
                break;
            }
            let took = begun.elapsed();
            self.context.metrics.passed(&self.name, took, self.context.cache.unread());
            gather = GATHER.max(took * EASE);
            let look_again = until(self.look_again);
            tokio::select! {
                () = stop.cancelled() => break,
                () = waker.notified() => {}
                () = sleep_until(look_again) => {}
                Some(done) = self.jobs.join_next() => {
                    if !self.take(done) {
                        return;
                    }
                }
            }
        }
        if timeout(LAST_JOBS, async { while self.jobs.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::warn!(class = self.name, "writes that had begun were cut off");
        }
    }

    /// Takes in what came of a job. False after a bug: another task begins anew, and asks for what it must know.
    fn take(&mut self, done: Result<(Key, Outcome), JoinError>) -> bool {
        match done {
            Ok((key, outcome)) => {
                self.note(key, outcome);
                true
            }
            Err(error) => {
                tracing::error!(class = self.name, %error, "a job broke");
                self.context.metrics.failed("bug");
                false
            }
        }
    }

    /// Looks, decides, acts and says. None once nothing of the class is left.
    async fn pass(&mut self) -> Option<()> {
        let now = Timestamp::now();
        self.look_again = None;
        let context = Arc::clone(&self.context);
        let snapshot = context.cache.snapshot(&self.name);
        if snapshot.class.is_none()
            && !snapshot.is_unread
            && snapshot.pods.is_empty()
            && snapshot.tenants.iter().all(|tenant| tenant.object.spec.assignment.is_none())
        {
            context.metrics.forget(&self.name);
            return None;
        }
        self.prepare(&snapshot, now).await;
        let seen = self.memory.look(&snapshot, now);
        let usable = self.prepared.as_ref().filter(|_| self.unusable.is_none());
        let is_usable = usable.is_some();
        let view = View {
            warm: usable.map_or(0, |prepared| prepared.class.warm),
            most_tenants: usable.and_then(|prepared| prepared.class.limits.tenants),
            revision: usable.map_or("", |prepared| &prepared.revision),
            pods: &seen.pods,
            tenants: &seen.tenants,
            cordoned: &snapshot.cordoned,
            expected: seen.expected.saturating_add(self.creating),
            fresh: snapshot.fresh,
            backoff: &self.memory.backoff,
            pace: &context.pace,
            now,
            jitter: jitter::draw(),
        };
        let mut decided = plan(&view);
        let class_says = self.class_says(&snapshot, &view, &decided);
        if is_usable {
            self.memory.backoff = decided.backoff.clone();
        } else {
            decided.actions.retain(Action::follows_lives);
        }
        self.due(decided.look_again);
        // a pod goes once its last words are told
        let is_reap = |action: &Action| matches!(action, Action::Reap { .. });
        let (reaps, others) = decided.actions.into_iter().partition(is_reap);
        self.act(others, &snapshot, &seen);
        self.tell_tenants(&snapshot, &seen, now);
        self.act(reaps, &snapshot, &seen);
        self.forget_tenants(&snapshot, now);
        self.sweep(&snapshot);
        self.tell_class(class_says, now);
        Some(())
    }

    /// Sees to it that what workers need is there.
    async fn prepare(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(object) = &snapshot.class else {
            (self.prepared, self.unusable) = (None, None);
            return;
        };
        let generation = object.metadata.generation;
        match &self.unusable {
            Some(standing) if standing.generation == generation && standing.until > now => {
                let until = standing.until;
                return self.due(Some(until));
            }
            None if self.prepared.as_ref().is_some_and(|it| it.is_current(object, now)) => return,
            _ => {}
        }
        match Prepared::make(&self.context, object, self.prepared.as_ref(), now).await {
            Ok(prepared) => {
                if self.boots.insert(prepared.revision.clone()) {
                    let revision = &prepared.revision;
                    tracing::info!(class = self.name, revision, "what workers are made from");
                }
                self.prepared = Some(prepared);
                self.unusable = None;
            }
            Err(why) => {
                tracing::warn!(
                    class = self.name,
                    reason = why.reason,
                    why.message,
                    "cannot be used"
                );
                let until = after(now, jitter::pause(UNUSABLE_FOR));
                self.unusable = Some(Standing { why, generation, until });
                self.due(Some(until));
            }
        }
    }

    fn class_name(&self) -> Option<ClassName> {
        ClassName::parse(self.name.clone()).ok()
    }

    /// A pass is due at this moment, whatever happens.
    fn due(&mut self, moment: Option<Timestamp>) {
        self.look_again = match (self.look_again, moment) {
            (Some(known), Some(moment)) => Some(known.min(moment)),
            (known, moment) => known.or(moment),
        };
    }
}

/// When a moment of the wall clock comes. Without one, in a while: nothing hangs on a lost event.
fn until(moment: Option<Timestamp>) -> Instant {
    const A_WHILE: Duration = Duration::from_mins(5);
    let wait = moment.map_or(A_WHILE, |moment| {
        Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default()
    });
    Instant::now() + wait.min(A_WHILE)
}
