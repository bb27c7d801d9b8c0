//! All workers and tenants of a namespace, as far as this gateway knows, put in order for quick answers.
//!
//! It is fed by watches, which may lag, and by this gateway's own writes, which it must not forget until the
//! watch has caught up with them. Nothing here is the truth: that is the API server's, and whose a worker is, its
//! latch decides. This module must not know how objects are fetched or written.

mod worker;

use super::{
    pick::{Asking, Free, Pick, TURNED_AWAY, pick},
    seen::{SeenTenant, SeenWorker, Version},
};
use jiff::Timestamp;
use patchbay_core::{
    id::{ClassName, Incarnation},
    orchestrator::{Offer, TenantState},
    tenant::TenantName,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::{Said, Worker};

/// What is known.
#[derive(Debug, Default)]
pub(super) struct View {
    workers: HashMap<Incarnation, Worker>,
    tenants: HashMap<TenantName, SeenTenant>,
    /// Which tenants name a worker.
    named: HashMap<Incarnation, BTreeSet<TenantName>>,
    /// Free workers, in the order in which they became free.
    free: HashMap<ClassName, BTreeMap<(u64, Incarnation), Instant>>,
    /// Tenants that wait, the longest waiting first.
    waiting: HashMap<ClassName, BTreeSet<(Timestamp, TenantName)>>,
    /// What a list that is not complete yet has shown so far.
    listed_workers: Option<HashMap<Incarnation, SeenWorker>>,
    listed_tenants: Option<HashMap<TenantName, SeenTenant>>,
    /// How far the watch of tenants has come.
    watched: Version,
}

/// What is known of a tenant's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// The tenant names none, or one that takes no work.
    Nobody,
    /// It names one that was never seen, or not with its address and key: the watch of pods may lag behind the one of
    /// tenants.
    Unseen(Incarnation),
    /// It has this one.
    Worker(Offer),
}

// Workers.
impl View {
    /// A worker was seen. Returns whether that changes anything for anybody.
    pub(super) fn worker_seen(&mut self, seen: SeenWorker, now: Instant) -> bool {
        if let Some(listed) = &mut self.listed_workers {
            listed.insert(seen.uid.clone(), seen.clone());
        }
        let uid = seen.uid.clone();
        match self.workers.get_mut(&uid) {
            Some(known) if seen.version.is_before(known.seen.version) => false,
            Some(known) => {
                let before = known.offer();
                let was_ready = known.seen.is_ready();
                known.seen = seen;
                known.judge(now);
                let after = known.offer();
                if before.is_some() && after.is_none() {
                    known.over.cancel();
                } else if before.is_none() && after.is_some() {
                    known.over = CancellationToken::new();
                }
                let is_ready = known.seen.is_ready();
                self.place(&uid, now) || before != after || was_ready != is_ready
            }
            None => {
                self.workers.insert(uid.clone(), Worker::new(seen));
                self.place(&uid, now);
                true
            }
        }
    }

    /// A worker's pod is gone.
    pub(super) fn worker_deleted(&mut self, uid: &Incarnation) -> bool {
        if let Some(listed) = &mut self.listed_workers {
            listed.remove(uid);
        }
        let Some(worker) = self.workers.remove(uid) else { return false };
        worker.over.cancel();
        if let Some(order) = worker.free {
            self.take_place(&worker.seen.class, order, uid);
        }
        true
    }

    /// A worker said itself that it is leaving.
    pub(super) fn worker_left(&mut self, uid: &Incarnation, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(uid).filter(|worker| worker.said != Said::Leaves)
        else {
            return false;
        };
        worker.said = Said::Leaves;
        worker.over.cancel();
        self.place(uid, now);
        true
    }

