//! What a client is told, over HTTP, of what stands between its user and a worker: the words of docs/reference/errors.md whose
//! causes are a cluster's, a worker's or the broker's. Who is told what of a credential is in the black-box suites.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod worker;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::StatusCode;
use patchbay_core::{
    class::WorkerClass,
    digest::DigestKey,
    fixtures,
    grant::{Grant, GrantError, GrantSource, NoKeys},
    id::{Epoch, Incarnation, TenantUid},
    identity::Authenticated,
    latch::Claim,
    link::{BIND_PATH, BindAccepted, BindOutcome, BindRefusal, RESERVE_PATH, Refused},
    orchestrator::{
        AssignRefusal, Assignment, Endpoint, Offer, OfferError, Orchestrator, Placement,
        TenantState, Unavailable,
    },
    provider::Provisioning,
    routing::RouteTable,
    tenant::{TenantKey, TenantName},
};
use patchbay_gateway::{
    Gateway, Limits, Listener,
    authn::{Authenticator, Sources},
    forward::link::LinkContext,
    metrics::Metrics,
    origin::AllowedNames,
    public_url::PublicUrl,
    service::{Composition, Configuration},
};
use prometheus_client::registry::Registry;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use worker::{Answer, Worker};

/// What a cluster says, always.
struct Cluster {
    state: TenantState,
    /// None: nobody is ever free.
    offer: Option<Result<Offer, OfferError>>,
    assigned: Result<(), AssignRefusal>,
    /// Somebody waits for an offer.
    is_waited_for: Arc<Notify>,
}

impl Default for Cluster {
    fn default() -> Self {
        let is_waited_for = Arc::default();
        Self { state: TenantState::Unknown, offer: None, assigned: Ok(()), is_waited_for }
    }
}

impl Cluster {
    fn offering(worker: &Worker) -> Self {
        Self { offer: Some(Ok(worker.offer.clone())), ..Self::default() }
    }

    fn failing(error: OfferError) -> Self {
        Self { offer: Some(Err(error)), ..Self::default() }
    }

    /// The tenant has this worker already.
    fn with(offer: &Offer) -> Self {
        Self { state: TenantState::Assigned(placed(offer)), ..Self::default() }
    }
}

fn placed(offer: &Offer) -> Placement {
    let claim = Claim { tenant: TenantUid::parse("tenant").unwrap(), epoch: Epoch(1) };
    Placement { claim, offer: offer.clone() }
}

#[async_trait]
impl Orchestrator for Cluster {
    fn lookup(&self, _: &TenantName) -> TenantState {
        self.state.clone()
    }

    async fn offer(
        &self,
        _: &TenantKey,
        _: Provisioning,
        _: &[Placement],
    ) -> Result<Offer, OfferError> {
        if let Some(offer) = &self.offer {
            return offer.clone();
        }
        self.is_waited_for.notify_one();
        std::future::pending().await
    }

    async fn assign(
        &self,
        _: &TenantKey,
        _: Provisioning,
        offer: &Offer,
        _: Epoch,
    ) -> Result<Assignment, Unavailable> {
        Ok(match self.assigned {
            Ok(()) => Assignment::Won(placed(offer)),
            Err(refusal) => Assignment::Refused(refusal),
        })
    }

    fn report_gone(&self, _: &Incarnation) {}

    async fn awake(&self, _: &TenantName) {
        std::future::pending::<()>().await;
    }

    async fn gone(&self, _: &Incarnation) {
        std::future::pending::<()>().await;
    }
}

/// A broker that gives an empty grant, or this refusal.
struct Grants(Option<GrantError>);

#[async_trait]
impl GrantSource for Grants {
    async fn prepare(&self, _: &WorkerClass, user: &Authenticated) -> Result<Grant, GrantError> {
        let (expires_at, catalog, aws, allowed) = (None, None, None, None);
        let grant = Grant { credential: user.digest, expires_at, catalog, aws, allowed };
        self.0.clone().map_or(Ok(grant), Err)
    }
}

/// A gateway that listens.
struct Running {
    address: SocketAddr,
    _end: DropGuard,
}

/// Short waits, since what is waited for here never comes.
fn limits() -> Limits {
    Limits {
        hold: Duration::from_secs(1),
        settle: Duration::from_millis(200),
        waiters_per_tenant: 1,
        ..Limits::default()
    }
}

