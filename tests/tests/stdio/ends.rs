//! How programs begin, how they end or are ended, and how fast others take their place.

use super::{PATIENCE, code, controller, pid, programs, running, scripted};
use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use patchbay_tests::{
    http::Answer,
    mcp::{McpClient, initialize},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn a_program_that_reads_nothing_is_ended_and_another_takes_its_place() -> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let (frozen, other) = (client.initialize().await?, client.initialize().await?);
    let shared = pid(client.call("whoami", json!({}))).await?;
    let of_frozen = pid(frozen.call("whoami", json!({}))).await?;
    let marks = ["/tmp/frozen-shared", "/tmp/frozen-of-session"];
    let freezing = async {
        let shared = client.modern_call("freeze", json!({ "path": marks[0] }));
        tokio::try_join!(shared, frozen.raw_call("freeze", json!({ "path": marks[1] })))
    };
    let told = async {
        for mark in marks {
            let is_frozen = async || {
                Ok(other.call("read_file", json!({ "path": mark })).await?["error"].is_null())
            };
            controller.eventually("it is frozen", is_frozen).await?;
        }
        // more than a pipe holds, and more than may wait for it
        let text = json!({ "text": "x".repeat(8 * 1024) });
        let calls = (0..64).map(|_| client.modern_call("echo", text.clone()));
        let of_session = (0..64).map(|_| frozen.raw_call("echo", text.clone()));
        let all = futures_util::future::try_join(
            futures_util::future::try_join_all(calls),
            futures_util::future::try_join_all(of_session),
        );
        anyhow::Ok(all.await?.into())
    };
    let ((of_shared, of_session), told) = tokio::try_join!(freezing, told)?;
    let [of_calls, of_calls_in_session]: [Vec<Answer>; 2] = told;
    let told = of_calls.iter().chain(&of_calls_in_session).chain([&of_shared, &of_session]);
    for answer in told {
        // in a stream, where it began before the end
        ensure!(code(answer)? == -32013, "{} {}", answer.status, answer.text());
    }
    // who comes is served by others, and those are gone
    let now = pid(client.call("whoami", json!({}))).await?;
    let of_session = pid(frozen.call("whoami", json!({}))).await?;
    ensure!(now != shared && of_session != of_frozen, "{now} {of_session}");
    programs(&client, |running| ![shared, of_frozen].iter().any(|it| running.contains(it))).await?;
    ensure!(now == pid(client.call("whoami", json!({}))).await?);
    let logs = controller.logs();
    let said = logs.lines().filter(|line| line.contains("reads nothing; it is ended")).count();
    ensure!(said == 2, "{logs}");
    Ok(())
}

