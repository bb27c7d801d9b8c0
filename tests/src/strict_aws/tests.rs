//! What it refuses, and that it does: the suites alone would only show that it never had to.

use super::*;
use crate::http::{Answer, Http};
use axum::routing::any;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::timeout;

/// In moto's place: it takes everything, and counts.
async fn behind() -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = any(async move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    Ok((endpoint, asked))
}

/// A session whose keys end in so many seconds.
fn session(left: i64) -> Session {
    Session {
        role: "arn:aws:iam::123456789012:role/r".into(),
        name: "n".into(),
        source_identity: None,
        tags: BTreeMap::new(),
        transitive: BTreeSet::new(),
        policy: None,
        duration: 900,
        expires_at: Timestamp::now() + SignedDuration::from_secs(left),
        by_token: false,
    }
}

/// As an SDK signs it; who is in front of moto looks at the key alone.
async fn signed(aws: &StrictAws, key: &str, service: &str) -> anyhow::Result<Answer> {
    let url = format!("{}/b-alice/note.txt", aws.endpoint());
    let scope = format!("{key}/20260101/us-east-1/{service}/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
    Http::default().get(&url, &[("authorization", &authorization)]).await
}

#[tokio::test]
async fn keys_that_have_ended_are_refused_and_nothing_behind_sees_them() -> anyhow::Result<()> {
    let (endpoint, passed) = behind().await?;
    let aws = StrictAws::start_at(Ipv4Addr::LOCALHOST, &endpoint).await?;
    for (key, left) in [("ASIALIVES", 60), ("ASIAENDED", -1)] {
        aws.state.sessions.lock().insert(key.into(), session(left));
    }
    let answer = signed(&aws, "ASIALIVES", "s3").await?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    ensure!(passed.load(Ordering::SeqCst) == 1 && aws.refused().is_empty());

    let answer = signed(&aws, "ASIAENDED", "s3").await?;
    ensure!(answer.status == StatusCode::BAD_REQUEST, "{}", answer.status);
    ensure!(answer.text().contains("<Code>ExpiredToken</Code>"), "{}", answer.text());
    ensure!(passed.load(Ordering::SeqCst) == 1, "it was passed on");
    ensure!(aws.refused() == ["expired"], "{:?}", aws.refused());
    ensure!(aws.calls().len() == 1, "{:?}", aws.calls());
    Ok(())
}

#[tokio::test]
async fn a_fault_is_of_sts_alone_counts_who_asks_and_ends_when_it_is_switched_off()
-> anyhow::Result<()> {
    let (endpoint, _) = behind().await?;
    let aws = StrictAws::start_at(Ipv4Addr::LOCALHOST, &endpoint).await?;
    for (fault, status, code) in
        [(StsFault::Throttling, 400, "Throttling"), (StsFault::Failing, 500, "InternalFailure")]
    {
        aws.sts_does(Some(fault));
        let answer = signed(&aws, "AKIAOWN", "sts").await?;
        ensure!(answer.status == status, "{}", answer.status);
        ensure!(answer.text().contains(&format!("<Code>{code}</Code>")), "{}", answer.text());
        let answer = signed(&aws, "AKIAOWN", "s3").await?;
        ensure!(answer.status.is_success(), "{}", answer.text());
    }
    aws.sts_does(Some(StsFault::Silent));
    let unanswered = timeout(std::time::Duration::from_millis(100), signed(&aws, "AKIAOWN", "sts"));
    ensure!(unanswered.await.is_err(), "it answered");
    aws.sts_does(None);
    let answer = signed(&aws, "AKIAOWN", "sts").await?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    ensure!(aws.asked_sts() == 4, "{}", aws.asked_sts());
    Ok(())
}