impl Running {
    async fn start(cluster: Cluster, grants: Grants, limits: Limits) -> Self {
        let providers = [Arc::new(fixtures::api_keys("keys", &["tools"], &["k1"]))];
        let classes = [Arc::new(fixtures::class("tools", "/mcp"))];
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let sources = Sources { crypto, cluster: None, named: None };
        let key = DigestKey::generate().unwrap();
        let configuration = Configuration {
            routes: RouteTable::build(&classes, &providers).unwrap(),
            authenticator: Authenticator::new(key, &providers, &sources).unwrap(),
        };
        let gateway = Gateway::new(Composition {
            configuration: Arc::new(ArcSwap::from_pointee(configuration)),
            names: AllowedNames::new([], []),
            public_url: PublicUrl::Http,
            orchestrator: Arc::new(cluster),
            grants: Arc::new(grants),
            links: Arc::new(LinkContext { limits, ..worker::context() }),
            metrics: Metrics::register(&mut Registry::default()),
        });
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None, false).await.unwrap();
        let address = listener.address().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(listener.serve(Arc::new(gateway), shutdown.clone()));
        Self { address, _end: shutdown.drop_guard() }
    }

    /// A request of the one user, and the answer's status and reason.
    async fn told(&self) -> (u16, String) {
        self.told_of("content-length: 2\r\n\r\n{}").await
    }

    /// The same of a request that ends like this.
    async fn told_of(&self, rest: &str) -> (u16, String) {
        let host = self.address.to_string();
        self.told_at(&host, rest).await
    }

    /// The same at a gateway that is called so.
    async fn told_at(&self, host: &str, rest: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer pb_k1_secret\r\nconnection: close\r\n{rest}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_retried = head.to_ascii_lowercase().contains("retry-after: ");
        assert_eq!(is_retried, [429, 503].contains(&status), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        (status, body["error"]["data"]["reason"].as_str().unwrap().to_owned())
    }
}

async fn told(cluster: Cluster) -> (u16, String) {
    Running::start(cluster, Grants(None), limits()).await.told().await
}

