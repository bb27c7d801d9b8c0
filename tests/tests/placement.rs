//! A control plane that is wrong, and one that is let down: the worker itself decides whom it serves.
//!
//! Here the parts are put together in this process, with real sandboxes, so that the orchestrator can be
//! made to lie.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use patchbay_core::{
    class::WorkerClass,
    digest::Digest,
    grant::Grant,
    id::Epoch,
    latch::Claim,
    link::{
        BindOutcome, BindRefusal, EPOCH_HEADER, FORWARD_PREFIX, MISDIRECTED, REFUSAL_HEADER,
        TENANT_HEADER,
    },
    orchestrator::{Assignment, Offer, Orchestrator, Placement, TenantState},
    provider::Provisioning,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::documents;
use patchbay_gateway::{
    Limits,
    bind::{BindError, Told, bind},
    forward::{
        link::{Link, LinkBody, LinkContext, link_uri},
        pinned::{GatewayCertificate, LinkCertificate},
    },
};
use patchbay_orchestrator::local::{
    LocalConfig, LocalOrchestrator, RunDir,
    sandbox::{Cgroups, Instance, Launcher, Tools},
};
use patchbay_tests::{binaries, controller::fixture_documents, mcp::modern_message};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::timeout;

const CLASS: &str = "fixture";
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    orchestrator: Arc<LocalOrchestrator>,
    context: LinkContext,
    _directory: TempDir,
}

fn class() -> anyhow::Result<Arc<WorkerClass>> {
    let text = fixture_documents(CLASS, 2, &["alice"], "")?.join("\n---\n");
    let valid = documents::parse(&text, Path::new("fixture"))
        .and_then(|documents| documents.validate())
        .map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    Ok(Arc::new(valid.classes.into_iter().next().context("no class")?))
}

/// An authority, and a gateway's certificate of it.
fn certificate() -> anyhow::Result<(String, GatewayCertificate)> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let roots = ca.self_signed(&ca_key)?.pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    let role = patchbay_core::pin::Role::Gateway.uri();
    params.subject_alt_names = vec![rcgen::SanType::URI(role.try_into()?)];
    let chain = vec![params.signed_by(&key, &issuer)?.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((roots, GatewayCertificate { chain, key }))
}

fn world(bind_limit: Duration) -> anyhow::Result<World> {
    let directory = tempfile::Builder::new().prefix("pb").tempdir()?;
    let (run_dir, _) = RunDir::create(directory.path())?;
    let worker_program = binaries::path("patchbay-worker")?;
    let cgroups = Cgroups::open(&Instance::new()?);
    let launcher = Launcher::new(Tools::with_worker(&worker_program), cgroups)?;
    let (roots, certificate) = certificate()?;
    let config = LocalConfig {
        worker_program,
        roots,
        max_starting: 2,
        bind_limit,
        own_addresses: Vec::new(),
    };
    let classes = [class()?];
    let orchestrator = LocalOrchestrator::start(&classes, Vec::new(), launcher, config, run_dir)?;
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = Arc::new(LinkCertificate::new(certificate, &crypto)?);
    let context =
        LinkContext { crypto, certificate, sessions: Arc::default(), limits: Limits::default() };
    Ok(World { orchestrator, context, _directory: directory })
}

fn tenant(subject: &str) -> anyhow::Result<TenantKey> {
    Ok(TenantKey {
        issuer: "urn:test".into(),
        subject: subject.into(),
        class: patchbay_core::id::ClassName::parse(CLASS)?,
        authority: Authority::unrestricted(),
    })
}

fn grant(subject: &str) -> Grant {
    let credential = Digest::of(subject.as_bytes());
    Grant { credential, expires_at: None, catalog: None, aws: None, allowed: None }
}

const MADE_AT_NEED: Provisioning = Provisioning::OnFirstContact;

