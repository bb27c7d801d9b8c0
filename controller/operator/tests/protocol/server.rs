//! What an API server and nodes hold: tenants and pods with UIDs and resource versions, and the worker in each pod,
//! whose latch is the real one.

use jiff::Timestamp;
use patchbay_core::{
    id::{Epoch, Incarnation, TenantUid},
    latch::{Claim, Latch},
    link::{Farewell, LeaveReason},
};
use patchbay_crds::tenant::TenantAssignment;
use patchbay_operator::observe::{Known, Life, ObservedPod, Trouble};
use std::collections::{BTreeMap, BTreeSet};

/// What a list or a watch shows of a tenant. Its name is its key in [`Server::tenants`].
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) uid: TenantUid,
    pub(crate) version: u64,
    pub(crate) suspended: bool,
    pub(crate) assignment: Option<TenantAssignment>,
}

/// What a list or a watch shows of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) seen: ObservedPod,
    pub(crate) ip: u32,
}

/// What a run must be able to meet to be worth anything.
pub(crate) const EVENTS: [&str; 21] = [
    "a request was served",
    "a request was misdirected",
    "a request met a leaving worker",
    "another pod answered at the address",
    "a bind met another tenant's worker",
    "an assignment conflicted",
    "a clearing conflicted",
    "a clearing with last words",
    "a clearing without a pod",
    "a retirement was refused",
    "a retirement",
    "drained: Suspended",
    "drained: Deleted",
    "drained: Orphaned",
    "retired: Abandoned",
    "retired: Taken",
    "a delete conflicted",
    "a list",
    "another gateway was faster",
    "a worker was kept for another",
    "a retirement met a kept worker",
];

/// For so long a worker is kept for a tenant that does not come, seconds.
const KEPT: i64 = 20;

/// Whether a worker keeps itself for a tenant.
#[derive(Debug)]
pub(crate) enum Keeping {
    Kept,
    /// For the moment it is another's.
    ForAnother,
    /// It leaves, or is a tenant's.
    NotFree,
    Unanswered,
}

/// A write that was refused: the object is not what the writer thought.
#[derive(Debug)]
pub(crate) struct Conflict;

pub(crate) type Tenants = BTreeMap<u8, Tenant>;
pub(crate) type Pods = BTreeMap<Incarnation, Pod>;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) now: i64,
    pub(crate) warm: u32,
    pub(crate) revision: String,
    pub(crate) cordoned: BTreeSet<String>,
    pub(crate) tenants: Tenants,
    pub(crate) pods: Pods,
    /// The process in each pod.
    pub(crate) latches: BTreeMap<Incarnation, Latch>,
    /// For whom workers are kept, and until when.
    kept: BTreeMap<Incarnation, (u8, i64)>,
    /// Workers that were asked to leave when they are idle.
    pub(crate) asked: BTreeSet<Incarnation>,
    /// Whose every UID that there ever was is.
    pub(crate) key_of: BTreeMap<TenantUid, u8>,
    /// Lives of tenants that were ever shut out.
    pub(crate) once_suspended: BTreeSet<TenantUid>,
    /// Which claims each worker has served.
    pub(crate) served: BTreeMap<Incarnation, BTreeSet<(u8, TenantUid, Epoch)>>,
    /// Who accepted each claim.
    pub(crate) accepted: BTreeMap<(TenantUid, Epoch), BTreeSet<Incarnation>>,
    pub(crate) violations: Vec<String>,
    pub(crate) events: BTreeMap<String, u32>,
    count: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            now: 1000,
            warm: 2,
            revision: "r1".into(),
            cordoned: BTreeSet::new(),
            tenants: Tenants::new(),
            pods: Pods::new(),
            latches: BTreeMap::new(),
            kept: BTreeMap::new(),
            asked: BTreeSet::new(),
            key_of: BTreeMap::new(),
            once_suspended: BTreeSet::new(),
            served: BTreeMap::new(),
            accepted: BTreeMap::new(),
            violations: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
        }
    }
}

impl Server {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn create_tenant(
        &mut self,
        key: u8,
        assignment: TenantAssignment,
    ) -> Result<Tenant, Conflict> {
        if self.tenants.contains_key(&key) {
            return Err(Conflict);
        }
        let version = self.next();
        let uid = TenantUid::parse(format!("tenant-{version}")).unwrap();
        self.key_of.insert(uid.clone(), key);
        let tenant = Tenant { uid, version, suspended: false, assignment: Some(assignment) };
        self.tenants.insert(key, tenant.clone());
        Ok(tenant)
    }

