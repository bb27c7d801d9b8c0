//! The claim protocol as a whole: gateways, operators, workers and a cluster in random interleavings.
//!
//! The operators' plan, the workers' latch and the reading of assignments are the real ones; the rest is a model as
//! small as it can be. Anything may be cut, lost, stale or done twice. Deliberately broken operators and gateways show
//! that the model finds what it is for.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a model in a test")]

mod gateway;
mod operator;
mod server;

use gateway::Gateway;
use operator::{Flaw, Operator};
use patchbay_core::{id::Incarnation, latch::Latch};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use server::Server;
use std::collections::BTreeSet;

const TENANTS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Contact(u8, u8),
    /// A request from end to end, with nothing in between.
    Call(u8, u8),
    Request(u8, u8, u8),
    GatewayDies(u8),
    TenantsSeen(u8),
    PodsSeen(u8),
    Plan(u8),
    Act(u8),
    PlanAndAct(u8),
    OperatorDies(u8),
    PodStarts(u8),
    PodDies(u8),
    NodeLosesPod(u8),
    WorkerIsIdle(u8),
    WorkerEnds(u8),
    ProbeFails(u8),
    Warm(u8),
    ClassChanges,
    Cordon(u8),
    Suspend(u8),
    Resume(u8),
    Delete(u8),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || any::<u8>();
    prop_oneof![
        4 => (n(), n()).prop_map(|(g, t)| Step::Contact(g, t)),
        5 => (n(), n()).prop_map(|(g, t)| Step::Call(g, t)),
        40 => (n(), n(), n()).prop_map(|(g, r, c)| Step::Request(g, r, c)),
        1 => n().prop_map(Step::GatewayDies),
        8 => n().prop_map(Step::TenantsSeen),
        12 => n().prop_map(Step::PodsSeen),
        4 => n().prop_map(Step::Plan),
        10 => n().prop_map(Step::Act),
        8 => n().prop_map(Step::PlanAndAct),
        1 => n().prop_map(Step::OperatorDies),
        12 => n().prop_map(Step::PodStarts),
        1 => n().prop_map(Step::PodDies),
        1 => n().prop_map(Step::NodeLosesPod),
        3 => n().prop_map(Step::WorkerIsIdle),
        3 => n().prop_map(Step::WorkerEnds),
        3 => n().prop_map(Step::ProbeFails),
        2 => n().prop_map(Step::Warm),
        1 => Just(Step::ClassChanges),
        1 => n().prop_map(Step::Cordon),
        2 => n().prop_map(Step::Suspend),
        2 => n().prop_map(Step::Resume),
        1 => n().prop_map(Step::Delete),
        3 => n().prop_map(Step::Wait),
    ]
}

struct World {
    server: Server,
    gateways: [Gateway; 2],
    operators: [Operator; 2],
}

impl World {
    /// A world with some warm workers.
    fn new(flaw: Flaw) -> Self {
        let mut world = Self {
            server: Server::default(),
            gateways: [Gateway::new(flaw), Gateway::new(flaw)],
            operators: [Operator::new(flaw), Operator::new(flaw)],
        };
        for _ in 0..4 {
            world.settle(1);
        }
        world
    }

    fn pod(&self, index: u8) -> Option<Incarnation> {
        let count = self.server.pods.len().max(1);
        self.server.pods.keys().nth(usize::from(index) % count).cloned()
    }

    fn step(&mut self, step: &Step) {
        self.server.now += 1;
        let Self { server, gateways, operators } = self;
        let tenant = |t: &u8| t % TENANTS;
        let two = |n: &u8| usize::from(n % 2);
        match step {
            Step::Contact(g, t) => gateways[two(g)].contact(tenant(t)),
            Step::Call(g, t) => gateways[two(g)].call(tenant(t), g % 4 < 2, server),
            Step::Request(g, r, c) => gateways[two(g)].step((*r).into(), *c, server),
            Step::GatewayDies(g) => gateways[two(g)].requests.clear(),
            Step::TenantsSeen(a) if a % 4 < 2 => {
                gateways[two(a)].tenants = server.tenants.clone();
            }
            Step::TenantsSeen(a) => operators[two(a)].tenants = server.tenants.clone(),
            Step::PodsSeen(a) if a % 4 < 2 => gateways[two(a)].pods = server.pods.clone(),
            Step::PodsSeen(a) => operators[two(a)].pods = server.pods.clone(),
            Step::Plan(o) => operators[two(o)].plan(server),
            Step::Act(o) => operators[two(o)].act(server),
            Step::PlanAndAct(o) => {
                let operator = &mut operators[two(o)];
                operator.plan(server);
                while !operator.pending.is_empty() {
                    operator.act(server);
                }
            }
            Step::OperatorDies(o) => operators[two(o)].restart(),
            Step::Warm(n) => server.warm = u32::from(n % 4),
            Step::ClassChanges => {
                server.revision = if server.revision == "r1" { "r2" } else { "r1" }.into();
            }
            Step::Cordon(n) => {
                let node = format!("n{}", n % 3);
                if !server.cordoned.remove(&node) {
                    server.cordoned.insert(node);
                }
            }
            Step::Suspend(t) => server.suspend(tenant(t), true),
            Step::Resume(t) => server.suspend(tenant(t), false),
            Step::Delete(t) => drop(server.tenants.remove(&tenant(t))),
            Step::Wait(n) => server.now += i64::from(*n),
            Step::PodStarts(p)
            | Step::PodDies(p)
            | Step::NodeLosesPod(p)
            | Step::WorkerIsIdle(p)
            | Step::WorkerEnds(p)
            | Step::ProbeFails(p) => self.step_of_pod(step, *p),
        }
    }