async fn take(world: &World, subject: &str) -> anyhow::Result<Placement> {
    let key = tenant(subject)?;
    let offer = timeout(PATIENCE, world.orchestrator.offer(&key, MADE_AT_NEED, &[])).await??;
    match world.orchestrator.assign(&key, MADE_AT_NEED, &offer, Epoch(1)).await? {
        Assignment::Won(placement) => Ok(placement),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Calls a tool of a worker's server in the name of a claim.
async fn call(
    link: &Link,
    claim: &Claim,
    tool: &str,
    arguments: serde_json::Value,
) -> anyhow::Result<(StatusCode, Option<String>, String)> {
    let message = modern_message("tools/call", tool, &arguments).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri(link_uri(FORWARD_PREFIX)?)
        .header(TENANT_HEADER, claim.tenant.as_str())
        .header(EPOCH_HEADER, claim.epoch.0)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .body(LinkBody::Control(Full::new(Bytes::from(message))))?;
    let response = timeout(PATIENCE, link.send(request)).await??;
    let status = response.status();
    let refusal = response.headers().get(REFUSAL_HEADER).map(|it| it.to_str().map(str::to_owned));
    let refusal = refusal.transpose()?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, refusal, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test]
async fn a_request_that_is_forced_to_another_tenants_worker_is_refused_there() -> anyhow::Result<()>
{
    let world = world(Duration::from_mins(2))?;
    let (first, second) = (take(&world, "t1").await?, take(&world, "t2").await?);
    ensure!(first.offer.incarnation != second.offer.incarnation, "one worker for two tenants");
    let link = Link::new(&first.offer, &world.context)?;
    let remember = |value: &str| json!({ "key": "k", "value": value });

    // before any bind, nobody is served
    let (status, refusal, _) = call(&link, &first.claim, "remember", remember("early")).await?;
    ensure!(status == StatusCode::MISDIRECTED_REQUEST, "{status}");
    ensure!(refusal.as_deref() == Some(MISDIRECTED), "{refusal:?}");

    ensure!(bind(&link, &first.claim, &grant("t1"), Told::default()).await? == BindOutcome::Bound);
    let (status, _, body) = call(&link, &first.claim, "remember", remember("t1")).await?;
    ensure!(status.is_success(), "{status} {body}");

    // T2's placement, pointed at T1's worker by force: neither bound nor served
    let refused = bind(&link, &second.claim, &grant("t2"), Told::default()).await;
    ensure!(matches!(refused, Err(BindError::Refused(BindRefusal::OtherTenant))), "{refused:?}");
    let later = Claim { epoch: first.claim.epoch.next(), ..first.claim.clone() };
    for claim in [&second.claim, &later] {
        let (status, refusal, _) = call(&link, claim, "remember", remember("t2")).await?;
        ensure!(status == StatusCode::MISDIRECTED_REQUEST, "{status}");
        ensure!(refusal.as_deref() == Some(MISDIRECTED), "{refusal:?}");
    }
    let (_, _, body) = call(&link, &first.claim, "recall", json!({ "key": "k" })).await?;
    ensure!(body.contains("t1") && !body.contains("t2") && !body.contains("early"), "{body}");
    world.orchestrator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_unused_connection_is_let_go_and_dialled_again_when_needed() -> anyhow::Result<()> {
    let mut world = world(Duration::from_mins(2))?;
    world.context.limits.link_idle = Duration::from_millis(200);
    let placement = take(&world, "t1").await?;
    let link = Link::new(&placement.offer, &world.context)?;
    bind(&link, &placement.claim, &grant("t1"), Told::default()).await?;
    // a call that is longer than the limit keeps its stream
    let (status, _, body) = call(&link, &placement.claim, "sleep", json!({ "ms": 600 })).await?;
    ensure!(status.is_success(), "{status} {body}");
    let let_go = async {
        while link.is_connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, let_go).await?;
    let (status, _, body) = call(&link, &placement.claim, "echo", json!({ "text": "x" })).await?;
    ensure!(status.is_success() && link.is_connected(), "{status} {body}");
    world.orchestrator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn another_key_at_the_workers_address_is_refused() -> anyhow::Result<()> {
    let world = world(Duration::from_mins(2))?;
    let (first, second) = (take(&world, "t1").await?, take(&world, "t2").await?);
    // an address that another worker took over
    let taken_over = Offer { fingerprint: second.offer.fingerprint, ..first.offer.clone() };
    let link = Link::new(&taken_over, &world.context)?;
    let refused = bind(&link, &first.claim, &grant("t1"), Told::default()).await;
    ensure!(matches!(refused, Err(BindError::Send(_))), "{refused:?}");
    // and a gateway of another control plane
    let (_, foreign) = certificate()?;
    let crypto = world.context.crypto.clone();
    let certificate = Arc::new(LinkCertificate::new(foreign, &crypto)?);
    let foreign =
        LinkContext { crypto, certificate, sessions: Arc::default(), limits: Limits::default() };
    let refused =
        bind(&Link::new(&first.offer, &foreign)?, &first.claim, &grant("t1"), Told::default())
            .await;
    ensure!(matches!(refused, Err(BindError::Send(_))), "{refused:?}");
    world.orchestrator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_was_taken_and_never_bound_is_ended_and_a_bound_one_is_not()
-> anyhow::Result<()> {
    let world = world(Duration::from_millis(500))?;
    let (first, second) = (take(&world, "t1").await?, take(&world, "t2").await?);
    let link = Link::new(&second.offer, &world.context)?;
    bind(&link, &second.claim, &grant("t2"), Told::default()).await?;
    timeout(PATIENCE, world.orchestrator.gone(&first.offer.incarnation)).await?;
    let state = world.orchestrator.lookup(&tenant("t1")?.name());
    ensure!(state == TenantState::Asleep { last: Epoch(1) }, "{state:?}");
    let (status, _, body) = call(&link, &second.claim, "echo", json!({ "text": "here" })).await?;
    ensure!(status.is_success() && body.contains("here"), "{status} {body}");
    world.orchestrator.shutdown().await;
    Ok(())
}
