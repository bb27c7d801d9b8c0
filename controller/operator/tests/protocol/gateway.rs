//! A gateway: it looks a tenant up in caches that may be stale, picks a worker, prepares a grant, has the worker kept,
//! writes the assignment, binds, and forwards. Every request can be cut between any two of these.

use super::{
    operator::Flaw,
    server::{Conflict, Keeping, Pod, Pods, Server, Tenant, Tenants},
};
use patchbay_core::{
    id::{Epoch, Incarnation},
    latch::{Admission, Claim},
    link::BindRefusal,
};
use patchbay_crds::tenant::TenantAssignment;
use patchbay_operator::{observe::Life, worker_class::Standing};
use std::collections::BTreeSet;

#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) tenants: Tenants,
    pub(crate) pods: Pods,
    pub(crate) requests: Vec<Request>,
    /// Workers that said that they are a tenant's, or leave.
    not_free: BTreeSet<Incarnation>,
    flaw: Flaw,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: u8,
    next: Next,
    /// Claims that came to nothing, each with the worker that refused it. Only a flawed gateway takes a worker for one
    /// that refuses whatever claim.
    refused: Vec<(Option<Claim>, Incarnation)>,
}

#[derive(Debug, Clone)]
enum Next {
    LookUp,
    /// A worker was picked; before it is taken the tenant is looked up again.
    Keep {
        uid: Incarnation,
        ip: u32,
    },
    Assign {
        known: Option<Tenant>,
        assignment: TenantAssignment,
        ip: u32,
    },
    Bind(Placement),
    Forward(Placement),
    Over,
}

#[derive(Debug, Clone)]
struct Placement {
    claim: Claim,
    uid: Incarnation,
    ip: u32,
}