    /// A worker said itself that it is kept for another tenant.
    pub(super) fn worker_reserved(&mut self, uid: &Incarnation, now: Instant) -> bool {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.not_before = Some(now + TURNED_AWAY);
        }
        // nobody can take it sooner for that
        false
    }

    /// A worker said itself that it is a tenant's. Whose, the watch of tenants is about to show.
    pub(super) fn worker_taken(&mut self, uid: &Incarnation, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(uid).filter(|worker| worker.said == Said::Nothing)
        else {
            return false;
        };
        worker.said = Said::Taken;
        self.place(uid, now)
    }

    /// A worker cannot be reached. That is its end once the cluster does not vouch for it either, which may be so
    /// already, or soon.
    pub(super) fn worker_unreachable(&mut self, uid: &Incarnation, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(uid).filter(|worker| worker.offer().is_some())
        else {
            return false;
        };
        worker.unreached = Some(now);
        worker.not_before = Some(now + TURNED_AWAY);
        worker.judge(now);
        if worker.is_lost {
            worker.over.cancel();
        }
        worker.is_lost
    }

    /// A list of all workers begins.
    pub(super) fn list_workers(&mut self) {
        self.listed_workers = Some(HashMap::new());
    }

    /// It shows this one.
    pub(super) fn worker_listed(&mut self, seen: SeenWorker) {
        if let Some(listed) = &mut self.listed_workers {
            listed.insert(seen.uid.clone(), seen);
        }
    }

    /// It is complete: what it did not show is gone.
    pub(super) fn workers_complete(&mut self, now: Instant) {
        let Some(listed) = self.listed_workers.take() else { return };
        let known: Vec<_> = self.workers.keys().cloned().collect();
        for uid in known.iter().filter(|uid| !listed.contains_key(*uid)) {
            self.worker_deleted(uid);
        }
        for seen in listed.into_values() {
            self.worker_seen(seen, now);
        }
    }

    /// Ends when this life of a worker is over for new work; none if it is over, or was never seen.
    pub(super) fn until_over(&self, uid: &Incarnation) -> Option<CancellationToken> {
        let worker = self.workers.get(uid).filter(|worker| worker.offer().is_some())?;
        Some(worker.over.clone())
    }

    /// Keeps other claims of this gateway from a worker while one is taking it. False if one is already.
    pub(super) fn take_in_hand(&mut self, uid: &Incarnation) -> bool {
        let worker = self.workers.get_mut(uid);
        worker.is_some_and(|worker| !std::mem::replace(&mut worker.is_in_hand, true))
    }

    /// The claim has ended.
    pub(super) fn put_down(&mut self, uid: &Incarnation) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.is_in_hand = false;
        }
    }

    /// Whether a worker may become some tenant's.
    pub(super) fn is_free(&self, uid: &Incarnation, class: &ClassName) -> bool {
        let worker = self.workers.get(uid);
        worker.is_some_and(|worker| worker.free.is_some() && worker.seen.class == *class)
    }

    /// Puts a worker among the free ones or takes it from there. Returns whether it was the other way before.
    fn place(&mut self, uid: &Incarnation, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(uid) else { return false };
        let is_free = worker.offer().is_some()
            && worker.seen.is_ready()
            && !worker.seen.is_marked_bound
            && worker.said == Said::Nothing
            && !self.named.contains_key(uid);
        let class = worker.seen.class.clone();
        match (worker.free, is_free) {
            (None, true) => {
                let order = worker.seen.version.order();
                worker.free = Some(order);
                self.free.entry(class).or_default().insert((order, uid.clone()), now);
                true
            }
            (Some(order), false) => {
                worker.free = None;
                self.take_place(&class, order, uid);
                true
            }
            _ => false,
        }
    }

    fn take_place(&mut self, class: &ClassName, order: u64, uid: &Incarnation) {
        if let Some(free) = self.free.get_mut(class) {
            free.remove(&(order, uid.clone()));
            if free.is_empty() {
                self.free.remove(class);
            }
        }
    }
}

// Tenants.
impl View {
    /// The watch shows a tenant.
    pub(super) fn tenant_watched(
        &mut self,
        name: TenantName,
        seen: SeenTenant,
        now: Instant,
    ) -> bool {
        self.watched = self.watched.max(seen.version);
        self.tenant_seen(name, seen, now)
    }