    /// Replaces an assignment, if the tenant is as it was read.
    pub(crate) fn assign(
        &mut self,
        key: u8,
        version: u64,
        assignment: TenantAssignment,
    ) -> Result<Tenant, Conflict> {
        let next = self.next();
        let tenant = self.tenants.get(&key).ok_or(Conflict)?;
        if tenant.version != version || tenant.suspended {
            return Err(Conflict);
        }
        let named = tenant.assignment.as_ref().and_then(|a| Incarnation::parse(&*a.uid).ok());
        let serves_it = |worker: &Incarnation| {
            let claim = self.latches.get(worker).and_then(Latch::claim);
            claim.is_some_and(|claim| claim.tenant == tenant.uid) && self.serves_a_user(worker)
        };
        if let Some(worker) = named.filter(serves_it) {
            self.violate(format!("{key} was moved from {worker}, which served it"));
        }
        let tenant = self.tenants.get_mut(&key).ok_or(Conflict)?;
        tenant.version = next;
        tenant.assignment = Some(assignment);
        Ok(tenant.clone())
    }

    /// Puts `cleared` in the place of an assignment that still names this worker and epoch.
    pub(crate) fn clear(
        &mut self,
        key: u8,
        worker: &Incarnation,
        epoch: Epoch,
        cleared: Option<TenantAssignment>,
    ) -> Result<(), Conflict> {
        let next = self.next();
        let tenant = self.tenants.get_mut(&key).ok_or(Conflict)?;
        let is_same = tenant
            .assignment
            .as_ref()
            .is_some_and(|a| a.uid == worker.as_str() && a.epoch == epoch.0);
        if !is_same {
            return Err(Conflict);
        }
        tenant.version = next;
        tenant.assignment = cleared;
        Ok(())
    }

    pub(crate) fn suspend(&mut self, key: u8, suspended: bool) {
        let next = self.next();
        if let Some(tenant) = self.tenants.get_mut(&key) {
            tenant.version = next;
            tenant.suspended = suspended;
            if suspended {
                self.once_suspended.insert(tenant.uid.clone());
            }
        }
    }

    pub(crate) fn create_pod(&mut self) -> Incarnation {
        let count = self.next();
        let uid = Incarnation::parse(format!("pod-{count}")).unwrap();
        // addresses are few, so that they are used again
        let is_used = |ip: &u32| self.pods.values().any(|pod| pod.ip == *ip);
        let ip = (0..u32::MAX).find(|ip| !is_used(ip)).unwrap();
        let seen = ObservedPod {
            name: uid.to_string(),
            uid: uid.clone(),
            resource_version: count.to_string(),
            revision: self.revision.clone(),
            created: self.now(),
            node: Some(format!("n{}", count % 3)),
            marked_bound: false,
            ready_since: None,
            fingerprint: None,
            life: Life::Starting { dialable: false, trouble: None },
            known: Known::default(),
        };
        self.pods.insert(uid.clone(), Pod { seen, ip });
        self.latches.insert(uid.clone(), Latch::default());
        uid
    }

    /// Changes a pod, which has another resource version then.
    pub(crate) fn change(&mut self, uid: &Incarnation, change: impl FnOnce(&mut ObservedPod)) {
        let next = self.next();
        if let Some(pod) = self.pods.get_mut(uid) {
            change(&mut pod.seen);
            pod.seen.resource_version = next.to_string();
        }
    }

    pub(crate) fn remove_pod(&mut self, uid: &Incarnation) {
        self.pods.remove(uid);
        self.latches.remove(uid);
    }

    /// A pod takes a further step on its way to be ready.
    pub(crate) fn start(&mut self, uid: &Incarnation) {
        let now = self.now();
        let is_leaving = matches!(self.latches.get(uid), Some(Latch::Leaving(_)) | None);
        self.change(uid, |pod| match &mut pod.life {
            Life::Starting { dialable: dialable @ false, .. } => *dialable = true,
            Life::Starting { .. } | Life::Up if !is_leaving => {
                pod.ready_since.get_or_insert(now);
            }
            _ => {}
        });
    }

    /// The worker starts to leave; its probe fails from then on.
    pub(crate) fn leave(&mut self, uid: &Incarnation) {
        if let Some(latch) = self.latches.get_mut(uid) {
            latch.leave();
            self.change(uid, |pod| pod.ready_since = None);
        }
    }