fn is(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// Keeps itself for whoever asks, takes every bind, and answers requests like this.
fn willing(path: &str, forwarded: StatusCode) -> Answer {
    match path {
        RESERVE_PATH => (StatusCode::NO_CONTENT, Vec::new()),
        BIND_PATH => {
            let accepted = BindAccepted { outcome: BindOutcome::Bound };
            (StatusCode::OK, serde_json::to_vec(&accepted).unwrap())
        }
        _ => (forwarded, Vec::new()),
    }
}

fn refusing(status: StatusCode, reason: BindRefusal) -> Answer {
    (status, serde_json::to_vec(&Refused { reason }).unwrap())
}

#[tokio::test]
async fn who_finds_no_worker_is_told_which_way() {
    assert_eq!(told(Cluster::default()).await, is(503, "no_worker_in_time"));
    let why = OfferError::NotStarting("it is not installed".into());
    assert_eq!(told(Cluster::failing(why)).await, is(503, "workers_do_not_start"));
    assert_eq!(told(Cluster::failing(OfferError::ShuttingDown)).await, is(503, "shutting_down"));
    let gone = OfferError::ControlPlane(Unavailable("it is away".into()));
    assert_eq!(told(Cluster::failing(gone)).await, is(503, "control_plane_unavailable"));
}

#[tokio::test]
async fn whom_the_control_plane_refuses_is_told_why() {
    for (refusal, expected) in [
        (AssignRefusal::IdentityTooLong, is(403, "identity_too_long")),
        (AssignRefusal::NotAccepted, is(503, "control_plane_refused")),
        (AssignRefusal::Deleting, is(503, "tenant_being_deleted")),
        (AssignRefusal::NameMismatch, is(503, "tenant_name_mismatch")),
        (AssignRefusal::TenantLimit, is(503, "class_full")),
    ] {
        assert_eq!(told(Cluster::failing(OfferError::Refused(refusal))).await, expected);
        let free = Worker::new("free");
        let cluster = Cluster { assigned: Err(refusal), ..Cluster::offering(&free) };
        tokio::spawn(free.serve(0, |path| willing(path, StatusCode::OK)));
        assert_eq!(told(cluster).await, expected);
    }
}

#[tokio::test]
async fn whose_worker_does_not_answer_or_does_not_take_its_user_is_told_so() {
    let own = Worker::new("own");
    let nowhere = Offer { endpoint: Endpoint::Unix("/nowhere".into()), ..own.offer.clone() };
    assert_eq!(told(Cluster::with(&nowhere)).await, is(503, "worker_unreachable"));
    let cluster = Cluster::with(&own.offer);
    tokio::spawn(
        own.serve(0, |_| refusing(StatusCode::SERVICE_UNAVAILABLE, BindRefusal::StorageFailed)),
    );
    assert_eq!(told(cluster).await, is(503, "bind_failed"));
}

#[tokio::test]
async fn who_is_outrun_at_every_worker_is_told_to_try_again() {
    let free = Worker::new("free");
    let cluster = Cluster::offering(&free);
    tokio::spawn(free.serve(0, |path| {
        if path == RESERVE_PATH {
            return willing(path, StatusCode::OK);
        }
        refusing(StatusCode::CONFLICT, BindRefusal::OtherTenant)
    }));
    assert_eq!(told(cluster).await, is(503, "outrun"));
}

#[tokio::test]
async fn whose_request_no_worker_takes_is_told_to_send_it_again() {
    let own = Worker::new("own");
    let cluster = Cluster::with(&own.offer);
    tokio::spawn(own.serve(0, |path| willing(path, StatusCode::MISDIRECTED_REQUEST)));
    assert_eq!(told(cluster).await, is(503, "worker_replaced"));
}

#[tokio::test]
async fn who_waits_too_often_and_whom_nobody_has_room_for_are_told_apart() {
    let cluster = Cluster::default();
    let is_waited_for = cluster.is_waited_for.clone();
    let gateway = Arc::new(Running::start(cluster, Grants(None), limits()).await);
    let first = gateway.clone();
    let first = tokio::spawn(async move { first.told().await });
    is_waited_for.notified().await;
    assert_eq!(gateway.told().await, is(429, "too_many_waiting"));
    assert_eq!(first.await.unwrap(), is(503, "no_worker_in_time"));

    let full = Limits { waiting_bytes: 1, ..limits() };
    let gateway = Running::start(Cluster::default(), Grants(None), full).await;
    assert_eq!(gateway.told().await, is(503, "gateway_overloaded"));
}

#[tokio::test]
async fn who_gets_no_keys_is_told_why() {
    for (refusal, expected) in [
        (NoKeys::SaidByHolder.into(), is(403, "aws_claims_not_trusted")),
        (NoKeys::TokenRefused.into(), is(403, "aws_token_refused")),
        (NoKeys::TokenEnded.into(), is(403, "aws_token_expired")),
        (GrantError::unavailable("STS"), is(503, "grant_unavailable")),
    ] {
        let gateway = Running::start(Cluster::default(), Grants(Some(refusal)), limits()).await;
        assert_eq!(gateway.told().await, expected);
    }
}

#[tokio::test]
async fn whose_request_is_for_another_or_is_not_whole_is_told_so() {
    let own = Worker::new("own");
    let cluster = Cluster::with(&own.offer);
    tokio::spawn(own.serve(0, |path| willing(path, StatusCode::OK)));
    let gateway = Running::start(cluster, Grants(None), limits()).await;
    let whole = "content-length: 2\r\n\r\n{}";
    assert_eq!(gateway.told_at("evil.example", whole).await, is(403, "host_not_allowed"));
    let foreign = format!("origin: https://evil.example\r\n{whole}");
    assert_eq!(gateway.told_of(&foreign).await, is(403, "origin_not_allowed"));
    let long = format!("x-long: {}\r\n{whole}", "x".repeat(limits().header_bytes));
    assert_eq!(gateway.told_of(&long).await, is(431, "headers_too_large"));
    // a chunk that is none: the rest does not come
    let broken = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\nbroken\r\n";
    assert_eq!(gateway.told_of(broken).await, is(408, "body_incomplete"));
    let large = format!("content-length: {}\r\n\r\n", limits().body_bytes + 1);
    assert_eq!(gateway.told_of(&large).await, is(413, "body_too_large"));
}