    /// An answer of the API server shows a tenant. One that the watch has seen come and go since then is not
    /// brought back.
    pub(super) fn tenant_answered(
        &mut self,
        name: TenantName,
        seen: SeenTenant,
        now: Instant,
    ) -> bool {
        let is_past = !self.tenants.contains_key(&name) && seen.version.is_before(self.watched);
        !is_past && self.tenant_seen(name, seen, now)
    }

    fn tenant_seen(&mut self, name: TenantName, seen: SeenTenant, now: Instant) -> bool {
        if let Some(listed) = &mut self.listed_tenants {
            keep_later(listed, &name, &seen);
        }
        let before = self.tenants.get(&name);
        if before.is_some_and(|known| seen.version.is_before(known.version)) {
            return false;
        }
        let is_news = before.is_none_or(|known| !known.says_the_same(&seen));
        if is_news {
            self.unlink(&name, now);
            self.link(&name, &seen, now);
        }
        self.tenants.insert(name, seen);
        is_news
    }

    /// The watch says that a tenant is gone.
    pub(super) fn tenant_deleted(
        &mut self,
        name: &TenantName,
        version: Version,
        now: Instant,
    ) -> bool {
        self.watched = self.watched.max(version);
        if let Some(listed) = &mut self.listed_tenants
            && listed.get(name).is_some_and(|known| !version.is_before(known.version))
        {
            listed.remove(name);
        }
        match self.tenants.get(name) {
            // it was made anew since, by this very gateway
            Some(known) if version.is_before(known.version) => false,
            Some(_) => self.tenant_missing(name, now),
            None => false,
        }
    }

    /// The API server has no such tenant.
    pub(super) fn tenant_missing(&mut self, name: &TenantName, now: Instant) -> bool {
        self.unlink(name, now);
        self.tenants.remove(name).is_some()
    }

    /// The API server had no such tenant when it was asked, which was when this version of it was known. What was seen of
    /// it since then is later than the answer.
    pub(super) fn tenant_not_found(
        &mut self,
        name: &TenantName,
        asked_at: Option<Version>,
        now: Instant,
    ) -> bool {
        self.version(name) == asked_at && self.tenant_missing(name, now)
    }

    /// The version of a tenant that is known.
    pub(super) fn version(&self, name: &TenantName) -> Option<Version> {
        self.tenants.get(name).map(|tenant| tenant.version)
    }

    /// A list of all tenants begins.
    pub(super) fn list_tenants(&mut self) {
        self.listed_tenants = Some(HashMap::new());
    }

    /// It shows this one.
    pub(super) fn tenant_listed(&mut self, name: &TenantName, seen: &SeenTenant) {
        if let Some(listed) = &mut self.listed_tenants {
            keep_later(listed, name, seen);
        }
    }

    /// It is complete: what it did not show, and what this gateway did not write meanwhile, is gone.
    pub(super) fn tenants_complete(&mut self, now: Instant) {
        let Some(listed) = self.listed_tenants.take() else { return };
        let known: Vec<_> = self.tenants.keys().cloned().collect();
        for name in known.iter().filter(|name| !listed.contains_key(*name)) {
            self.tenant_missing(name, now);
        }
        for (name, seen) in listed {
            self.tenant_watched(name, seen, now);
        }
    }

    fn link(&mut self, name: &TenantName, seen: &SeenTenant, now: Instant) {
        if let Some(since) = seen.waits_since() {
            self.waiting.entry(seen.class.clone()).or_default().insert((since, name.clone()));
        }
        // the operator does not count what an unusable tenant says, so neither do gateways
        if let Some(uid) = seen.names().filter(|_| seen.is_usable) {
            self.named.entry(uid.clone()).or_default().insert(name.clone());
            self.place(&uid, now);
        }
    }

    fn unlink(&mut self, name: &TenantName, now: Instant) {
        let Some(known) = self.tenants.get(name) else { return };
        let (class, since, uid) = (known.class.clone(), known.waits_since(), known.names());
        if let (Some(since), Some(waiting)) = (since, self.waiting.get_mut(&class)) {
            waiting.remove(&(since, name.clone()));
            if waiting.is_empty() {
                self.waiting.remove(&class);
            }
        }
        let Some(uid) = uid else { return };
        if let Some(names) = self.named.get_mut(&uid) {
            names.remove(name);
            if names.is_empty() {
                self.named.remove(&uid);
                self.place(&uid, now);
            }
        }
    }