impl Gateway {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self {
            tenants: Tenants::new(),
            pods: Pods::new(),
            requests: Vec::new(),
            not_free: BTreeSet::new(),
            flaw,
        }
    }

    pub(crate) fn contact(&mut self, key: u8) {
        // a gateway bounds how many it holds
        if self.requests.len() >= 5 {
            return;
        }
        self.requests.push(Request { key, next: Next::LookUp, refused: Vec::new() });
    }

    /// Takes a request as far as it comes with nothing else happening.
    pub(crate) fn call(&mut self, key: u8, is_fresh: bool, server: &mut Server) {
        let others = std::mem::take(&mut self.requests);
        if is_fresh {
            self.tenants = server.tenants.clone();
            self.pods = server.pods.clone();
        }
        self.contact(key);
        for _ in 0..12 {
            self.step(0, 1, server);
        }
        self.requests.extend(others);
        self.requests.truncate(5);
    }

    /// Takes one step of one request; `chance` decides what is left to chance.
    pub(crate) fn step(&mut self, index: usize, chance: u8, server: &mut Server) {
        if self.requests.is_empty() {
            return;
        }
        let index = index % self.requests.len();
        let mut request = self.requests.swap_remove(index);
        request.next = match request.next.clone() {
            Next::LookUp => self.look_up(&request, chance, server),
            Next::Keep { uid, ip } => self.keep(&mut request, &uid, ip, server),
            Next::Assign { known, assignment, ip } => {
                self.assign(request.key, known, assignment, ip, chance, server)
            }
            Next::Bind(placement) => self.bind(&mut request, placement, server),
            Next::Forward(placement) => forward(&mut request, placement, server),
            Next::Over => Next::Over,
        };
        if !matches!(request.next, Next::Over) {
            self.requests.push(request);
        }
    }

    /// The worker that the tenant has, as far as is known, unless it refused this request.
    fn own(&mut self, request: &Request, server: &Server) -> Option<Placement> {
        let tenant = self.tenants.get(&request.key)?;
        let assignment = tenant.assignment.as_ref()?;
        let Standing::Assigned(assigned) = Standing::of(Some(assignment), server.now()) else {
            return None;
        };
        let claim = Claim { tenant: tenant.uid.clone(), epoch: assigned.epoch };
        let uid = assigned.uid.clone();
        let is_refused = request.refused.iter().any(|(refused, worker)| {
            *worker == uid && refused.as_ref().is_none_or(|refused| *refused == claim)
        });
        // one that the watch has not shown, or not with its address and key, is read: the watch of pods may lag behind the
        // one of tenants
        let is_starting = |pod: &Pod| matches!(pod.seen.life, Life::Starting { .. });
        let is_incomplete = self.pods.get(&uid).is_none_or(is_starting);
        if let Some(pod) = server.pods.get(&uid).filter(|_| is_incomplete) {
            self.pods.insert(uid.clone(), pod.clone());
        }
        // neither that it is not ready nor that it cannot be reached is a worker's end (ADR 12)
        let pod = self.pods.get(&uid).filter(|pod| pod.seen.life == Life::Up && !is_refused)?;
        Some(Placement { claim, ip: pod.ip, uid })
    }

    fn look_up(&mut self, request: &Request, chance: u8, server: &Server) -> Next {
        if self.is_suspended(request.key) {
            return Next::Over;
        }
        if let Some(placement) = self.own(request, server) {
            // a gateway that has bound it before forwards at once
            let is_bound = chance.is_multiple_of(2);
            return if is_bound { Next::Forward(placement) } else { Next::Bind(placement) };
        }
        let known = self.tenants.get(&request.key).cloned();
        let assignment = known.as_ref().and_then(|tenant| tenant.assignment.clone());
        let named: BTreeSet<&str> = self
            .tenants
            .values()
            .filter_map(|tenant| Some(tenant.assignment.as_ref()?.uid.as_str()))
            .collect();
        let free: Vec<_> = self
            .pods
            .values()
            .filter(|pod| {
                pod.seen.life == Life::Up
                    && pod.seen.ready_since.is_some()
                    && !pod.seen.marked_bound
                    && !named.contains(pod.seen.uid.as_str())
                    && !self.not_free.contains(&pod.seen.uid)
                    && request.refused.iter().all(|(_, worker)| *worker != pod.seen.uid)
            })
            .collect();
        if free.is_empty() {
            let is_noted = assignment.is_some_and(|assignment| {
                let since = assignment.requested_at;
                assignment.uid.is_empty()
                    && since.is_some_and(|since| since.as_second() + 30 > server.now)
            });
            if is_noted {
                return Next::LookUp;
            }
            let wait = TenantAssignment {
                worker: String::new(),
                uid: String::new(),
                epoch: last_epoch(known.as_ref()).max(1),
                requested_at: Some(server.now()),
            };
            return Next::Assign { known, assignment: wait, ip: 0 };
        }
        let pod = free[usize::from(chance) % free.len()];
        Next::Keep { uid: pod.seen.uid.clone(), ip: pod.ip }
    }

    /// Has the picked worker kept for the tenant, if the tenant is still without one.
    fn keep(
        &mut self,
        request: &mut Request,
        uid: &Incarnation,
        ip: u32,
        server: &mut Server,
    ) -> Next {
        if self.is_suspended(request.key) {
            return Next::Over;
        }
        match self.own(request, server) {
            Some(placement) if self.flaw != Flaw::TakesWhatWasPicked => {
                server.note("another gateway was faster");
                return Next::Bind(placement);
            }
            _ => {}
        }
        match server.keep(ip, uid, request.key) {
            Keeping::Kept => {}
            Keeping::ForAnother => {
                server.note("a worker was kept for another");
                return Next::LookUp;
            }
            Keeping::NotFree if self.flaw == Flaw::ShunsWhatIsTaken => {
                request.refused.push((None, uid.clone()));
                return Next::LookUp;
            }
            // it may be this very tenant's, by another gateway
            Keeping::NotFree => {
                self.not_free.insert(uid.clone());
                return Next::LookUp;
            }
            Keeping::Unanswered => return Next::LookUp,
        }
        let known = self.tenants.get(&request.key).cloned();
        let assignment = TenantAssignment {
            worker: uid.to_string(),
            uid: uid.to_string(),
            epoch: last_epoch(known.as_ref()) + 1,
            requested_at: Some(server.now()),
        };
        Next::Assign { known, assignment, ip }
    }

    fn is_suspended(&self, key: u8) -> bool {
        self.tenants.get(&key).is_some_and(|tenant| tenant.suspended)
    }

    fn assign(
        &mut self,
        key: u8,
        known: Option<Tenant>,
        assignment: TenantAssignment,
        ip: u32,
        chance: u8,
        server: &mut Server,
    ) -> Next {
        let written = match known {
            None => server.create_tenant(key, assignment.clone()),
            Some(tenant) => server.assign(key, tenant.version, assignment.clone()),
        };
        if written.is_err() {
            server.note("an assignment conflicted");
        }
        let is_answered = !chance.is_multiple_of(5);
        let won = match written {
            Ok(tenant) if is_answered => Some(tenant),
            // read back: after an unknown result, and after a conflict
            Ok(_) | Err(Conflict) => self.read_back(key, &assignment, server),
        };
        let Some(tenant) = won else {
            if let Ok(uid) = Incarnation::parse(assignment.uid) {
                server.release(&uid, key);
            }
            return Next::LookUp;
        };
        self.tenants.insert(key, tenant.clone());
        match Incarnation::parse(assignment.uid) {
            Ok(uid) => {
                let claim = Claim { tenant: tenant.uid, epoch: Epoch(assignment.epoch) };
                Next::Bind(Placement { claim, uid, ip })
            }
            Err(_) => Next::LookUp,
        }
    }

    fn bind(&self, request: &mut Request, placement: Placement, server: &mut Server) -> Next {
        let Some(latch) = server.dial(placement.ip, &placement.uid) else { return Next::LookUp };
        let Err(refusal) = latch.bind(&placement.claim) else {
            server.note_bind(&placement.uid, &placement.claim);
            return Next::Forward(placement);
        };
        match refusal {
            BindRefusal::OtherTenant => server.note("a bind met another tenant's worker"),
            BindRefusal::OtherEpoch => server.note("a bind met another epoch's worker"),
            _ => {}
        }
        let claim = (self.flaw != Flaw::ShunsWhatRefusedAnEarlierClaim).then_some(placement.claim);
        request.refused.push((claim, placement.uid));
        Next::LookUp
    }

    /// The tenant as it is, if its assignment is the one that was to be written.
    fn read_back(
        &mut self,
        key: u8,
        assignment: &TenantAssignment,
        server: &Server,
    ) -> Option<Tenant> {
        self.tenants.remove(&key);
        let tenant = server.tenants.get(&key)?;
        self.tenants.insert(key, tenant.clone());
        (tenant.assignment.as_ref() == Some(assignment)).then(|| tenant.clone())
    }
}

fn last_epoch(tenant: Option<&Tenant>) -> u64 {
    tenant.and_then(|tenant| tenant.assignment.as_ref()).map_or(0, |assignment| assignment.epoch)
}

fn forward(request: &mut Request, placement: Placement, server: &mut Server) -> Next {
    let Some(latch) = server.dial(placement.ip, &placement.uid) else { return Next::LookUp };
    match latch.admit(Some(&placement.claim)) {
        Admission::Serve => {
            server.note_served(&placement.uid, request.key, &placement.claim);
            Next::Over
        }
        Admission::Leaving => {
            server.note("a request met a leaving worker");
            request.refused.push((Some(placement.claim), placement.uid));
            Next::LookUp
        }
        // not bound yet, or another's: a bind tells
        Admission::Misdirected => {
            server.note("a request was misdirected");
            Next::Bind(placement)
        }
    }
}
