//! How programs end, or are ended, and what takes their place.

use super::{code, controller, pid, programs};
use anyhow::ensure;
use patchbay_tests::http::Answer;
use serde_json::json;

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
