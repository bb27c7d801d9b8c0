//! The worker's state: one latch, one grant, what is in flight, and why it leaves.
//!
//! Every decision is a pure function of `patchbay_core`; this module applies it under one short
//! lock, so that admission, binding and leaving are atomic with one another: no request is admitted
//! after the worker began to leave, and an admitted call is counted from that moment. It must not
//! know HTTP, TLS or sockets.

use super::{
    clock::Moment,
    credentials::Credentials,
    departure::Departure,
    held_grant::{Claims, HeldGrant, Session},
    in_flight::InFlight,
    reservation::Reservation,
    session_ids::Sealing,
};
use parking_lot::Mutex;
use patchbay_core::{
    grant::Grant,
    idle::{Activity, IdleDecision, IdlePolicy, Weight},
    latch::{Admission, BindDecision, Claim, Latch},
    link::{BindRefusal, Farewell, LeaveReason, WorkerPhase, WorkerStatus},
    session::SessionKeys,
    tenant::TenantName,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The state of this worker, shared by all connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Serialises binds: between the decision and the latch a grant is stored.
    pub(crate) binding: tokio::sync::Mutex<Credentials>,
    state: Mutex<State>,
    /// Changes when the worker becomes ready, when it is bound and when the last call ends.
    changed: watch::Sender<()>,
    leaving: CancellationToken,
    closing: CancellationToken,
}

#[derive(Debug)]
struct State {
    latch: Latch,
    /// Of use while the latch is open.
    reservation: Reservation,
    grant: Option<HeldGrant>,
    sessions: Option<Arc<SessionKeys>>,
    is_ready: bool,
    in_flight: u64,
    bound: Option<Moment>,
    last_activity: Option<Moment>,
    departure: Option<Departure>,
    /// An operator asked it to leave at its next idle moment.
    is_asked_to_leave: bool,
}

/// What to do with a forwarded request.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Relay it, and keep the token until its response has ended.
    Admitted(InFlight),
    /// It is for someone else: 421.
    Misdirected,
    /// The worker leaves: refuse it unread.
    Leaving,
}

/// What an accepted bind changes, before it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindPlan {
    /// Store the grant, then latch.
    Latch,
    /// Store the grant in the place of the present one.
    Replace,
    /// Keep the present grant.
    Keep,
}

/// When to look again whether the worker is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleCheck {
    /// The worker leaves: there is nothing more to look for.
    Left,
    /// At the next change.
    AtChange,
    /// At the next change, or after this long.
    In(Duration),
}

