//! Alerts and dashboard: that they ask for what the programs tell, and that every alert leads to what to do.

use crate::chart::render;
use anyhow::{Context, ensure};
use patchbay_core::{
    grant::GrantError,
    orchestrator::{AssignRefusal, OfferError, Unavailable},
};
use patchbay_crds::worker_class::WorkerClassStatus;
use patchbay_gateway::{
    activate::ActivateError, authn::AuthnError, metrics::Metrics, respond::Refusal,
    waiting::QueueFull,
};
use patchbay_operator::driver;
use patchbay_tests::{chart::path, repository::repository};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// What the operator tells, and somebody has to ask for.
const OPERATOR: [&str; 6] = [
    "patchbay_operator_leads",
    "patchbay_operator_workers",
    "patchbay_operator_wanted_workers",
    "patchbay_operator_waiting_tenants",
    "patchbay_operator_class_ready",
    "patchbay_operator_ca_expiry_timestamp_seconds",
];

/// What the gateway tells by a label, and only once there is something to tell.
const GATEWAY: [&str; 2] =
    ["patchbay_gateway_requests_total", "patchbay_gateway_authentications_total"];

fn known() -> anyhow::Result<BTreeSet<String>> {
    let mut registry = Registry::default();
    Metrics::register(&mut registry);
    // what it tells by class, it tells once there is one
    let operator = driver::Metrics::register(&mut registry);
    operator.counted("tools", 1, &WorkerClassStatus::default());
    let mut text = String::new();
    encode(&mut text, &registry)?;
    let mut names: BTreeSet<String> = GATEWAY.into_iter().map(str::to_owned).collect();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').context("a name and a type")?;
        let suffix = match kind {
            "histogram" => "_bucket",
            "counter" => "_total",
            _ => "",
        };
        names.insert(format!("{name}{suffix}"));
    }
    Ok(names)
}

/// The metrics of ours that an expression names.
fn named(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("patchbay_")).map(str::to_owned).collect()
}

async fn alerts() -> anyhow::Result<Vec<Value>> {
    let rule = json!({ "monitoring": { "prometheusRule": { "enabled": true } } });
    let rendered = render(rule).await?;
    let spec = &rendered.object("PrometheusRule", "patchbay")?["spec"];
    Ok(spec["groups"][0]["rules"].as_array().context("no alerts")?.clone())
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_what_is_told_and_for_one_installation_alone()
-> anyhow::Result<()> {
    let known = known()?;
    let mut expressions = Vec::new();
    for alert in alerts().await? {
        expressions
            .push((alert["expr"].as_str().context("no expression")?.to_owned(), "patchbay-system"));
    }
    let dashboard = fs::read_to_string(path().join("dashboards/patchbay.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    for panel in dashboard["panels"].as_array().context("no panels")? {
        ensure!(
            panel["description"].as_str().is_some_and(|it| !it.is_empty()),
            "{}",
            panel["title"]
        );
        for target in panel["targets"].as_array().context("no targets")? {
            expressions
                .push((target["expr"].as_str().context("no expression")?.to_owned(), "$namespace"));
        }
    }
    let mut asked = BTreeSet::new();
    for (expression, namespace) in &expressions {
        let names = named(expression);
        ensure!(names.is_subset(&known), "{expression}: {:?}", names.difference(&known));
        let selectors = expression.matches('{').count();
        let ours = expression.matches(&format!("namespace=\"{namespace}\"")).count();
        ensure!(selectors > 0 && selectors == ours, "of any installation: {expression}");
        asked.extend(names);
    }
    for name in OPERATOR {
        ensure!(known.contains(name), "the operator does not tell {name}");
        ensure!(asked.contains(name), "nobody asks for {name}");
    }
    Ok(())
}

#[tokio::test]
async fn every_alert_leads_to_a_section_of_its_own_and_every_section_has_an_alert()
-> anyhow::Result<()> {
    let text = fs::read_to_string(repository().join("docs/operations.md"))?;
    let sections: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("### Patchbay")).map(str::trim).collect();
    let alerts = alerts().await?;
    let mut names = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().context("no name")?;
        names.insert(name.strip_prefix("Patchbay").context("not ours")?);
        let link = alert["annotations"]["runbook_url"].as_str().context("no link")?;
        ensure!(link == format!("https://patchbay.dev/docs/operations.md#{}", name.to_lowercase()));
        ensure!(
            ["warning", "critical"]
                .contains(&alert["labels"]["severity"].as_str().context("none")?)
        );
        ensure!(!alert["for"].is_null() && !alert["annotations"]["summary"].is_null(), "{name}");
    }
    ensure!(names == sections, "{names:?} are not {sections:?}");
    Ok(())
}

