//! The search for secrets that all suites pass through, with secrets planted where it looks: it fails then, and names
//! none of them.

use anyhow::ensure;
use data_encoding::BASE64;
use patchbay_tests::{
    controller::{ControllerConfig, api_key, fixture_documents},
    known,
    mcp::McpClient,
    pods::{GatewayConfig, OperatorProcess},
};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A name that is in a log, in metrics and on admin pages, because it is a class's.
const PLANTED: &str = "planted-secret-of-somebody";
/// Another, for a test beside, which is in the logs of a cluster's programs because it is their namespace's.
const NAMESPACE: &str = "another-secret-that-is-planted";

#[tokio::test]
async fn a_client_that_is_answered_with_its_own_credential_fails() -> anyhow::Result<()> {
    let documents = fixture_documents("fixture", 1, &["alice"], "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let key = api_key("alice");
    let alice = McpClient::with_headers(controller.url("fixture"), &[("x-api-key", &key)]);
    let said = alice.call("echo", json!({ "text": "no secret" })).await?;
    ensure!(said["text"] == "no secret", "{said}");
    for planted in [key.clone(), BASE64.encode(key.as_bytes())] {
        let failed = alice.modern_call("echo", json!({ "text": planted })).await;
        let told = failed.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(told.contains("API key") && !told.contains(&key), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_in_a_controllers_log_or_metrics_fails_whoever_had_it_started()
-> anyhow::Result<()> {
    let documents = fixture_documents(PLANTED, 1, &["alice"], "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let key = api_key("alice");
    let alice = McpClient::with_headers(controller.url(PLANTED), &[("x-api-key", &key)]);
    alice.call("whoami", json!({})).await?;
    ensure!(controller.metrics().await?.contains(PLANTED), "it is not in the metrics");
    known::hold("a planted one", PLANTED);
    for told in [controller.metrics().await.err(), controller.tenants().await.err()] {
        let told = told.map(|error| error.to_string()).unwrap_or_default();
        ensure!(told.contains("a planted one") && !told.contains(PLANTED), "{told}");
    }
    // nothing of its log was looked at by this test
    names_it(controller, PLANTED)
}

#[tokio::test]
async fn a_secret_in_the_log_of_a_clusters_gateway_or_operator_fails_whoever_had_it_started()
-> anyhow::Result<()> {
    // each says which namespace is its own
    let gateway = GatewayConfig::nowhere(NAMESPACE)?.start_unready(false).await?;
    let operator = OperatorProcess::start_nowhere(NAMESPACE)?;
    operator.logged("admin pages", |line| line["message"] == "admin pages").await?;
    ensure!(gateway.logs().contains(NAMESPACE) && operator.text().contains(NAMESPACE));
    known::hold("a planted one", NAMESPACE);
    names_it(gateway, NAMESPACE)?;
    names_it(operator, NAMESPACE)
}

/// Fails unless letting go of it fails, which names what was planted and does not repeat it.
fn names_it(program: impl Sized, planted: &str) -> anyhow::Result<()> {
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(program)));
    let told = dropped.err().and_then(|it| it.downcast::<String>().ok()).unwrap_or_default();
    ensure!(told.contains("a planted one") && !told.contains(planted), "{told:?}");
    Ok(())
}