impl Worker {
    /// A worker that serves nobody yet and stores its grants by `credentials`.
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            binding: tokio::sync::Mutex::new(credentials),
            state: Mutex::new(State {
                latch: Latch::default(),
                reservation: Reservation::default(),
                grant: None,
                sessions: None,
                is_ready: false,
                in_flight: 0,
                bound: None,
                last_activity: None,
                departure: None,
                is_asked_to_leave: false,
            }),
            changed: watch::Sender::new(()),
            leaving: CancellationToken::new(),
            closing: CancellationToken::new(),
        }
    }

    /// The MCP server answers: the worker may be bound.
    pub(crate) fn set_ready(&self) {
        self.state.lock().is_ready = true;
        self.changed.send_replace(());
    }

    /// Keeps the worker for a tenant for a moment, if it is nobody's.
    pub(crate) fn reserve(&self, tenant: &TenantName, now: Moment) -> Result<(), BindRefusal> {
        let state = &mut *self.state.lock();
        match &state.latch {
            Latch::Bound(_) => Err(BindRefusal::OtherTenant),
            Latch::Leaving(_) => Err(BindRefusal::Leaving),
            Latch::Anonymous if !state.is_ready => Err(BindRefusal::Warming),
            Latch::Anonymous if state.reservation.keep(tenant, now) => Ok(()),
            Latch::Anonymous => Err(BindRefusal::Reserved),
        }
    }

    /// The tenant does not take the worker after all.
    pub(crate) fn release(&self, tenant: &TenantName) {
        self.state.lock().reservation.release(tenant);
    }

    /// Decides a bind. Its caller holds [`Self::binding`].
    pub(crate) fn plan_bind(
        &self,
        claim: &Claim,
        grant: &Grant,
        now: Moment,
    ) -> Result<BindPlan, BindRefusal> {
        let state = self.state.lock();
        let decision = state.latch.decide_bind(claim)?;
        if !state.is_ready {
            return Err(BindRefusal::Warming);
        }
        Ok(match (decision, &state.grant) {
            (BindDecision::Latch, _) => BindPlan::Latch,
            (BindDecision::Again, Some(held)) if !held.yields_to(grant, now) => BindPlan::Keep,
            (BindDecision::Again, _) => BindPlan::Replace,
        })
    }

    /// Latches on `claim`, with the grant where it could be stored. It latches also where it could
    /// not: a part of it may have been written, and no other tenant may ever meet that.
    pub(crate) fn apply_bind(
        &self,
        claim: &Claim,
        grant: Option<HeldGrant>,
        now: Moment,
    ) -> Result<(), BindRefusal> {
        let mut state = self.state.lock();
        if state.latch.bind(claim)? == BindDecision::Latch {
            state.bound = Some(now);
        }
        if grant.is_some() {
            state.grant = grant;
        }
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// What the relay presents of the present grant; none before a bind, and where the MCP server
    /// was given no session.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.state.lock().grant.as_ref()?.session().cloned()
    }

    /// The tenant's session ids are sealed and opened with these from now on.
    pub(crate) fn set_session_keys(&self, keys: SessionKeys) {
        self.state.lock().sessions = Some(Arc::new(keys));
    }

    /// What session ids are sealed with; none where no keys were granted.
    pub(crate) fn sealing(&self) -> Option<Sealing> {
        let state = self.state.lock();
        let (keys, claim) = (state.sessions.as_ref()?, state.latch.claim()?);
        Some(Sealing { keys: Arc::clone(keys), epoch: claim.epoch })
    }

    /// What the tenant's claims say.
    pub(crate) fn claims(&self) -> Claims {
        self.state.lock().grant.as_ref().map_or(Claims::Unknown, |grant| grant.claims().clone())
    }

    /// An origin refused this session: the next bind's grant takes the place of the present one.
    pub(crate) fn session_refused(&self, session: &Arc<Session>) {
        if let Some(grant) = &mut self.state.lock().grant {
            grant.refuse(session);
        }
    }

    /// Admits a request that names `claim`, or not. An admitted call is in flight from here on.
    pub(crate) fn enter(
        self: &Arc<Self>,
        claim: Option<&Claim>,
        weight: Weight,
        now: Moment,
    ) -> Entry {
        let mut state = self.state.lock();
        match state.latch.admit(claim) {
            Admission::Misdirected => Entry::Misdirected,
            Admission::Leaving => Entry::Leaving,
            Admission::Serve => {
                if weight == Weight::Call {
                    state.in_flight += 1;
                    state.last_activity = Some(now);
                }
                drop(state);
                Entry::Admitted(InFlight::new(Arc::clone(self), weight))
            }
        }
    }

    /// A call that is in flight is counted once more: it ends where two ends have been told.
    pub(super) fn call_goes_on(&self) {
        self.state.lock().in_flight += 1;
    }

    /// A call has ended; told by its [`InFlight`].
    pub(super) fn end_call(&self, now: Moment) {
        let mut state = self.state.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.last_activity = Some(now);
        let is_last = state.in_flight == 0;
        drop(state);
        if is_last {
            self.changed.send_replace(());
        }
    }

    /// Begins to leave. The first reason stands.
    pub(crate) fn leave(&self, departure: Departure) {
        self.state.lock().leave(departure);
        self.leaving.cancel();
    }

    /// Begins to leave if it is nobody's and kept for nobody.
    pub(crate) fn retire(&self, now: Moment) -> Result<(), BindRefusal> {
        let mut state = self.state.lock();
        if state.latch == Latch::Anonymous && state.reservation.holder(now).is_some() {
            return Err(BindRefusal::Reserved);
        }
        if !state.leave_unbound() {
            return Err(BindRefusal::OtherTenant);
        }
        drop(state);
        self.leaving.cancel();
        Ok(())
    }

    /// Leaves at the next idle moment: at once where no tenant was ever bound, else when `policy` is asked next.
    pub(crate) fn leave_when_idle(&self) {
        let mut state = self.state.lock();
        state.is_asked_to_leave = true;
        let leaves = state.leave_unbound();
        drop(state);
        if leaves {
            self.leaving.cancel();
        } else {
            self.changed.send_replace(());
        }
    }

    /// Begins to leave if `policy` says so, in one step with the decision.
    pub(crate) fn leave_if_idle(&self, policy: &IdlePolicy, now: Moment) -> IdleCheck {
        let mut state = self.state.lock();
        if state.departure.is_some() {
            return IdleCheck::Left;
        }
        let Some(activity) = state.activity(now) else {
            return IdleCheck::AtChange;
        };
        let reason = match policy.decide(activity) {
            IdleDecision::LeaveIdle => LeaveReason::Idle,
            IdleDecision::LeaveAged => LeaveReason::MaxAge,
            IdleDecision::LeaveAsked => LeaveReason::Drained,
            IdleDecision::LookAgainIn(wait) => return IdleCheck::In(wait),
        };
        state.leave(reason.into());
        drop(state);
        self.leaving.cancel();
        IdleCheck::Left
    }

    /// Tells of readiness, of binds and of ends of last calls.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns once the worker leaves and takes nothing new.
    pub(crate) async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// Cancelled when the worker begins to leave.
    pub(crate) fn leaving_token(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Whether the worker leaves.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Ends the streams that wait for events, and then the connections.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Cancelled when streams that wait for events end.
    pub(crate) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Whether no call is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.lock().in_flight == 0
    }

    /// Whether the worker leaves because its MCP server is gone.
    pub(crate) fn is_without_server(&self) -> bool {
        self.state.lock().departure.as_ref().is_some_and(Departure::is_without_server)
    }

    /// What an operator may see.
    pub(crate) fn status(&self) -> WorkerStatus {
        let state = self.state.lock();
        WorkerStatus {
            phase: match (&state.latch, state.is_ready) {
                (Latch::Leaving(_), _) => WorkerPhase::Leaving,
                (Latch::Bound(_), _) => WorkerPhase::Bound,
                (Latch::Anonymous, true) => WorkerPhase::Anonymous,
                (Latch::Anonymous, false) => WorkerPhase::Warming,
            },
            tenant: state.latch.claim().map(|claim| claim.tenant.clone()),
            in_flight: state.in_flight,
            last_activity: state.last_activity.map(|moment| moment.timestamp),
        }
    }

    /// The last words.
    pub(crate) fn farewell(&self) -> Farewell {
        let state = self.state.lock();
        let departure = state.departure.clone().unwrap_or(LeaveReason::Drained.into());
        Farewell {
            tenant: state.latch.claim().map(|claim| claim.tenant.clone()),
            reason: departure.reason,
            last_activity: state.last_activity.map(|moment| moment.timestamp),
            detail: departure.detail,
        }
    }
}

impl State {
    fn leave(&mut self, departure: Departure) {
        self.latch.leave();
        self.departure.get_or_insert(departure);
    }

    /// Begins to leave if no tenant was ever bound; whether the worker leaves unbound.
    fn leave_unbound(&mut self) -> bool {
        let leaves = self.latch.leave_if_anonymous();
        if leaves {
            self.leave(LeaveReason::Retired.into());
        }
        leaves
    }

    /// What a bound worker has seen; none for an anonymous one, which is never idle.
    fn activity(&self, now: Moment) -> Option<Activity> {
        let bound = self.bound?;
        let quiet_since = self.last_activity.unwrap_or(bound);
        Some(Activity {
            in_flight: self.in_flight,
            quiet_for: now.instant.saturating_duration_since(quiet_since.instant),
            age: now.instant.saturating_duration_since(bound.instant),
            is_asked_to_leave: self.is_asked_to_leave,
        })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