    fn step_of_pod(&mut self, step: &Step, index: u8) {
        let Some(uid) = self.pod(index) else { return };
        let server = &mut self.server;
        match step {
            Step::PodStarts(_) => server.start(&uid),
            Step::PodDies(_) => server.die(&uid),
            Step::NodeLosesPod(_) => server.remove_pod(&uid),
            Step::WorkerIsIdle(_) if matches!(server.latches.get(&uid), Some(Latch::Bound(_))) => {
                server.leave(&uid);
            }
            Step::WorkerEnds(_) => server.end(&uid),
            Step::ProbeFails(_) => server.change(&uid, |pod| pod.ready_since = None),
            _ => {}
        }
    }

    /// Time passes and nothing more goes wrong: caches follow, pods start, one operator works.
    fn settle(&mut self, seconds: i64) {
        self.server.now += seconds;
        let Self { server, gateways, operators: [operator, _] } = self;
        for uid in server.pods.keys().cloned().collect::<Vec<_>>() {
            server.start(&uid);
            server.start(&uid);
            if server.asked.contains(&uid) {
                server.leave(&uid);
            }
            server.end(&uid);
        }
        for gateway in gateways {
            gateway.tenants = server.tenants.clone();
            gateway.pods = server.pods.clone();
        }
        operator.tenants = server.tenants.clone();
        operator.pods = server.pods.clone();
        operator.plan(server);
        while !operator.pending.is_empty() {
            operator.act(server);
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            self.step(step);
            self.holds()?;
        }
        self.comes_to_rest()
    }

    fn holds(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(&self.server.violations, &Vec::<String>::new());
        Ok(())
    }

    /// What must be so once the world has come to rest.
    fn comes_to_rest(&mut self) -> Result<(), TestCaseError> {
        self.server.cordoned.clear();
        for gateway in &mut self.gateways {
            gateway.requests.clear();
        }
        // who waits comes back, and one more; others may have been given a worker that they never come for
        let waits = |tenant: &server::Tenant| {
            tenant
                .assignment
                .as_ref()
                .is_some_and(|a| a.worker.is_empty() && a.requested_at.is_some())
        };
        let mut comes: BTreeSet<u8> =
            self.server.tenants.iter().filter(|(_, t)| waits(t)).map(|(key, _)| *key).collect();
        comes.insert(0);
        for tenant in &comes {
            self.gateways[usize::from(tenant % 2)].contact(*tenant);
        }
        for _ in 0..150 {
            self.settle(20);
            for gateway in &mut self.gateways {
                for turn in 0..8 * gateway.requests.len() {
                    gateway.step(turn, 1, &mut self.server);
                }
            }
            if self.gateways.iter().all(|gateway| gateway.requests.is_empty()) {
                break;
            }
        }
        for gateway in &self.gateways {
            prop_assert!(gateway.requests.is_empty(), "still waiting: {:?}", gateway.requests);
        }
        for _ in 0..40 {
            self.settle(30);
        }
        self.holds()?;
        let Self { server, operators: [operator, _], .. } = self;
        operator.tenants = server.tenants.clone();
        operator.pods = server.pods.clone();
        operator.plan(server);
        prop_assert!(operator.pending.is_empty(), "no fixed point: {:?}", operator.pending);
        let mut anonymous = 0;
        for (uid, pod) in &server.pods {
            prop_assert!(!pod.seen.has_ended(), "left over: {:?}", pod);
            match &server.latches[uid] {
                Latch::Anonymous => anonymous += 1,
                Latch::Bound(claim) => {
                    let is_named = server.tenants.values().any(|tenant| {
                        tenant.uid == claim.tenant
                            && !tenant.suspended
                            && tenant.assignment.as_ref().is_some_and(|a| a.uid == uid.as_str())
                    });
                    prop_assert!(is_named, "an orphan: {:?} of {:?}", pod, claim);
                    prop_assert!(pod.seen.marked_bound);
                }
                Latch::Leaving(_) => prop_assert!(false, "still leaving: {:?}", pod),
            }
        }
        prop_assert_eq!(anonymous, server.warm);
        for (key, tenant) in &server.tenants {
            let worker = tenant.assignment.as_ref().map_or("", |a| a.uid.as_str());
            if tenant.suspended || comes.contains(key) {
                prop_assert_eq!(worker.is_empty(), tenant.suspended, "{} has {:?}", key, tenant);
            }
            let is_theirs = |latch: &Latch| latch.claim().is_some_and(|c| c.tenant == tenant.uid);
            let latch = server.latches.iter().find(|(uid, _)| uid.as_str() == worker);
            let holds = worker.is_empty() || latch.is_some_and(|(_, latch)| is_theirs(latch));
            prop_assert!(holds, "{} has {:?}, which is {:?}", key, tenant, latch);
        }
        Ok(())
    }
}

