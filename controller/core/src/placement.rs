//! Who has which worker: the whole state of a local control plane, as pure transitions.
//!
//! In a cluster the API server holds this state and a compare-and-swap on a Tenant object decides; on
//! one machine this ledger does. No transition hands one worker to two tenants, gives a tenant two
//! workers, or returns a worker that was ever assigned to the pool. This module must not know sandboxes,
//! time or locks: the caller serialises, and passes fresh UIDs in.

use crate::{
    class::Limits,
    id::{ClassName, Epoch, Incarnation, TenantUid},
    latch::Claim,
    link::Farewell,
    orchestrator::{AssignRefusal, Assignment, Offer, Placement, TenantState},
    tenant::{TenantKey, TenantName},
};
use std::collections::BTreeMap;

/// A worker that is ready, and whose it is.
#[derive(Debug, Clone)]
struct Worker {
    class: ClassName,
    offer: Offer,
    tenant: Option<TenantName>,
    /// How often it was offered: the least offered is offered next, so that concurrent claims meet
    /// different workers.
    offered: u64,
}

/// What is remembered of a tenant. It holds no credential.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// What makes the tenant.
    pub key: TenantKey,
    /// The UID that workers latch on.
    pub uid: TenantUid,
    /// The last assignment's epoch.
    pub epoch: Epoch,
    /// The worker that it has.
    pub worker: Option<Incarnation>,
    /// Whether an operator shut it out.
    pub suspended: bool,
    /// The worker that it has or had.
    last_worker: Option<Incarnation>,
    /// How its last worker ended, as far as that worker could say.
    pub last_farewell: Option<Farewell>,
}

/// Workers and tenants of one control plane.
#[derive(Debug, Default)]
pub struct Ledger {
    workers: BTreeMap<Incarnation, Worker>,
    tenants: BTreeMap<TenantName, Tenant>,
}

impl Ledger {
    /// An operator made a tenant, or says anew whether it is suspended; `fresh_uid` is used if it is new. One that is
    /// suspended has no worker from now on: the last one that it was given is returned, and must end.
    pub fn provision(
        &mut self,
        key: TenantKey,
        suspended: bool,
        fresh_uid: TenantUid,
    ) -> Option<Incarnation> {
        let tenant = self.tenants.entry(key.name()).or_insert(Tenant {
            key,
            uid: fresh_uid,
            epoch: Epoch::default(),
            worker: None,
            suspended,
            last_worker: None,
            last_farewell: None,
        });
        tenant.suspended = suspended;
        if !suspended {
            return None;
        }
        if let Some(worker) = tenant.worker.take() {
            self.workers.remove(&worker);
        }
        tenant.last_worker.clone()
    }

    /// An operator deleted a tenant: nothing of it is kept, and who comes by its name is another. The last worker that it
    /// was given is returned, and must end.
    pub fn delete(&mut self, name: &TenantName) -> Option<Incarnation> {
        let tenant = self.tenants.remove(name)?;
        if let Some(worker) = &tenant.worker {
            self.workers.remove(worker);
        }
        tenant.last_worker
    }

    /// A worker enrolled and is ready. One that is known already changes nothing: a worker never becomes
    /// anonymous again.
    pub fn worker_ready(&mut self, class: ClassName, offer: Offer) {
        self.workers.entry(offer.incarnation.clone()).or_insert(Worker {
            class,
            offer,
            tenant: None,
            offered: 0,
        });
    }

    /// A worker takes no new work any more. Its tenant, which is returned, is asleep from now on.
    pub fn worker_gone(&mut self, incarnation: &Incarnation) -> Option<TenantName> {
        let worker = self.workers.remove(incarnation)?;
        let name = worker.tenant?;
        let tenant = self.tenants.get_mut(&name)?;
        if tenant.worker.as_ref() == Some(incarnation) {
            tenant.worker = None;
        }
        Some(name)
    }

    /// Keeps the last words of a worker for its tenant, which may have another worker by now.
    pub fn record_farewell(&mut self, incarnation: &Incarnation, farewell: Farewell) {
        let tenant =
            self.tenants.values_mut().find(|t| t.last_worker.as_ref() == Some(incarnation));
        if let Some(tenant) = tenant {
            tenant.last_farewell = Some(farewell);
        }
    }

    /// An anonymous worker of a class, none of those of `failed`.
    pub fn pick(&mut self, class: &ClassName, failed: &[Placement]) -> Option<Offer> {
        let worker = self
            .workers
            .values_mut()
            .filter(|worker| {
                worker.class == *class
                    && worker.tenant.is_none()
                    && failed.iter().all(|it| it.offer.incarnation != worker.offer.incarnation)
            })
            .min_by_key(|worker| worker.offered)?;
        worker.offered += 1;
        Some(worker.offer.clone())
    }

