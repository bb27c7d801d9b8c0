//! The keys of the cluster's own issuer: from its API server, as this gateway's own service account.
//!
//! It must not know tokens.

use async_trait::async_trait;
use http::Request;
use kube::Client;
use patchbay_gateway::authn::{KeySetSource, MAX_KEY_SET_BYTES};
use secrecy::SecretSlice;
use std::time::Duration;
use tokio::time::timeout;

/// Where an API server publishes its issuer's keys. Whoever asks needs the right to this path.
const PATH: &str = "/openid/v1/jwks";

/// Asks the API server.
pub(super) struct ClusterKeys {
    pub(super) client: Client,
    /// For how long.
    pub(super) limit: Duration,
}

#[async_trait]
impl KeySetSource for ClusterKeys {
    async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
        let request = Request::get(PATH).body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = timeout(self.limit, self.client.request_text(request)).await;
        let text = answer
            .map_err(|_| format!("the API server did not answer within {:?}", self.limit))?
            .map_err(|error| format!("the API server did not give {PATH}: {error}"))?;
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(format!("it is longer than {MAX_KEY_SET_BYTES} bytes"));
        }
        Ok(text.into_bytes().into())
    }
}
