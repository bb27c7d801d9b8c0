//! Users who call all the time, and what came of it. Each reads what is theirs, so a mix-up would be seen at once.
//!
//! They are as patient as an ordinary client: a connection is kept, and a request that was not put on it before it
//! closed goes on another. Nothing else is tried again; whatever failed is counted. It must not know what is killed.

use anyhow::{Context, ensure};
use patchbay_tests::mcp::McpClient;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug, time::Duration};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Between two calls of a user: two cores are to have time for others.
const PACE: Duration = Duration::from_millis(10);
/// How long a number of calls may take, an outage in between.
const LIMIT: Duration = Duration::from_mins(3);

/// What came of a user's calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Those that were answered with what is the user's.
    pub(crate) calls: usize,
    /// Those that failed, and how.
    pub(crate) failed: Vec<String>,
    /// How often another worker answered, which did not know the user yet.
    pub(crate) anew: usize,
    /// Answers with something that is not the user's.
    pub(crate) strange: Vec<String>,
    /// The longest time without an answer.
    pub(crate) longest: Duration,
}

/// Users who call.
pub(crate) struct Load {
    stop: CancellationToken,
    users: BTreeMap<String, watch::Receiver<Tally>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Makes each user known to a worker and lets them call from then on. Each has one or more ways to the service,
    /// and takes the next one after a failure.
    pub(crate) async fn begin(users: Vec<(&str, Vec<McpClient>)>) -> anyhow::Result<Self> {
        let mut load =
            Self { stop: CancellationToken::new(), users: BTreeMap::new(), tasks: JoinSet::new() };
        for (user, ways) in users {
            remember(ways.first().context("no way")?, user)
                .await
                .with_context(|| user.to_owned())?;
            let (teller, told) = watch::channel(Tally::default());
            load.users.insert(user.to_owned(), told);
            load.tasks.spawn(go_on(user.to_owned(), ways, teller, load.stop.clone()));
        }
        load.go_on(1).await?;
        Ok(load)
    }

    /// Waits until every user has had this many further answers.
    pub(crate) async fn go_on(&self, calls: usize) -> anyhow::Result<()> {
        let goals = self.users.iter().map(|(user, told)| (user, told.borrow().calls + calls));
        for (user, goal) in goals.collect::<Vec<_>>() {
            self.until(user, |tally| tally.calls >= goal).await?;
        }
        Ok(())
    }

    /// Waits until `is_so` of what came of a user's calls.
    pub(crate) async fn until(
        &self,
        user: &str,
        is_so: impl Fn(&Tally) -> bool,
    ) -> anyhow::Result<()> {
        let mut told = self.users.get(user).context("who?")?.clone();
        let waited = timeout(LIMIT, told.wait_for(is_so)).await;
        let last = || format!("{user}: {:?}", self.now().get(user));
        waited.with_context(last)?.with_context(last)?;
        Ok(())
    }

    /// What came of it so far.
    pub(crate) fn now(&self) -> BTreeMap<String, Tally> {
        self.users.iter().map(|(user, told)| (user.clone(), told.borrow().clone())).collect()
    }

    /// Lets all calls come to their end, and tells what came of them.
    pub(crate) async fn end(mut self) -> anyhow::Result<BTreeMap<String, Tally>> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        let tallies = self.now();
        for (user, Tally { calls, failed, anew, longest, .. }) in &tallies {
            let failed = failed.len();
            println!(
                "{user}: {calls} calls, {failed} failed, {anew} workers anew, at most {longest:?} for an answer"
            );
        }
        let strange: Vec<_> = tallies.values().flat_map(|tally| &tally.strange).collect();
        ensure!(strange.is_empty(), "users were mixed up: {strange:?}");
        Ok(tallies)
    }
}

impl Tally {
    /// That nothing was noticed: no call failed, and the worker stayed.
    pub(crate) fn ensure_undisturbed(&self) -> anyhow::Result<()> {
        ensure!(self.calls > 0 && self.failed.is_empty() && self.anew == 0, "{self:?}");
        Ok(())
    }
}

/// A user keeps their own name with the worker.
async fn remember(way: &McpClient, user: &str) -> anyhow::Result<()> {
    way.call("remember", json!({ "key": "me", "value": user })).await.map(drop)
}

async fn go_on(
    user: String,
    ways: Vec<McpClient>,
    teller: watch::Sender<Tally>,
    stop: CancellationToken,
) {
    let mut ways = ways.iter().cycle();
    let Some(mut way) = ways.next() else { return };
    let own = json!({ "memory": user, "file": user });
    let mut answered = Instant::now();
    while !stop.is_cancelled() {
        let told = way.call("recall", json!({ "key": "me" })).await;
        let waited = answered.elapsed();
        let is_new = told
            .as_ref()
            .is_ok_and(|told| *told == json!({ "memory": Value::Null, "file": Value::Null }));
        let remembered = if is_new { remember(way, &user).await } else { Ok(()) };
        teller.send_modify(|tally| {
            match &told {
                Ok(told) if *told == own => tally.calls += 1,
                Ok(_) if is_new => tally.anew += 1,
                Ok(other) => tally.strange.push(format!("{user} was told {other}")),
                Err(error) => tally.failed.push(format!("{error:#}")),
            }
            if let Err(error) = &remembered {
                tally.failed.push(format!("{error:#}"));
            }
            if told.is_ok() {
                tally.longest = tally.longest.max(waited);
            }
        });
        if told.is_ok() {
            answered = Instant::now();
        }
        if (told.is_err() || remembered.is_err())
            && let Some(next) = ways.next()
        {
            way = next;
        }
        sleep(PACE).await;
    }
}