    /// Gives the offered worker to a tenant, or says why not. `fresh_uid` is used if the tenant is new.
    ///
    /// The epoch is the comparison of a compare-and-swap: of several claims that saw the same state, the
    /// first wins and the others lose to it. A claim that saw an assignment and found its worker to be
    /// of no use (another tenant's) moves the tenant on; the worker that it leaves stays taken.
    pub fn assign(
        &mut self,
        key: &TenantKey,
        offer: &Offer,
        epoch: Epoch,
        limits: Limits,
        fresh_uid: TenantUid,
    ) -> Assignment {
        let name = key.name();
        let state = self.lookup(&name);
        if state == TenantState::Suspended {
            return Assignment::Refused(AssignRefusal::Suspended);
        }
        if epoch != state.next_epoch() {
            return match state {
                TenantState::Assigned(placement) if epoch <= placement.claim.epoch => {
                    Assignment::Lost(placement)
                }
                _ => Assignment::Refused(AssignRefusal::StaleEpoch),
            };
        }
        let with_worker = self
            .tenants
            .iter()
            .filter(|(other, tenant)| {
                **other != name && tenant.key.class == key.class && tenant.worker.is_some()
            })
            .count();
        if limits.tenants.is_some_and(|limit| with_worker >= limit as usize) {
            return Assignment::Refused(AssignRefusal::TenantLimit);
        }
        let Some(worker) = self.workers.get_mut(&offer.incarnation) else {
            return Assignment::Refused(AssignRefusal::OfferGone);
        };
        if worker.tenant.is_some() || worker.class != key.class {
            return Assignment::Refused(AssignRefusal::OfferGone);
        }
        worker.tenant = Some(name.clone());
        let tenant = self.tenants.entry(name).or_insert(Tenant {
            key: key.clone(),
            uid: fresh_uid,
            epoch,
            worker: None,
            suspended: false,
            last_worker: None,
            last_farewell: None,
        });
        tenant.epoch = epoch;
        tenant.worker = Some(offer.incarnation.clone());
        tenant.last_worker = Some(offer.incarnation.clone());
        Assignment::Won(Placement {
            claim: Claim { tenant: tenant.uid.clone(), epoch },
            offer: worker.offer.clone(),
        })
    }

    /// What is known of a tenant.
    pub fn lookup(&self, name: &TenantName) -> TenantState {
        let Some(tenant) = self.tenants.get(name) else {
            return TenantState::Unknown;
        };
        if tenant.suspended {
            return TenantState::Suspended;
        }
        let placed = tenant.worker.as_ref().and_then(|worker| self.workers.get(worker));
        placed.map_or(TenantState::Asleep { last: tenant.epoch }, |worker| {
            TenantState::Assigned(Placement {
                claim: Claim { tenant: tenant.uid.clone(), epoch: tenant.epoch },
                offer: worker.offer.clone(),
            })
        })
    }

    /// How many anonymous workers of a class there are.
    pub fn anonymous(&self, class: &ClassName) -> usize {
        self.workers.values().filter(|w| w.class == *class && w.tenant.is_none()).count()
    }

    /// Whether a tenant was given this worker.
    pub fn is_taken(&self, incarnation: &Incarnation) -> bool {
        self.workers.get(incarnation).is_some_and(|worker| worker.tenant.is_some())
    }

    /// The worker of this incarnation, while it is known.
    pub fn worker(&self, incarnation: &Incarnation) -> Option<&Offer> {
        self.workers.get(incarnation).map(|worker| &worker.offer)
    }

    /// Whether a worker is known.
    pub fn contains(&self, incarnation: &Incarnation) -> bool {
        self.workers.contains_key(incarnation)
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantName, &Tenant)> {
        self.tenants.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::WorkerId, orchestrator::Endpoint, pin::Fingerprint, tenant::Authority};
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn class() -> ClassName {
        ClassName::parse("c").unwrap()
    }

    fn key(n: u8) -> TenantKey {
        TenantKey {
            issuer: "i".into(),
            subject: format!("s{n}"),
            class: class(),
            authority: Authority::unrestricted(),
        }
    }

    fn worker(n: u32) -> Offer {
        Offer {
            worker: WorkerId::parse(format!("w{n}")).unwrap(),
            incarnation: Incarnation::parse(format!("i{n}")).unwrap(),
            endpoint: Endpoint::Unix("/nowhere".into()),
            fingerprint: Fingerprint::of_public_key(&n.to_be_bytes()),
        }
    }

