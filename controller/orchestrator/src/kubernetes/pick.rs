//! Which free worker a claim takes, so that claims of many gateways rarely want the same one. Pure.
//!
//! A lost pick costs a write, so claims avoid each other. Workers that were free for a while are taken in an
//! order of each gateway's own. A worker that has just become free is whom everybody who waits has waited for:
//! the first that became free is the longest waiting tenant's, the second the next one's, which every gateway
//! finds for itself, because all see the same queue. What its tenant does not take at once (the gateway that
//! waited may be gone) is anybody's a moment later. This module must not know objects or an API server.

use patchbay_core::{id::Incarnation, tenant::TenantName};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::time::Instant;

/// For so long a worker that has just become free is its turn's tenant's.
pub(super) const RESERVED: Duration = Duration::from_secs(2);

/// After this long, a worker that was kept for a tenant of another gateway, or was not reached, is asked again, if nobody has
/// it.
pub(super) const TURNED_AWAY: Duration = Duration::from_secs(1);

/// A free worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free<'a> {
    /// Which one.
    pub(super) uid: &'a Incarnation,
    /// Since when this gateway knows that it is free.
    pub(super) since: Instant,
    /// How often this gateway offered it.
    pub(super) offered: u32,
    /// Whether a claim of this gateway is taking it.
    pub(super) is_in_hand: bool,
    /// Until then it is not asked again: it was kept for a tenant of another gateway, or was not reached.
    pub(super) not_before: Option<Instant>,
}

/// What a claim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick<'a> {
    /// It takes this worker.
    Take(&'a Incarnation),
    /// There is none for it, or not before this moment.
    Wait(Option<Instant>),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    /// The tenant.
    pub(super) tenant: &'a TenantName,
    /// Workers that are of no use to it.
    pub(super) exclude: &'a [Incarnation],
    /// This gateway's own number.
    pub(super) seed: u64,
    /// The moment.
    pub(super) now: Instant,
}

/// Picks from the class's free workers, in the order in which they became free. `queue` are the tenants that wait,
/// the longest waiting first.
pub(super) fn pick<'a>(free: &[Free<'a>], queue: &[TenantName], asking: Asking<'_>) -> Pick<'a> {
    let turn = queue.iter().position(|waiting| waiting == asking.tenant);
    let is_of_use = |worker: &Free<'_>| !worker.is_in_hand && !asking.exclude.contains(worker.uid);
    let opens = |index: usize, worker: &Free<'_>| {
        let is_anybodys = index >= queue.len() || turn == Some(index);
        let since = if is_anybodys { worker.since } else { worker.since + RESERVED };
        worker.not_before.map_or(since, |until| since.max(until))
    };
    let own = turn.and_then(|turn| Some((turn, free.get(turn)?)));
    let own = own.filter(|(index, own)| is_of_use(own) && opens(*index, own) <= asking.now);
    if let Some((_, own)) = own {
        return Pick::Take(own.uid);
    }
    let others = || free.iter().enumerate().filter(|(_, worker)| is_of_use(worker));
    let open = others().filter(|(index, worker)| opens(*index, worker) <= asking.now);
    let first = open.min_by_key(|(_, worker)| (worker.offered, place(worker.uid, asking.seed)));
    match first {
        Some((_, worker)) => Pick::Take(worker.uid),
        None => Pick::Wait(others().map(|(index, worker)| opens(index, worker)).min()),
    }
}

