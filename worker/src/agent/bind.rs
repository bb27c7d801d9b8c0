//! Takes a bind: lets the state decide, stores the grant, latches, has the MCP server started where that is due,
//! answers. It must not know roles or connections.

use super::{
    answer::{Body, json},
    clock::Moment,
    control_body,
    starting::Starter,
    state::{BindPlan, Worker},
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use patchbay_core::{
    chain::Chain,
    latch::Claim,
    link::{BindAccepted, BindOutcome, BindRefusal, BindRequest, MAX_BIND_BYTES, Refused},
    template::Values,
};
use std::sync::Arc;

/// Answers a bind.
pub(crate) async fn bind(
    worker: &Arc<Worker>,
    starter: Option<&Arc<Starter>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let bind = match control_body::read(request, MAX_BIND_BYTES).await {
        Ok(bind) => bind,
        Err(refusal) => return refusal,
    };
    // once begun it is finished, also where the gateway goes away: what was stored must be latched
    // on
    let applying = tokio::spawn(apply(Arc::clone(worker), starter.cloned(), bind));
    match applying.await.unwrap_or(Err(BindRefusal::StorageFailed)) {
        Ok(outcome) => {
            tracing::info!(?outcome, "took a bind");
            json(StatusCode::OK, &BindAccepted { outcome })
        }
        Err(reason) => {
            tracing::info!(%reason, "refused a bind");
            refused(reason)
        }
    }
}

async fn apply(
    worker: Arc<Worker>,
    starter: Option<Arc<Starter>>,
    bind: BindRequest,
) -> Result<BindOutcome, BindRefusal> {
    let BindRequest { tenant, epoch, grant, user, sessions } = bind;
    let claim = Claim { tenant, epoch };
    // whom it is not for need not wait for a server that starts for somebody else
    worker.plan_bind(&claim, &grant, Moment::now())?;
    // a grant is stored between the decision and the latch: one bind at a time
    let mut credentials = worker.binding.lock().await;
    let plan = worker.plan_bind(&claim, &grant, Moment::now())?;
    // newer ones may be there although the grant is as good as the present one
    if let Some(sessions) = sessions {
        worker.set_session_keys(sessions);
    }
    let outcome = match plan {
        BindPlan::Keep => return Ok(BindOutcome::Kept),
        BindPlan::Replace => BindOutcome::Replaced,
        BindPlan::Latch => BindOutcome::Bound,
    };
    let keys_end = grant.aws.as_ref().map(|keys| keys.expires_at);
    let values = Values { aws: grant.aws.as_ref(), user: user.as_ref() };
    let variables = starter.as_ref().map(|starter| starter.variables(values)).transpose();
    let stored = match variables {
        Ok(variables) => match credentials.store(grant, user.as_ref()).await {
            Ok(grant) => Ok((grant, variables)),
            Err(error) => Err(Chain(&error).to_string()),
        },
        Err(error) => Err(Chain(&error).to_string()),
    };
    let (grant, variables) = match stored {
        Ok((grant, variables)) => (Some(grant), Ok(variables)),
        Err(error) => {
            tracing::error!(error, "a grant could not be stored");
            (None, Err(BindRefusal::StorageFailed))
        }
    };
    worker.apply_bind(&claim, grant, Moment::now())?;
    if let (Some(starter), Some(variables)) = (starter, variables?) {
        starter.start(&worker, &claim, variables, keys_end).await?;
    }
    Ok(outcome)
}

/// The answer to a control request that the state does not allow.
pub(crate) fn refused(reason: BindRefusal) -> Response<Body> {
    json(status(reason), &Refused { reason })
}

const fn status(reason: BindRefusal) -> StatusCode {
    match reason {
        BindRefusal::OtherTenant
        | BindRefusal::OtherEpoch
        | BindRefusal::Reserved
        | BindRefusal::Leaving => StatusCode::CONFLICT,
        BindRefusal::Warming | BindRefusal::StorageFailed | BindRefusal::ServerFailed => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{credentials::Credentials, lifeline::Orders};
    use patchbay_core::{
        boot::RelayBoot,
        class::Profile,
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
                allowed: None,
            },
            user: None,
            sessions: None,
        }
    }

    #[tokio::test]
    async fn of_many_binds_at_once_exactly_one_tenant_wins() {
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        worker.set_ready();
        let mut binds = tokio::task::JoinSet::new();
        for tenant in 0..20 {
            let worker = Arc::clone(&worker);
            binds.spawn(async move { apply(worker, None, request(&format!("t{tenant}"))).await });
        }
        let outcomes = binds.join_all().await;
        let won = outcomes.iter().filter(|it| **it == Ok(BindOutcome::Bound)).count();
        let lost = outcomes.iter().filter(|it| **it == Err(BindRefusal::OtherTenant)).count();
        assert_eq!((won, lost), (1, 19));
    }

    #[tokio::test]
    async fn a_grant_that_cannot_be_stored_refuses_the_bind_and_keeps_others_out() {
        let (home, relay) = ("/home".into(), RelayBoot::default());
        let credentials = Credentials::new(home, Profile::Quilt, &relay, &[], Orders::new().0);
        let worker = Arc::new(Worker::new(credentials));
        worker.set_ready();
        assert_eq!(
            apply(Arc::clone(&worker), None, request("t1")).await,
            Err(BindRefusal::StorageFailed)
        );
        assert_eq!(apply(worker, None, request("t2")).await, Err(BindRefusal::OtherTenant));
    }

    #[test]
    fn a_refusal_that_may_pass_is_told_from_one_that_will_not() {
        assert_eq!(status(BindRefusal::Warming), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(BindRefusal::OtherTenant), StatusCode::CONFLICT);
        assert_eq!(status(BindRefusal::Leaving), StatusCode::CONFLICT);
    }
}
