//! What an operator asks on a connection, and the answers in the words of the core. Answers are bounded, and what a
//! newer worker says more is left out.

use super::LinkError;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2::SendRequest;
use jiff::Timestamp;
use patchbay_core::{
    id::TenantUid,
    link::{
        DRAIN_PATH, ENROL_PATH, RETIRE_PATH, STATUS_PATH, WHEN_IDLE, WorkerPhase, WorkerStatus,
    },
    pin::Fingerprint,
};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const MOST_BODY: usize = 64 * 1024;

/// A connection to a worker.
pub struct Connection {
    /// The key that the other end proved.
    pub fingerprint: Fingerprint,
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortOnDropHandle<()>,
}

/// What a worker said to being retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// It leaves.
    Leaving,
    /// It is a tenant's, and stays.
    Bound,
}

#[derive(Deserialize)]
struct Shown {
    token: SecretString,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    phase: WorkerPhase,
    tenant: Option<TenantUid>,
    in_flight: u64,
    last_activity: Option<Timestamp>,
}

impl Connection {
    pub(super) const fn new(
        fingerprint: Fingerprint,
        sender: SendRequest<Empty<Bytes>>,
        driver: AbortOnDropHandle<()>,
    ) -> Self {
        Self { fingerprint, sender, driver }
    }

    /// The token by which the worker shows which pod it is in.
    pub async fn token(&self) -> Result<SecretString, LinkError> {
        Ok(self.read::<Shown>(ENROL_PATH).await?.token)
    }

    /// Where the worker is in its life.
    pub async fn status(&self) -> Result<WorkerStatus, LinkError> {
        let Said { phase, tenant, in_flight, last_activity } = self.read(STATUS_PATH).await?;
        Ok(WorkerStatus { phase, tenant, in_flight, last_activity })
    }

    /// Asks it to leave if it is nobody's.
    pub async fn retire(&self) -> Result<Retired, LinkError> {
        match self.send(Method::POST, RETIRE_PATH).await?.0 {
            StatusCode::ACCEPTED => Ok(Retired::Leaving),
            StatusCode::CONFLICT => Ok(Retired::Bound),
            other => Err(LinkError::Refused(other)),
        }
    }

    /// Asks it to finish what is in flight and leave.
    pub async fn drain(&self) -> Result<(), LinkError> {
        self.accepted(DRAIN_PATH).await
    }

    /// Asks it to leave at its next idle moment.
    pub async fn drain_when_idle(&self) -> Result<(), LinkError> {
        self.accepted(&format!("{DRAIN_PATH}?{WHEN_IDLE}")).await
    }

    /// Returns when the worker has ended the connection.
    pub async fn closed(&mut self) {
        // that it broke is an end too
        let _ = (&mut self.driver).await;
    }

    async fn accepted(&self, path: &str) -> Result<(), LinkError> {
        match self.send(Method::POST, path).await?.0 {
            StatusCode::ACCEPTED => Ok(()),
            other => Err(LinkError::Refused(other)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, LinkError> {
        match self.send(Method::GET, path).await? {
            (StatusCode::OK, body) => {
                serde_json::from_slice(&body).map_err(|_| LinkError::Unreadable)
            }
            (other, _) => Err(LinkError::Refused(other)),
        }
    }

    /// Any request; its status and body.
    pub async fn send(
        &self,
        method: Method,
        path_and_query: &str,
    ) -> Result<(StatusCode, Bytes), LinkError> {
        // the name is never looked up: the connection is there
        let uri = Uri::builder().scheme("https").authority("worker.patchbay.invalid");
        let uri = uri.path_and_query(path_and_query).build().map_err(|_| LinkError::Unreadable)?;
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        let answer = async {
            let response =
                self.sender.clone().send_request(request).await.map_err(LinkError::Broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BODY).collect().await;
            Ok((status, body.map_err(|_| LinkError::Unreadable)?.to_bytes()))
        };
        timeout(ANSWER_LIMIT, answer).await.map_err(|_| LinkError::TimedOut("answer"))?
    }
}