    /// What is known of a tenant.
    pub(super) fn tenant(&self, name: &TenantName) -> Option<&SeenTenant> {
        self.tenants.get(name)
    }

    /// The worker that a tenant has. One of another class, or without a recorded key, is none.
    pub(super) fn worker_of(&self, tenant: &SeenTenant) -> Named {
        let Some(uid) = tenant.names().filter(|_| tenant.is_usable) else { return Named::Nobody };
        match self.workers.get(&uid) {
            None => Named::Unseen(uid),
            Some(worker) if worker.seen.class != tenant.class => Named::Nobody,
            Some(worker) if worker.is_incomplete() => Named::Unseen(uid),
            Some(worker) => worker.offer().map_or(Named::Nobody, Named::Worker),
        }
    }

    /// What requests are told of a tenant.
    pub(super) fn lookup(&self, name: &TenantName) -> TenantState {
        match self.tenants.get(name) {
            Some(tenant) if !tenant.is_usable => TenantState::Unknown,
            Some(tenant) if tenant.is_suspended => TenantState::Suspended,
            Some(tenant) => match self.worker_of(tenant) {
                Named::Worker(offer) => TenantState::Assigned(tenant.placement(offer)),
                Named::Nobody | Named::Unseen(_) => TenantState::Asleep { last: tenant.last() },
            },
            None => TenantState::Unknown,
        }
    }

    /// How many tenants of a class have a worker, without this one.
    pub(super) fn with_worker(&self, class: &ClassName, but: &TenantName) -> usize {
        let has_worker = |(name, tenant): &(&TenantName, &SeenTenant)| {
            tenant.class == *class
                && *name != but
                && matches!(self.worker_of(tenant), Named::Worker(_) | Named::Unseen(_))
        };
        self.tenants.iter().filter(has_worker).count()
    }

    /// A free worker of a class for whoever asks, which is counted as offered. Waits longer than `hold` do not
    /// count: no gateway holds a request for so long.
    pub(super) fn pick(
        &mut self,
        class: &ClassName,
        asking: Asking<'_>,
        hold: Duration,
        today: Timestamp,
    ) -> Result<Offer, Option<Instant>> {
        let free: Vec<_> = self.free.get(class).into_iter().flatten().collect();
        let free: Vec<_> = free
            .into_iter()
            .filter_map(|((_, uid), since)| {
                let worker = self.workers.get(uid)?;
                Some(Free {
                    uid,
                    since: *since,
                    offered: worker.offered,
                    is_in_hand: worker.is_in_hand,
                    not_before: worker.not_before,
                })
            })
            .collect();
        let oldest = today.saturating_sub(hold).unwrap_or(Timestamp::MIN);
        let newest = today.saturating_add(hold).unwrap_or(Timestamp::MAX);
        let waiting = self.waiting.get(class).into_iter().flatten();
        let counted = waiting.filter(|(since, _)| (oldest..newest).contains(since));
        // no more of the queue is of interest than there are workers
        let queue: Vec<_> = counted.take(free.len()).map(|(_, name)| name.clone()).collect();
        match pick(&free, &queue, asking) {
            Pick::Wait(until) => Err(until),
            Pick::Take(uid) => {
                let uid = uid.clone();
                let worker = self.workers.get_mut(&uid).ok_or(None)?;
                worker.offered = worker.offered.saturating_add(1);
                worker.offer().ok_or(None)
            }
        }
    }

    /// How many free workers a class has.
    #[cfg(test)]
    pub(super) fn count_free(&self, class: &ClassName) -> usize {
        self.free.get(class).map_or(0, BTreeMap::len)
    }
}

fn keep_later(listed: &mut HashMap<TenantName, SeenTenant>, name: &TenantName, seen: &SeenTenant) {
    let known = listed.get(name);
    if known.is_none_or(|known| !seen.version.is_before(known.version)) {
        listed.insert(name.clone(), seen.clone());
    }
}
