//! Keeps the root keys of sessions in a Secret that the gateways mount: the first one, and the next one a day before it
//! seals. When that is, is [`patchbay_core::session`]'s decision; only a leader carries it out.
//!
//! What cannot be read is never overwritten: sessions may be sealed with it. It must not know sessions.

use crate::{
    api_error::{ApiError, failed},
    params,
};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::Patch};
use patchbay_core::{
    digest::NoRandomness,
    session::{MalformedRoots, SessionRoots},
};
use serde_json::json;

/// The entry of the Secret.
pub const ENTRY: &str = "session-keys.json";

/// Why the root keys cannot be kept. Nothing of a key is in any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server did not do what it was asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is in the Secret is none of ours.
    #[error("the entry `{ENTRY}` of the Secret `{name}` cannot be read")]
    Unreadable {
        /// The Secret.
        name: String,
        /// What to do.
        #[source]
        source: MalformedRoots,
    },
    /// No key.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Keeps them.
#[derive(Clone)]
pub struct SessionRootKeeper {
    secrets: Api<Secret>,
    name: String,
}

impl SessionRootKeeper {
    /// In the Secret of this name, which is there, if empty.
    pub fn new(client: Client, namespace: &str, name: String) -> Self {
        Self { secrets: Api::namespaced(client, namespace), name }
    }

    /// Looks once, and puts right what is not.
    pub async fn pass(&self, now: Timestamp) -> Result<(), KeepError> {
        let secret =
            self.secrets.get(&self.name).await.map_err(failed("read the Secret", &self.name))?;
        let next = match self.roots_of(&secret)? {
            None => Some(SessionRoots::generate(now)?),
            Some(roots) => roots.next(now)?,
        };
        if let Some(next) = &next {
            let patch = json!({
                // of two leaders one fails, and looks again
                "metadata": { "resourceVersion": secret.metadata.resource_version },
                "data": { ENTRY: ByteString(next.to_text().to_vec()) },
            });
            let (params, patch) = (params::patch(), Patch::Merge(&patch));
            let patched = self.secrets.patch(&self.name, &params, &patch).await;
            patched.map_err(failed("write the Secret", &self.name))?;
            tracing::info!(secret = self.name, "there is another root key of sessions");
        }
        Ok(())
    }

    /// None where the Secret is empty.
    fn roots_of(&self, secret: &Secret) -> Result<Option<SessionRoots>, KeepError> {
        let text = secret.data.as_ref().and_then(|data| data.get(ENTRY));
        let Some(text) = text.filter(|text| !text.0.is_empty()) else { return Ok(None) };
        let read = SessionRoots::parse(&text.0);
        read.map(Some).map_err(|source| KeepError::Unreadable { name: self.name.clone(), source })
    }
}
