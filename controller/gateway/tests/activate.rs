//! What an activation makes of a cluster that changes between two of its steps.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod worker;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use parking_lot::Mutex;
use patchbay_core::{
    class::WorkerClass,
    digest::Digest,
    fixtures,
    grant::{Grant, GrantError, GrantSource},
    id::{Epoch, Incarnation, ProviderName, TenantUid},
    identity::{Authenticated, Identity, Mode},
    latch::Claim,
    link::{BIND_PATH, BindAccepted, BindOutcome, RESERVE_PATH},
    orchestrator::{
        Assignment, Offer, OfferError, Orchestrator, Placement, TenantState, Unavailable,
    },
    provider::Provisioning,
    tenant::{TenantKey, TenantName},
};
use patchbay_gateway::activate::{Activator, Request};
use std::{convert::Infallible, sync::Arc};
use worker::Worker;

/// A cluster in which another gateway is faster: while a worker is offered, the tenant gets one.
struct Faster {
    /// The one that is offered.
    offered: Offer,
    /// The one that the tenant has from then on.
    others: Placement,
    state: Mutex<TenantState>,
}

impl Faster {
    fn new(offered: &Worker, others: &Worker) -> Self {
        let claim = Claim { tenant: TenantUid::parse("tenant").unwrap(), epoch: Epoch(1) };
        Self {
            offered: offered.offer.clone(),
            others: Placement { claim, offer: others.offer.clone() },
            state: Mutex::new(TenantState::Unknown),
        }
    }
}

#[async_trait]
impl Orchestrator for Faster {
    fn lookup(&self, _: &TenantName) -> TenantState {
        self.state.lock().clone()
    }

    async fn offer(
        &self,
        _: &TenantKey,
        _: Provisioning,
        _: &[Incarnation],
    ) -> Result<Offer, OfferError> {
        *self.state.lock() = TenantState::Assigned(self.others.clone());
        Ok(self.offered.clone())
    }

    /// As a cluster does: with the next epoch, the tenant is moved.
    async fn assign(
        &self,
        _: &TenantKey,
        _: Provisioning,
        offer: &Offer,
        epoch: Epoch,
    ) -> Result<Assignment, Unavailable> {
        let claim = Claim { epoch, ..self.others.claim.clone() };
        let placement = Placement { claim, offer: offer.clone() };
        *self.state.lock() = TenantState::Assigned(placement.clone());
        Ok(Assignment::Won(placement))
    }

    fn report_gone(&self, _: &Incarnation) {}

    async fn gone(&self, _: &Incarnation) {
        std::future::pending::<()>().await;
    }
}

struct Grants;

#[async_trait]
impl GrantSource for Grants {
    async fn prepare(&self, _: &WorkerClass, user: &Authenticated) -> Result<Grant, GrantError> {
        Ok(Grant { credential: user.digest, expires_at: None, catalog: None, aws: None })
    }
}

/// Keeps itself for whoever asks, and takes every bind.
async fn serve(worker: Worker) {
    loop {
        let stream = worker.accept().await;
        let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
            let (status, body) = match request.uri().path() {
                RESERVE_PATH => (StatusCode::NO_CONTENT, Vec::new()),
                BIND_PATH => {
                    let accepted = BindAccepted { outcome: BindOutcome::Bound };
                    (StatusCode::OK, serde_json::to_vec(&accepted).unwrap())
                }
                _ => (StatusCode::NOT_FOUND, Vec::new()),
            };
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        // a link that is dropped ends it
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    }
}

#[tokio::test]
async fn a_worker_that_the_tenant_has_by_now_is_not_replaced_by_the_one_that_was_offered() {
    let (free, others) = (Worker::new("free"), Worker::new("others"));
    let cluster = Arc::new(Faster::new(&free, &others));
    let activator = Activator::new(cluster.clone(), Arc::new(Grants), Arc::new(worker::context()));
    tokio::spawn(serve(free));
    tokio::spawn(serve(others));

    let class = fixtures::class("tools", "/mcp");
    let user = Authenticated {
        identity: Identity {
            provider: ProviderName::parse("keys").unwrap(),
            issuer: "keys".into(),
            subject: "alice".into(),
            authority: patchbay_core::tenant::Authority::unrestricted(),
            mode: Mode::ApiKey,
            expires_at: None,
        },
        credential: "alice-1234".to_owned().into(),
        digest: Digest::of(b"alice"),
    };
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    let request = Request {
        tenant: &tenant,
        name: &name,
        class: &class,
        user: &user,
        provisioning: Provisioning::OnFirstContact,
        now: Timestamp::now(),
    };
    let bound = activator.activate(&request).await.unwrap();
    assert_eq!(bound.placement, cluster.others);
    assert_eq!(cluster.lookup(&name), TenantState::Assigned(cluster.others.clone()));
}
