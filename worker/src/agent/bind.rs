//! Takes a bind: reads it within bounds, lets the state decide, stores the grant, latches, answers.
//! It must not know roles or connections; errors never quote the body, which holds secrets.

use super::{
    answer::{Body, Reason, json, refuse},
    clock::Moment,
    state::{BindPlan, Worker},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use patchbay_core::{
    chain::Chain,
    latch::Claim,
    link::{BindAccepted, BindOutcome, BindRefusal, BindRequest, MAX_BIND_BYTES, Refused},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A gateway has this long to send a bind's body.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// Answers a bind.
pub(crate) async fn bind(worker: &Arc<Worker>, request: Request<Incoming>) -> Response<Body> {
    let bind = match read(request).await {
        Ok(bind) => bind,
        Err((status, reason)) => return refuse(status, reason),
    };
    // once begun it is finished, also where the gateway goes away: what was stored must be latched
    // on
    let applying = tokio::spawn(apply(Arc::clone(worker), bind));
    match applying.await.unwrap_or(Err(BindRefusal::StorageFailed)) {
        Ok(outcome) => {
            tracing::info!(?outcome, "took a bind");
            json(StatusCode::OK, &BindAccepted { outcome })
        }
        Err(reason) => {
            tracing::info!(%reason, "refused a bind");
            json(status(reason), &Refused { reason })
        }
    }
}

async fn read(request: Request<Incoming>) -> Result<BindRequest, (StatusCode, Reason)> {
    let body = Limited::new(request.into_body(), MAX_BIND_BYTES).collect();
    let body = match timeout(BODY_LIMIT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, Reason::BindTooLong));
        }
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, Reason::InvalidBind)),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, Reason::BindTooSlow)),
    };
    // the frames' own buffers are the TLS library's; this copy, the only whole one, is wiped
    let body = Zeroizing::new(Vec::from(body));
    parse(&body).ok_or((StatusCode::BAD_REQUEST, Reason::InvalidBind))
}

fn parse(body: &[u8]) -> Option<BindRequest> {
    serde_json::from_slice(body)
        .inspect_err(|error| {
            // its text may quote a secret; its place cannot
            let (line, column) = (error.line(), error.column());
            tracing::warn!(line, column, kind = ?error.classify(), "a bind's body is not a bind");
        })
        .ok()
}

async fn apply(worker: Arc<Worker>, bind: BindRequest) -> Result<BindOutcome, BindRefusal> {
    let BindRequest { tenant, epoch, grant } = bind;
    let claim = Claim { tenant, epoch };
    // a grant is stored between the decision and the latch: one bind at a time
    let mut credentials = worker.binding.lock().await;
    let outcome = match worker.plan_bind(&claim, grant.expires_at, Moment::now())? {
        BindPlan::Keep => return Ok(BindOutcome::Kept),
        BindPlan::Replace => BindOutcome::Replaced,
        BindPlan::Latch => BindOutcome::Bound,
    };
    let (grant, stored) = match credentials.store(grant).await {
        Ok(grant) => (Some(grant), Ok(outcome)),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "a grant could not be stored");
            (None, Err(BindRefusal::StorageFailed))
        }
    };
    worker.apply_bind(&claim, grant, Moment::now())?;
    stored
}

const fn status(reason: BindRefusal) -> StatusCode {
    match reason {
        BindRefusal::OtherTenant | BindRefusal::OtherEpoch | BindRefusal::Leaving => {
            StatusCode::CONFLICT
        }
        BindRefusal::Warming | BindRefusal::StorageFailed => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        credentials::{Credentials, QuiltSession},
        lifeline::Placing,
    };
    use patchbay_core::{
        digest::Digest,
        grant::Grant,
        id::{Epoch, TenantUid},
    };

    fn request(tenant: &str) -> BindRequest {
        BindRequest {
            tenant: TenantUid::parse(tenant).unwrap(),
            epoch: Epoch(1),
            grant: Grant {
                credential: Digest::of(b"credential"),
                expires_at: None,
                catalog: None,
                aws: None,
            },
        }
    }

    #[tokio::test]
    async fn of_many_binds_at_once_exactly_one_tenant_wins() {
        let worker = Arc::new(Worker::new(Credentials::Generic));
        worker.set_ready();
        let mut binds = tokio::task::JoinSet::new();
        for tenant in 0..20 {
            let worker = Arc::clone(&worker);
            binds.spawn(async move { apply(worker, request(&format!("t{tenant}"))).await });
        }
        let outcomes = binds.join_all().await;
        let won = outcomes.iter().filter(|it| **it == Ok(BindOutcome::Bound)).count();
        let lost = outcomes.iter().filter(|it| **it == Err(BindRefusal::OtherTenant)).count();
        assert_eq!((won, lost), (1, 19));
    }

    #[tokio::test]
    async fn a_grant_that_cannot_be_stored_refuses_the_bind_and_keeps_others_out() {
        let session = QuiltSession::new("/home".into(), None, Placing::new().0);
        let worker = Arc::new(Worker::new(Credentials::Quilt(session)));
        worker.set_ready();
        assert_eq!(
            apply(Arc::clone(&worker), request("t1")).await,
            Err(BindRefusal::StorageFailed)
        );
        assert_eq!(apply(worker, request("t2")).await, Err(BindRefusal::OtherTenant));
    }

    #[test]
    fn a_refusal_that_may_pass_is_told_from_one_that_will_not() {
        assert_eq!(status(BindRefusal::Warming), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(BindRefusal::OtherTenant), StatusCode::CONFLICT);
        assert_eq!(status(BindRefusal::Leaving), StatusCode::CONFLICT);
    }
}