    /// A worker that leaves has ended.
    pub(crate) fn end(&mut self, uid: &Incarnation) {
        let Some(Latch::Leaving(claim)) = self.latches.get(uid) else { return };
        let reason = if claim.is_some() { LeaveReason::Idle } else { LeaveReason::Retired };
        let farewell = Farewell {
            tenant: claim.as_ref().map(|claim| claim.tenant.clone()),
            reason,
            last_activity: Some(self.now()),
            detail: None,
        };
        self.change(uid, |pod| pod.life = Life::Finished(farewell));
    }

    /// A worker is no more.
    pub(crate) fn die(&mut self, uid: &Incarnation) {
        self.leave(uid);
        let trouble =
            Trouble { reason: "Error".into(), message: "killed".into(), at: Some(self.now()) };
        self.change(uid, |pod| pod.life = Life::Failed { trouble, farewell: None });
    }

    /// The worker that answers at an address, if it has the key that the caller pinned.
    pub(crate) fn dial(&mut self, ip: u32, pinned: &Incarnation) -> Option<&mut Latch> {
        let (uid, pod) = self.pods.iter().find(|(_, pod)| pod.ip == ip)?;
        if uid != pinned {
            self.note("another pod answered at the address");
            return None;
        }
        let answers = !pod.seen.has_ended();
        answers.then(|| self.latches.get_mut(pinned)).flatten()
    }

    /// Asks a worker to keep itself for a tenant.
    pub(crate) fn keep(&mut self, ip: u32, pinned: &Incarnation, key: u8) -> Keeping {
        let holder = self.kept.get(pinned).filter(|(_, until)| *until > self.now);
        let is_anothers = holder.is_some_and(|(holder, _)| *holder != key);
        match self.dial(ip, pinned) {
            Some(Latch::Anonymous) if is_anothers => Keeping::ForAnother,
            Some(Latch::Anonymous) => {
                self.kept.insert(pinned.clone(), (key, self.now + KEPT));
                Keeping::Kept
            }
            Some(Latch::Bound(_) | Latch::Leaving(_)) => Keeping::NotFree,
            None => Keeping::Unanswered,
        }
    }

    /// The tenant does not take it.
    pub(crate) fn release(&mut self, uid: &Incarnation, key: u8) {
        if self.kept.get(uid).is_some_and(|(holder, _)| *holder == key) {
            self.kept.remove(uid);
        }
    }

    /// Whether a worker is kept for anybody.
    pub(crate) fn is_kept(&self, uid: &Incarnation) -> bool {
        self.kept.get(uid).is_some_and(|(_, until)| *until > self.now)
    }

    /// Whether this worker is bound, and its tenant still counts on it.
    pub(crate) fn serves_a_user(&self, uid: &Incarnation) -> bool {
        let Some(Latch::Bound(claim)) = self.latches.get(uid) else { return false };
        let is_theirs = |tenant: &Tenant| {
            tenant.uid == claim.tenant
                && !self.once_suspended.contains(&tenant.uid)
                && tenant
                    .assignment
                    .as_ref()
                    .is_some_and(|a| a.uid == uid.as_str() && a.epoch == claim.epoch.0)
        };
        self.pods.get(uid).is_some_and(|pod| !pod.seen.has_ended())
            && self.tenants.values().any(is_theirs)
    }

    pub(crate) fn note(&mut self, event: impl Into<String>) {
        *self.events.entry(event.into()).or_default() += 1;
    }

    pub(crate) fn violate(&mut self, text: String) {
        self.violations.push(text);
    }

    /// A worker took a bind.
    pub(crate) fn note_bind(&mut self, uid: &Incarnation, claim: &Claim) {
        let claim = (claim.tenant.clone(), claim.epoch);
        let workers = self.accepted.entry(claim).or_default();
        workers.insert(uid.clone());
        if workers.len() > 1 {
            let text = format!("one claim has several workers: {workers:?}");
            self.violate(text);
        }
    }

    /// A worker served a request of a tenant.
    pub(crate) fn note_served(&mut self, uid: &Incarnation, key: u8, claim: &Claim) {
        self.note("a request was served");
        let claims = self.served.entry(uid.clone()).or_default();
        claims.insert((key, claim.tenant.clone(), claim.epoch));
        if claims.len() > 1 {
            let text = format!("{uid} served several claims: {claims:?}");
            self.violate(text);
        }
        if self.key_of.get(&claim.tenant) != Some(&key) {
            self.violate(format!("{uid} served a request of {key} as {claim:?}"));
        }
    }
}