/// A worker's place in a gateway's own order.
fn place(uid: &Incarnation, seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, uid).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn uids(count: usize) -> Vec<Incarnation> {
        (0..count).map(|n| Incarnation::parse(format!("u{n}")).unwrap()).collect()
    }

    fn tenant(n: u8) -> TenantName {
        TenantName::parse(format!("t-{}", char::from(b'a' + n).to_string().repeat(20))).unwrap()
    }

    fn free(uids: &[Incarnation], since: Instant) -> Vec<Free<'_>> {
        let free = |uid| Free { uid, since, offered: 0, is_in_hand: false, not_before: None };
        uids.iter().map(free).collect()
    }

    fn asking(tenant: &TenantName, now: Instant) -> Asking<'_> {
        Asking { tenant, exclude: &[], seed: 1, now }
    }

    #[test]
    fn each_that_waits_takes_another_worker_in_the_order_of_the_queue() {
        let (now, uids) = (Instant::now(), uids(2));
        let queue = [tenant(0), tenant(1), tenant(2)];
        let free = free(&uids, now);
        let of = |n: u8| pick(&free, &queue, asking(&tenant(n), now));
        assert_eq!(of(0), Pick::Take(&uids[0]));
        assert_eq!(of(1), Pick::Take(&uids[1]));
        // there is none for the third, nor for one that has just come, until nobody took them
        assert_eq!(of(2), Pick::Wait(Some(now + RESERVED)));
        assert_eq!(of(9), Pick::Wait(Some(now + RESERVED)));
    }

    #[test]
    fn a_worker_that_its_turn_did_not_take_is_anybodys() {
        let (now, uids) = (Instant::now(), uids(1));
        let late = now + RESERVED;
        assert_eq!(
            pick(&free(&uids, now), &[tenant(0)], asking(&tenant(9), late)),
            Pick::Take(&uids[0])
        );
        assert_eq!(pick(&[], &[tenant(0)], asking(&tenant(0), late)), Pick::Wait(None));
    }

    #[test]
    fn what_is_of_no_use_or_in_another_claims_hand_is_not_taken() {
        let (now, uids) = (Instant::now(), uids(2));
        let mut free = free(&uids, now);
        free[0].is_in_hand = true;
        let me = tenant(0);
        assert_eq!(pick(&free, &[], asking(&me, now)), Pick::Take(&uids[1]));
        let exclude = [uids[1].clone()];
        let asking = Asking { exclude: &exclude, ..asking(&me, now) };
        assert_eq!(pick(&free, &[], asking), Pick::Wait(None));
    }

    #[test]
    fn a_worker_that_is_kept_for_another_is_asked_again_later_whosever_turn_it_is() {
        let (now, uids) = (Instant::now(), uids(2));
        let mut free = free(&uids, now);
        let later = now + TURNED_AWAY;
        free[0].not_before = Some(later);
        let me = tenant(0);
        let at = |free: &[Free<'_>], queue: &[TenantName], now| match pick(
            free,
            queue,
            asking(&me, now),
        ) {
            Pick::Take(uid) => Ok(uid.clone()),
            Pick::Wait(until) => Err(until),
        };
        assert_eq!(at(&free, &[], now), Ok(uids[1].clone()));
        assert_eq!(at(&free[..1], &[], now), Err(Some(later)));
        assert_eq!(at(&free[..1], &[tenant(0)], now), Err(Some(later)));
        assert_eq!(at(&free[..1], &[tenant(0)], later), Ok(uids[0].clone()));
    }

    #[test]
    fn gateways_begin_at_different_points_of_a_filled_pool() {
        let (now, uids) = (Instant::now(), uids(50));
        let free = free(&uids, now);
        let me = tenant(0);
        let firsts: BTreeSet<_> = (0..10)
            .map(|seed| match pick(&free, &[], Asking { seed, ..asking(&me, now) }) {
                Pick::Take(uid) => uid.to_string(),
                wait @ Pick::Wait(_) => panic!("{wait:?}"),
            })
            .collect();
        assert!(firsts.len() > 5, "{firsts:?}");
    }

    proptest! {
        #[test]
        fn of_those_that_wait_no_two_ever_take_the_same_fresh_worker(
            workers in 0..8_usize, waiting in 0..8_u8, seeds in proptest::array::uniform8(any::<u64>()),
        ) {
            let (now, uids) = (Instant::now(), uids(workers));
            let free = free(&uids, now);
            let queue: Vec<_> = (0..waiting).map(tenant).collect();
            let mut taken = BTreeSet::new();
            for (tenant, seed) in queue.iter().zip(seeds) {
                if let Pick::Take(uid) = pick(&free, &queue, Asking { seed, ..asking(tenant, now) }) {
                    prop_assert!(taken.insert(uid.clone()));
                }
            }
            prop_assert_eq!(taken.len(), workers.min(queue.len()));
        }
    }
}
