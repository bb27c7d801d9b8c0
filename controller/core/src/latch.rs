//! The latch: a worker serves one tenant in its life (invariant 1).
//!
//! It turns "who does this request claim to be for" into "serve it or refuse it", from nothing but what
//! the worker itself has seen. The control plane's opinion is not an input. This module must not know
//! HTTP, grants' contents, or time.

use crate::{
    id::{Epoch, TenantUid},
    link::BindRefusal,
};

/// One assignment of one tenant: what a bind latches and every request must name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The tenant object's UID.
    pub tenant: TenantUid,
    /// The tenant's assignment counter.
    pub epoch: Epoch,
}

/// A worker's whole memory of whom it serves. There is no edge back to an earlier state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Latch {
    /// Born, serving nobody: may be bound or retired.
    #[default]
    Anonymous,
    /// Latched for life.
    Bound(Claim),
    /// Leaving: finishes what is in flight and takes nothing new. `Some` if it ever served a tenant.
    Leaving(Option<Claim>),
}

/// What to do with a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindDecision {
    /// The first bind: latch on it and take its grant.
    Latch,
    /// The same claim again: the grant may be replaced, see [`crate::grant::GrantStanding`].
    Again,
}

/// What to do with a forwarded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It names the claim that this worker is latched on.
    Serve,
    /// It is for another tenant, another epoch, or nobody: 421, and the MCP server sees no byte.
    Misdirected,
    /// It is for this worker's tenant, but the worker is leaving: refused before its body is read, so
    /// the gateway may replay it elsewhere.
    Leaving,
}

impl Latch {
    /// Decides a bind without changing anything; [`Latch::bind`] applies it.
    pub fn decide_bind(&self, claim: &Claim) -> Result<BindDecision, BindRefusal> {
        match self {
            Self::Anonymous => Ok(BindDecision::Latch),
            Self::Bound(bound) if bound == claim => Ok(BindDecision::Again),
            Self::Bound(bound) if bound.tenant == claim.tenant => Err(BindRefusal::OtherEpoch),
            Self::Bound(_) => Err(BindRefusal::OtherTenant),
            Self::Leaving(_) => Err(BindRefusal::Leaving),
        }
    }

    /// Applies a bind: latches if anonymous.
    pub fn bind(&mut self, claim: &Claim) -> Result<BindDecision, BindRefusal> {
        let decision = self.decide_bind(claim)?;
        if decision == BindDecision::Latch {
            *self = Self::Bound(claim.clone());
        }
        Ok(decision)
    }

    /// Decides a forwarded request that names `claim` (none = it names nobody).
    pub fn admit(&self, claim: Option<&Claim>) -> Admission {
        match (self, claim) {
            (Self::Bound(bound), Some(claim)) if bound == claim => Admission::Serve,
            (Self::Leaving(Some(bound)), Some(claim)) if bound == claim => Admission::Leaving,
            _ => Admission::Misdirected,
        }
    }

    /// Starts to leave, whatever the state. Leaving twice is leaving.
    pub fn leave(&mut self) {
        let claim = match std::mem::take(self) {
            Self::Anonymous => None,
            Self::Bound(claim) => Some(claim),
            Self::Leaving(claim) => claim,
        };
        *self = Self::Leaving(claim);
    }

    /// Starts to leave only if no tenant was ever bound: how a warm worker is retired (DESIGN, life of
    /// a worker, step 8). Returns whether it is leaving now.
    pub fn leave_if_anonymous(&mut self) -> bool {
        if matches!(self, Self::Anonymous) {
            self.leave();
        }
        matches!(self, Self::Leaving(None))
    }

    /// The claim that this worker serves or served.
    pub const fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Anonymous => None,
            Self::Bound(claim) => Some(claim),
            Self::Leaving(claim) => claim.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(tenant: &str, epoch: u64) -> Claim {
        Claim { tenant: TenantUid::parse(tenant).unwrap(), epoch: Epoch(epoch) }
    }

    #[test]
    fn the_first_bind_latches_and_every_other_claim_is_refused() {
        let mut latch = Latch::default();
        assert_eq!(latch.bind(&claim("t1", 1)), Ok(BindDecision::Latch));
        assert_eq!(latch.bind(&claim("t1", 1)), Ok(BindDecision::Again));
        assert_eq!(latch.bind(&claim("t1", 2)), Err(BindRefusal::OtherEpoch));
        assert_eq!(latch.bind(&claim("t2", 1)), Err(BindRefusal::OtherTenant));
    }

    #[test]
    fn an_anonymous_worker_serves_nobody() {
        let latch = Latch::default();
        assert_eq!(latch.admit(Some(&claim("t1", 1))), Admission::Misdirected);
        assert_eq!(latch.admit(None), Admission::Misdirected);
    }

    #[test]
    fn a_leaving_worker_tells_its_own_tenant_to_go_elsewhere_and_others_nothing() {
        let mut latch = Latch::default();
        latch.bind(&claim("t1", 1)).unwrap();
        latch.leave();
        assert_eq!(latch.admit(Some(&claim("t1", 1))), Admission::Leaving);
        assert_eq!(latch.admit(Some(&claim("t2", 1))), Admission::Misdirected);
        assert_eq!(latch.bind(&claim("t1", 1)), Err(BindRefusal::Leaving));
    }

    #[test]
    fn a_bound_worker_cannot_be_retired() {
        let mut latch = Latch::default();
        latch.bind(&claim("t1", 1)).unwrap();
        assert!(!latch.leave_if_anonymous());
        assert_eq!(latch.admit(Some(&claim("t1", 1))), Admission::Serve);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Bind(u8, u64),
        Request(u8, u64),
        Leave,
        Retire,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3u8, 0..3u64).prop_map(|(t, e)| Step::Bind(t, e)),
            (0..3u8, 0..3u64).prop_map(|(t, e)| Step::Request(t, e)),
            Just(Step::Leave),
            Just(Step::Retire),
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_of_events_serves_two_claims(steps in proptest::collection::vec(step(), 0..60)) {
            let mut latch = Latch::default();
            let mut served = std::collections::HashSet::new();
            let mut accepted = std::collections::HashSet::new();
            for step in steps {
                match step {
                    Step::Bind(t, e) => {
                        let claim = claim(&format!("t{t}"), e);
                        if latch.bind(&claim).is_ok() { accepted.insert(claim); }
                    }
                    Step::Request(t, e) => {
                        let claim = claim(&format!("t{t}"), e);
                        if latch.admit(Some(&claim)) == Admission::Serve { served.insert(claim); }
                    }
                    Step::Leave => latch.leave(),
                    Step::Retire => { latch.leave_if_anonymous(); }
                }
            }
            prop_assert!(accepted.len() <= 1);
            prop_assert!(served.is_subset(&accepted));
        }
    }
}