fn run(steps: &[Step], flaw: Flaw) -> Result<(), TestCaseError> {
    let mut world = World::new(flaw);
    world.run(steps)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_mixes_users_interrupts_one_or_leaves_anything_behind(steps in steps()) {
        run(&steps, Flaw::None)?;
    }
}

/// The same steps in every run.
fn runner(cases: u32) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// A tenant is deleted before its worker is bound, and comes back through another gateway, which gives it the same worker.
/// The first gateway hears of the new life only after the worker has refused the old one.
const A_WORKER_OF_TWO_LIVES: &[Step] = &[
    Step::Contact(0, 0),
    Step::Request(0, 0, 1),
    Step::Request(0, 0, 1),
    Step::Request(0, 0, 1),
    Step::Delete(0),
    Step::Call(1, 0),
    Step::Request(0, 0, 1),
    Step::TenantsSeen(0),
    Step::Request(0, 0, 1),
    Step::Request(0, 0, 1),
    Step::Request(0, 0, 1),
];

#[test]
fn a_worker_that_refused_a_life_of_its_tenant_that_is_over_stays_the_next_lifes() {
    let mut world = World::new(Flaw::None);
    world.run(A_WORKER_OF_TWO_LIVES).unwrap();
    for event in ["a bind met another tenant's worker", "a request was served"] {
        assert!(world.server.events.contains_key(event), "never: {event}");
    }
    let flawed = run(A_WORKER_OF_TWO_LIVES, Flaw::ShunsWhatRefusedAnEarlierClaim);
    let finding = flawed.unwrap_err().to_string();
    assert!(finding.contains("which served it"), "{finding}");
}

/// What the model says of a flaw.
fn finding(flaw: Flaw) -> String {
    let found = runner(2000).run(&steps(), |steps| run(&steps, flaw));
    match found {
        Err(TestError::Fail(reason, _)) => reason.to_string(),
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn everything_that_may_happen_does() {
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<_, u32>::new());
    let outcome = runner(400).run(&steps(), |steps| {
        let mut world = World::new(Flaw::None);
        world.run(&steps)?;
        for (event, times) in world.server.events {
            *seen.borrow_mut().entry(event).or_default() += times;
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    let seen = seen.into_inner();
    for event in server::EVENTS {
        let times = seen.get(event).copied().unwrap_or_default();
        assert!(times > 0, "never: {event}, but {seen:?}");
    }
}

#[test]
fn an_operator_that_deletes_instead_of_retiring_through_the_latch_is_found_out() {
    let finding = finding(Flaw::DeletesInsteadOfRetiring);
    assert!(finding.contains("was deleted while it was bound"), "{finding}");
}

#[test]
fn an_operator_that_takes_what_a_cache_does_not_show_for_gone_is_found_out() {
    let finding = finding(Flaw::TrustsAbsence);
    let harm = ["was drained", "while it was served"];
    assert!(harm.iter().any(|harm| finding.contains(harm)), "{finding}");
}

#[test]
fn an_operator_that_forgets_the_epoch_when_it_clears_is_found_out() {
    let finding = finding(Flaw::ForgetsTheEpoch);
    assert!(finding.contains("one claim has several workers"), "{finding}");
}

#[test]
fn a_gateway_that_replaces_the_worker_that_its_tenant_was_given_meanwhile_is_found_out() {
    let finding = finding(Flaw::TakesWhatWasPicked);
    assert!(finding.contains("which served it"), "{finding}");
}

#[test]
fn a_gateway_that_shuns_a_taken_worker_which_is_its_tenants_own_is_found_out() {
    let finding = finding(Flaw::ShunsWhatIsTaken);
    assert!(finding.contains("which served it"), "{finding}");
}