#[tokio::test]
async fn programs_that_end_at_once_are_started_ever_more_slowly_and_who_asks_is_told_soon()
-> anyhow::Result<()> {
    // of which the first ends when it is told to
    const LAST_BAD: usize = 9;
    const AT_ONCE: usize = 8;
    let script = format!(
        "echo >> /tmp/starts; number=$(wc -l < /tmp/starts); \
         [ $number -gt 1 ] && [ $number -le {LAST_BAD} ] && exit 7; exec \"$0\" --stdio"
    );
    let (controller, client) = scripted(&script).await?;
    client.call("whoami", json!({})).await?;
    let ended = client.modern_call("exit", json!({ "code": 3 })).await?;
    ensure!(code(&ended)? == -32013, "{}", ended.text());

    let (mut refused, mut told_why) = (0, false);
    let asking = async {
        loop {
            let since = Instant::now();
            let calls = (0..AT_ONCE).map(|_| client.modern_call("whoami", json!({})));
            let calls = futures_util::future::try_join_all(calls);
            let initialize = initialize();
            let beginning = client.post(&[], &initialize);
            let (calls, beginning) = tokio::try_join!(calls, beginning)?;
            ensure!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
            let is_served = calls.iter().all(|answer| answer.status == StatusCode::OK);
            for answer in calls.into_iter().chain([beginning]) {
                if answer.status != StatusCode::OK {
                    ensure!(answer.status == StatusCode::BAD_GATEWAY, "{}", answer.status);
                    ensure!(code(&answer)? == -32013, "{}", answer.text());
                    refused += 1;
                    told_why |= answer.text().contains("ends early");
                }
            }
            if is_served {
                return anyhow::Ok(());
            }
            // clients that do not wait, and do not hurry either
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * PATIENCE, asking).await.context("no program is started any more")??;
    ensure!(told_why && refused > 10 * LAST_BAD, "{told_why} {refused}");

    // one for each of the bad ones, and those that are well: the shared one, sessions' and the next
    let starts = client.call("read_file", json!({ "path": "/tmp/starts" })).await?;
    let starts = starts["text"].as_str().map(str::len).with_context(|| format!("{starts}"))?;
    ensure!((LAST_BAD..LAST_BAD + 6).contains(&starts), "{starts} programs, {refused} refused");
    let logs = controller.logs();
    ensure!(logs.contains("programs of the MCP server end early; the next one waits"), "{logs}");
    Ok(())
}

/// The processes of the worker that are the fixture.
async fn servers(client: &McpClient) -> anyhow::Result<BTreeSet<u64>> {
    let mut servers = BTreeSet::new();
    for pid in running(client).await? {
        let path = format!("/proc/{pid}/comm");
        // it may have ended since
        let name = client.call("read_file", json!({ "path": path })).await?;
        if name["text"].as_str().is_some_and(|name| name.trim() == "fixture-server") {
            servers.insert(pid);
        }
    }
    Ok(servers)
}

#[tokio::test]
async fn the_program_of_a_session_runs_before_the_session_begins() -> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let mut spoken_to = BTreeSet::from([pid(client.call("whoami", json!({}))).await?]);
    for _ in 0..3 {
        let is_ahead = async || Ok(servers(&client).await?.len() == spoken_to.len() + 1);
        controller.eventually("one runs that nobody has spoken to", is_ahead).await?;
        let before = servers(&client).await?;
        let session = client.initialize().await?;
        let own = pid(session.call("whoami", json!({}))).await?;
        ensure!(before.contains(&own), "{own} did not run before: {before:?}");
        ensure!(spoken_to.insert(own), "{own} is another's");
    }
    Ok(())
}

#[tokio::test]
async fn a_sessions_program_is_told_to_end_by_its_input_then_by_a_signal_and_then_ended()
-> anyhow::Result<()> {
    // it stays after its input has ended, and after SIGTERM, where a file says so
    let script = "trap 'echo TERM >> /tmp/end-$$; [ \"$stays\" = always ] || exit 0' TERM; \
                  \"$0\" --stdio; echo EOF >> /tmp/end-$$; stays=$(cat /tmp/stays-$$) || exit 0; \
                  while :; do sleep 1000 & wait $!; done";
    let (controller, client) = scripted(script).await?;
    let cases =
        [(None, "EOF\n"), (Some("past EOF"), "EOF\nTERM\n"), (Some("always"), "EOF\nTERM\n")];
    let mut ending = Vec::new();
    for (stays, wanted) in cases {
        let session = client.initialize().await?;
        let who = session.call("whoami", json!({})).await?;
        let shell = who["ppid"].as_u64().with_context(|| format!("{who}"))?;
        if let Some(stays) = stays {
            let file = json!({ "path": format!("/tmp/stays-{shell}"), "text": stays });
            session.call("write_file", file).await?;
        }
        ending.push((session, shell, wanted));
    }
    for (session, ..) in &ending {
        let ended = session.send(Method::DELETE).await?.status();
        ensure!(ended == StatusCode::NO_CONTENT, "{ended}");
    }
    for (_, shell, wanted) in &ending {
        programs(&client, |running| !running.contains(shell)).await?;
        let path = json!({ "path": format!("/tmp/end-{shell}") });
        let marks: Value = client.call("read_file", path).await?;
        ensure!(marks["text"] == *wanted, "{marks}, and not {wanted:?}");
    }
    // the last one alone
    let is_told = async || {
        let logs = controller.logs();
        Ok(logs.lines().filter(|line| line.contains("did not end on SIGTERM")).count() == 1)
    };
    controller.eventually("it is told that one had to be killed", is_told).await
}