/// What the gateway answers when Patchbay is to blame.
fn ours() -> BTreeSet<&'static str> {
    let ours = [
        Refusal::Authn(AuthnError::ProviderUnavailable { who: String::new(), retry_after: None }),
        Refusal::QueueFull(QueueFull::Bytes),
        Refusal::WorkerBroke,
        Refusal::WorkerReplaced,
        Refusal::Activate(ActivateError::HoldElapsed),
        Refusal::Activate(ActivateError::Offer(OfferError::NotStarting(String::new()))),
        Refusal::Activate(ActivateError::ControlPlane(Unavailable(String::new()))),
        Refusal::Activate(ActivateError::Grant(GrantError::unavailable(""))),
        Refusal::Activate(ActivateError::Unreachable),
        Refusal::Activate(ActivateError::BindFailed),
        Refusal::Activate(ActivateError::Refused(AssignRefusal::NotAccepted)),
        Refusal::Activate(ActivateError::Outrun),
    ];
    ours.iter().map(Refusal::reason).collect()
}

#[tokio::test]
async fn what_counts_as_failed_is_what_the_gateway_answers_when_patchbay_is_to_blame()
-> anyhow::Result<()> {
    let expected = ours();
    let alerts = alerts().await?;
    let failing = alerts.iter().find(|it| it["alert"] == "PatchbayRequestsFail").context("none")?;
    let expression = failing["expr"].as_str().context("no expression")?;
    let words = expression.split("outcome=~\"").nth(1).and_then(|it| it.split('"').next());
    let words: BTreeSet<_> = words.context("no outcomes")?.split('|').collect();
    ensure!(words == expected, "{words:?} are not {expected:?}");
    Ok(())
}

#[test]
fn every_outcome_that_counts_as_failed_has_one_row_of_advice() -> anyhow::Result<()> {
    let text = fs::read_to_string(repository().join("docs/operations.md"))?;
    let section = text.split("### PatchbayRequestsFail\n").nth(1).context("no section")?;
    let rows = section.split("### ").next().unwrap_or_default().lines();
    let mut advised = BTreeSet::new();
    for cell in rows.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next()) {
        for outcome in cell.split(", ").map(|word| word.trim_matches('`')) {
            ensure!(advised.insert(outcome), "two rows for {outcome}");
        }
    }
    // somebody else's doing, and nobody knows what to do about it without a word
    let mut expected = ours();
    let mismatch = ActivateError::Refused(AssignRefusal::NameMismatch);
    expected.insert(Refusal::Activate(mismatch).reason());
    ensure!(advised == expected, "{advised:?} are not {expected:?}");
    Ok(())
}

#[tokio::test]
async fn the_values_set_when_alerts_fire() -> anyhow::Result<()> {
    let rule = json!({
        "enabled": true, "labels": { "release": "prometheus" }, "runbooks": "https://wiki.example/patchbay",
        "poolEmptyFor": "3m", "claimSeconds": 0.5, "failedPercent": 2, "caExpiryDays": 30,
    });
    let rendered = render(json!({ "monitoring": { "prometheusRule": rule } })).await?;
    let rule = rendered.object("PrometheusRule", "patchbay")?;
    ensure!(rule["metadata"]["labels"]["release"] == "prometheus");
    let rules = rule["spec"]["groups"][0]["rules"].as_array().context("no alerts")?.clone();
    let alert = |name: &str| rules.iter().find(|it| it["alert"] == name).context("none");
    ensure!(alert("PatchbayPoolEmpty")?["for"] == "3m");
    let ends = |name: &str, end: &str| {
        anyhow::Ok(alert(name)?["expr"].as_str().is_some_and(|it| it.ends_with(end)))
    };
    ensure!(ends("PatchbayClaimsSlow", "> 0.5")? && ends("PatchbayRequestsFail", "> 2")?);
    ensure!(ends("PatchbayAuthorityExpires", "< 30 * 86400")?);
    let link = &alert("PatchbayNoLeader")?["annotations"]["runbook_url"];
    ensure!(link == "https://wiki.example/patchbay#patchbaynoleader");
    Ok(())
}

#[tokio::test]
async fn a_monitor_reads_both_programs_and_calls_them_by_their_names() -> anyhow::Result<()> {
    let monitor =
        json!({ "enabled": true, "interval": "15s", "labels": { "release": "prometheus" } });
    let rendered = render(json!({ "monitoring": { "serviceMonitor": monitor } })).await?;
    let monitor = rendered.object("ServiceMonitor", "patchbay")?;
    ensure!(monitor["metadata"]["labels"]["release"] == "prometheus");
    let spec = &monitor["spec"];
    ensure!(spec["jobLabel"] == "app.kubernetes.io/component");
    ensure!(
        spec["endpoints"] == json!([{ "port": "metrics", "path": "/metrics", "interval": "15s" }])
    );
    let wanted = spec["selector"]["matchLabels"].as_object().context("no selector")?;
    let mut jobs = Vec::new();
    for service in rendered.objects().iter().filter(|it| it["kind"] == "Service") {
        let labels = &service["metadata"]["labels"];
        if wanted.iter().all(|(name, value)| labels[name] == *value) {
            ensure!(service["spec"]["ports"][0]["name"] == "metrics");
            jobs.push(labels["app.kubernetes.io/component"].as_str().context("none")?);
        }
    }
    jobs.sort_unstable();
    ensure!(jobs == ["gateway", "operator"], "{jobs:?}");
    Ok(())
}