    fn uid(n: u64) -> TenantUid {
        TenantUid::parse(format!("u{n}")).unwrap()
    }

    #[test]
    fn a_second_claim_of_one_tenant_loses_to_the_first() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        let first = ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        let second = ledger.assign(&key(1), &worker(2), Epoch(1), Limits::default(), uid(2));
        let (Assignment::Won(won), Assignment::Lost(lost)) = (first, second) else {
            panic!("the first must win and the second lose");
        };
        assert_eq!(won, lost);
    }

    #[test]
    fn one_worker_is_never_given_to_two_tenants() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        assert_eq!(
            ledger.assign(&key(2), &worker(1), Epoch(1), Limits::default(), uid(2)),
            Assignment::Refused(AssignRefusal::OfferGone)
        );
    }

    #[test]
    fn a_tenant_can_leave_a_worker_that_refused_it_and_the_worker_stays_taken() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        let moved = ledger.assign(&key(1), &worker(2), Epoch(2), Limits::default(), uid(2));
        let Assignment::Won(placement) = moved else { panic!("{moved:?}") };
        assert_eq!(placement.offer, worker(2));
        assert_eq!(ledger.anonymous(&class()), 0);
        // the abandoned worker's end says nothing about the tenant any more
        ledger.worker_gone(&worker(1).incarnation);
        assert!(matches!(ledger.lookup(&key(1).name()), TenantState::Assigned(_)));
    }

    #[test]
    fn a_tenant_keeps_its_uid_and_counts_its_epochs() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        ledger.worker_gone(&worker(1).incarnation);
        assert_eq!(ledger.lookup(&key(1).name()), TenantState::Asleep { last: Epoch(1) });
        ledger.worker_ready(class(), worker(2));
        let again = ledger.assign(&key(1), &worker(2), Epoch(2), Limits::default(), uid(9));
        let Assignment::Won(placement) = again else { panic!("{again:?}") };
        assert_eq!(placement.claim, Claim { tenant: uid(1), epoch: Epoch(2) });
    }

    #[test]
    fn a_provisioned_tenant_is_known_before_its_first_contact_and_a_suspended_one_gets_no_worker() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.provision(key(1), false, uid(1));
        ledger.provision(key(2), true, uid(2));
        assert_eq!(ledger.lookup(&key(1).name()), TenantState::Asleep { last: Epoch(0) });
        assert_eq!(ledger.lookup(&key(2).name()), TenantState::Suspended);
        assert_eq!(
            ledger.assign(&key(2), &worker(1), Epoch(1), Limits::default(), uid(3)),
            Assignment::Refused(AssignRefusal::Suspended)
        );
        let won = ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(4));
        let Assignment::Won(placement) = won else { panic!("{won:?}") };
        assert_eq!(placement.claim.tenant, uid(1));
    }

    #[test]
    fn a_tenant_that_is_suspended_loses_its_worker_and_has_another_afterwards() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        let last = Some(worker(1).incarnation);
        assert_eq!(ledger.provision(key(1), true, uid(8)), last);
        assert!(!ledger.contains(&worker(1).incarnation), "its link outlives it");
        assert_eq!(ledger.lookup(&key(1).name()), TenantState::Suspended);
        // and one that was leaving on its own account, and may still answer calls
        assert_eq!(ledger.provision(key(1), true, uid(8)), last);

        assert_eq!(ledger.provision(key(1), false, uid(9)), None);
        assert_eq!(ledger.lookup(&key(1).name()), TenantState::Asleep { last: Epoch(1) });
        let again = ledger.assign(&key(1), &worker(2), Epoch(2), Limits::default(), uid(9));
        let Assignment::Won(placement) = again else { panic!("{again:?}") };
        assert_eq!(placement.claim, Claim { tenant: uid(1), epoch: Epoch(2) });
        // the end of the first says nothing of the tenant any more
        ledger.worker_gone(&worker(1).incarnation);
        assert!(matches!(ledger.lookup(&key(1).name()), TenantState::Assigned(_)));
    }

    #[test]
    fn a_tenant_that_is_deleted_is_somebody_new_afterwards() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        ledger.assign(&key(1), &worker(1), Epoch(1), Limits::default(), uid(1));
        assert_eq!(ledger.delete(&key(1).name()), Some(worker(1).incarnation));
        assert_eq!(ledger.delete(&key(1).name()), None);
        assert_eq!(ledger.lookup(&key(1).name()), TenantState::Unknown);
        assert!(!ledger.contains(&worker(1).incarnation));
        let again = ledger.assign(&key(1), &worker(2), Epoch(1), Limits::default(), uid(2));
        let Assignment::Won(placement) = again else { panic!("{again:?}") };
        assert_eq!(placement.claim, Claim { tenant: uid(2), epoch: Epoch(1) });
    }

    #[test]
    fn the_limit_of_tenants_counts_those_with_a_worker() {
        let limits = Limits { tenants: Some(1) };
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        ledger.assign(&key(1), &worker(1), Epoch(1), limits, uid(1));
        let refused = ledger.assign(&key(2), &worker(2), Epoch(1), limits, uid(2));
        assert_eq!(refused, Assignment::Refused(AssignRefusal::TenantLimit));
        ledger.worker_gone(&worker(1).incarnation);
        let won = ledger.assign(&key(2), &worker(2), Epoch(1), limits, uid(2));
        assert!(matches!(won, Assignment::Won(_)));
    }

    #[test]
    fn concurrent_offers_meet_different_workers() {
        let mut ledger = Ledger::default();
        ledger.worker_ready(class(), worker(1));
        ledger.worker_ready(class(), worker(2));
        let offers: HashSet<_> =
            (0..2).map(|_| ledger.pick(&class(), &[]).unwrap().incarnation).collect();
        assert_eq!(offers.len(), 2);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ready(u32),
        Gone(u32),
        Claim { tenant: u8, worker: u32, epoch_error: bool },
        Provision { tenant: u8, suspended: bool },
        Delete(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8u32).prop_map(Step::Ready),
            (0..8u32).prop_map(Step::Gone),
            (0..5u8, 0..8u32, any::<bool>()).prop_map(|(tenant, worker, epoch_error)| {
                Step::Claim { tenant, worker, epoch_error }
            }),
            (0..5u8, any::<bool>())
                .prop_map(|(tenant, suspended)| Step::Provision { tenant, suspended }),
            (0..5u8).prop_map(Step::Delete),
        ]
    }

    proptest! {
        /// Incarnations are unique in reality, so a worker that is gone never comes back here either.
        #[test]
        fn no_interleaving_shares_a_worker(steps in proptest::collection::vec(step(), 0..200)) {
            let mut ledger = Ledger::default();
            let mut dead = HashSet::new();
            let mut served: HashMap<Incarnation, TenantName> = HashMap::new();
            let mut claims = HashSet::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Ready(w) if !dead.contains(&w) => ledger.worker_ready(class(), worker(w)),
                    Step::Ready(_) => {}
                    Step::Gone(w) => {
                        dead.insert(w);
                        ledger.worker_gone(&worker(w).incarnation);
                    }
                    Step::Claim { tenant, worker: w, epoch_error } => {
                        let key = key(tenant);
                        let mut epoch = ledger.lookup(&key.name()).next_epoch();
                        if epoch_error { epoch = epoch.next(); }
                        let outcome =
                            ledger.assign(&key, &worker(w), epoch, Limits::default(), uid(n as u64));
                        if let Assignment::Won(placement) = outcome {
                            prop_assert!(!epoch_error);
                            let other = served.insert(placement.offer.incarnation.clone(), key.name());
                            prop_assert_eq!(other, None, "a worker was given twice");
                            prop_assert!(claims.insert(placement.claim), "a claim was given twice");
                        }
                    }
                    Step::Provision { tenant, suspended } => {
                        let last = ledger.provision(key(tenant), suspended, uid(n as u64));
                        let gone = last.is_none_or(|last| suspended && !ledger.contains(&last));
                        prop_assert!(gone, "a worker of nobody is offered");
                        dead.extend((0..8).filter(|w| !ledger.contains(&worker(*w).incarnation)
                            && served.contains_key(&worker(*w).incarnation)));
                    }
                    Step::Delete(tenant) => {
                        let last = ledger.delete(&key(tenant).name());
                        prop_assert!(last.is_none_or(|last| !ledger.contains(&last)));
                        dead.extend((0..8).filter(|w| !ledger.contains(&worker(*w).incarnation)
                            && served.contains_key(&worker(*w).incarnation)));
                    }
                }
                let mut holders = HashSet::new();
                for (_, tenant) in ledger.tenants() {
                    if let Some(worker) = &tenant.worker {
                        prop_assert!(!tenant.suspended, "who is shut out has a worker");
                        prop_assert!(holders.insert(worker.clone()), "two tenants, one worker");
                        prop_assert!(ledger.contains(worker), "a tenant has a dead worker");
                    }
                }
            }
        }
    }
}
