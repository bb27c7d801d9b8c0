//! Starts the MCP server of a class whose servers start at bind, with what the user's credentials are made into.
//!
//! It turns a latched worker into one whose server answers, or into one that leaves and says why. An environment cannot
//! be renewed: a worker whose server has AWS keys in it leaves before they end. This module must not know how a server
//! is run, or how a grant came to be.

use super::{
    clock::Moment,
    departure::Departure,
    lifeline::Orders,
    server::Server,
    state::{Entry, Worker},
};
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{
    boot::Variable,
    idle::Weight,
    latch::Claim,
    link::{BindRefusal, LeaveReason},
    template::{MOST_VARIABLE_BYTES, RenderError, Templates, Values},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// So long before its server's keys end a worker takes nothing new: a call takes its time. Of short-lived keys it is a
/// quarter.
const LEAD: Duration = Duration::from_mins(1);

/// The way to a server that does not run yet.
#[derive(Debug)]
pub(crate) struct Starter {
    orders: Orders,
    server: Arc<Server>,
    templates: Templates,
    /// What the server may take until it answers.
    limit: Duration,
    answers: Mutex<bool>,
}

/// A variable that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the variable `{name}` cannot be made")]
pub(crate) struct VariableError {
    name: String,
    #[source]
    source: RenderError,
}

impl Starter {
    /// A server that is started through `orders` and then answers at `upstream`, within `limit`.
    pub(crate) fn new(
        orders: Orders,
        server: Arc<Server>,
        templates: Templates,
        limit: Duration,
    ) -> Self {
        Self { orders, server, templates, limit, answers: Mutex::default() }
    }

    /// The server's variables.
    pub(crate) fn variables(&self, values: Values<'_>) -> Result<Vec<Variable>, VariableError> {
        let made = self.templates.env.iter().map(|(name, template)| {
            let value = template.render(values, MOST_VARIABLE_BYTES);
            let value = value.map_err(|source| VariableError { name: name.clone(), source })?;
            Ok(Variable { name: name.clone(), value })
        });
        made.collect()
    }

    /// Returns once the server answers; starts it if that was not done. A worker whose server does not come leaves.
    /// `keys_end` is the end of what was granted. While it starts the worker is as busy as with a call.
    pub(crate) async fn start(
        &self,
        worker: &Arc<Worker>,
        claim: &Claim,
        variables: Vec<Variable>,
        keys_end: Option<Timestamp>,
    ) -> Result<(), BindRefusal> {
        let mut answers = self.answers.lock().await;
        if *answers {
            return Ok(());
        }
        let Entry::Admitted(_busy) = worker.enter(Some(claim), Weight::Call, Moment::now()) else {
            return Err(BindRefusal::Leaving);
        };
        let started = Instant::now();
        let starting = async {
            self.server.start(&self.orders, variables).await?;
            let met = self.server.ready(started + self.limit).await;
            met.map_err(|met| format!("the MCP server did not answer in time: {met}"))
        };
        // first the news that it ended, which is also what every other failure comes from then
        tokio::select! {
            biased;
            () = worker.leaving() => return Err(if worker.is_without_server() {
                BindRefusal::ServerFailed
            } else {
                BindRefusal::Leaving
            }),
            outcome = starting => if let Err(why) = outcome {
                tracing::error!(why, "the MCP server did not start for its user");
                worker.leave(Departure::new(LeaveReason::ServerNotReady, why));
                return Err(BindRefusal::ServerFailed);
            },
        }
        tracing::info!(took = ?started.elapsed(), "the MCP server was started for its user");
        *answers = true;
        if let Some(end) = keys_end.filter(|_| self.templates.env_holds_keys()) {
            tokio::spawn(leave_before(Arc::clone(worker), end));
        }
        Ok(())
    }
}

/// Lets a worker leave before `end`; calls that run then are finished.
async fn leave_before(worker: Arc<Worker>, end: Timestamp) {
    let stay = stay(end, Moment::now().timestamp);
    tokio::select! {
        () = sleep(stay) => {
            let why = "the keys in the MCP server's environment end soon, and cannot be renewed there";
            worker.leave(Departure::new(LeaveReason::CredentialsEnd, why));
        }
        () = worker.leaving() => {}
    }
}

/// How long a worker whose server has keys until `end` takes new calls.
fn stay(end: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(end.duration_since(now).max(SignedDuration::ZERO));
    let left = left.unwrap_or_default();
    left.saturating_sub(LEAD.min(left / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::credentials::Credentials;
    use patchbay_core::{
        class::Transport,
        id::{Epoch, TenantUid},
        link::User,
        template::Template,
    };
    use secrecy::ExposeSecret as _;

    fn starter(orders: Orders) -> Starter {
        let transport = Transport::Http { port: 1, path: "/mcp".into(), ready_path: None };
        let server = Arc::new(Server::new("/nowhere".into(), transport, Duration::from_mins(1)));
        let env = [("WHO".to_owned(), Template::parse("${user.subject}").unwrap())].into();
        let templates = Templates { env, ..Templates::default() };
        Starter::new(orders, server, templates, Duration::from_secs(10))
    }

    fn bound() -> (Arc<Worker>, Claim) {
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        worker.set_ready();
        let claim = Claim { tenant: TenantUid::parse("t1").unwrap(), epoch: Epoch(1) };
        worker.apply_bind(&claim, None, Moment::now()).unwrap();
        (worker, claim)
    }

    #[test]
    fn a_worker_leaves_a_minute_before_its_keys_end_or_a_quarter_of_their_life() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (end, seconds) in [(900, 840), (240, 180), (120, 90), (0, 0), (-5, 0)] {
            assert_eq!(stay(at(end), at(0)).as_secs(), seconds, "{end}");
        }
    }

    #[test]
    fn variables_are_made_of_what_there_is_and_the_one_that_cannot_be_is_named() {
        let starter = starter(Orders::new().0);
        let user = User { issuer: "i".into(), subject: "alice".into() };
        let values = Values { user: Some(&user), aws: None };
        let variables = starter.variables(values).unwrap();
        assert_eq!(variables[0].value.expose_secret(), "alice");
        let error = starter.variables(Values::default()).unwrap_err();
        assert!(error.to_string().contains("`WHO`"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_started_refuses_the_bind_and_ends_the_worker() {
        let (worker, claim) = bound();
        let refused = starter(Orders::new().0).start(&worker, &claim, Vec::new(), None).await;
        assert_eq!(refused, Err(BindRefusal::ServerFailed));
        assert_eq!(worker.farewell().reason, LeaveReason::ServerNotReady);
        assert!(worker.is_quiet(), "busy with a start that is over");
    }

    #[tokio::test]
    async fn a_worker_that_leaves_meanwhile_says_so() {
        let (worker, claim) = bound();
        let (orders, _host_that_is_silent) = Orders::new();
        let starting = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { starter(orders).start(&worker, &claim, Vec::new(), None).await }
        });
        while worker.is_quiet() {
            tokio::task::yield_now().await;
        }
        worker.leave(LeaveReason::Drained.into());
        assert_eq!(starting.await.unwrap(), Err(BindRefusal::Leaving));
        assert!(worker.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_with_keys_that_end_leaves_in_time_and_says_why() {
        let (worker, _) = bound();
        let end = Timestamp::now() + SignedDuration::from_secs(900);
        let begun = Instant::now();
        leave_before(Arc::clone(&worker), end).await;
        let stayed = begun.elapsed();
        assert!((835..=840).contains(&stayed.as_secs()), "{stayed:?}");
        assert_eq!(worker.farewell().reason, LeaveReason::CredentialsEnd);
    }
}
