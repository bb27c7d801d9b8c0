//! Keys of providers in Secrets: read from the API server, one entry at a time, by name.
//!
//! Most gateways have no right to any Secret, and then say which one they lack. It must not know tokens.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use patchbay_core::provider::SecretEntry;
use patchbay_gateway::authn::{KeySetSource, MAX_KEY_SET_BYTES, NamedKeys};
use secrecy::SecretSlice;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How often a Secret is looked at: a watch would need the right to list all of them.
const LOOK: Duration = Duration::from_mins(1);

/// The Secrets of one namespace.
pub(super) struct SecretKeys {
    pub(super) api: Api<Secret>,
    /// How long a question may take.
    pub(super) limit: Duration,
}

impl SecretKeys {
    pub(super) fn new(client: Client, namespace: &str, limit: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), limit }
    }
}

impl NamedKeys for SecretKeys {
    fn source(&self, entry: &SecretEntry) -> Arc<dyn KeySetSource> {
        Arc::new(Entry { api: self.api.clone(), limit: self.limit, at: entry.clone() })
    }
}

struct Entry {
    api: Api<Secret>,
    limit: Duration,
    at: SecretEntry,
}

#[async_trait]
impl KeySetSource for Entry {
    async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
        let name = &self.at.name;
        let answer = timeout(self.limit, self.api.get(name)).await;
        let secret = answer
            .map_err(|_| format!("the API server did not answer within {:?}", self.limit))?
            .map_err(|error| why(name, &error))?;
        entry_of(secret, &self.at)
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK)
    }
}

fn why(name: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "this gateway may not get the Secret `{name}`: list it in the chart's \
             `gateway.providerSecrets`"
        ),
        kube::Error::Api(status) if status.code == 404 => {
            format!("there is no Secret `{name}` in this namespace: make it")
        }
        error => format!("the API server did not give the Secret `{name}`: {error}"),
    }
}

fn entry_of(mut secret: Secret, entry: &SecretEntry) -> Result<SecretSlice<u8>, String> {
    let SecretEntry { name, key } = entry;
    let value = secret.data.as_mut().and_then(|data| data.remove(key));
    let value = value.ok_or_else(|| format!("the Secret `{name}` has no entry `{key}`"))?.0;
    if value.len() > MAX_KEY_SET_BYTES {
        return Err(format!(
            "entry `{key}` of the Secret `{name}` is longer than {MAX_KEY_SET_BYTES} bytes"
        ));
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use http::StatusCode;
    use k8s_openapi::ByteString;
    use kube::core::Status;
    use parking_lot::Mutex;
    use secrecy::ExposeSecret;
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    fn entry(key: &str) -> SecretEntry {
        SecretEntry { name: "keys".into(), key: key.into() }
    }

    fn secret() -> Secret {
        let data = [("k", vec![0, 255]), ("long", vec![0; MAX_KEY_SET_BYTES + 1])];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value)));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn an_entry_is_every_byte_of_it() {
        assert_eq!(entry_of(secret(), &entry("k")).unwrap().expose_secret(), [0, 255]);
    }

    #[test]
    fn what_is_not_there_or_too_long_is_named() {
        for (key, told) in [("other", "no entry `other`"), ("long", "`long`")] {
            let why = entry_of(secret(), &entry(key)).err().unwrap();
            assert!(why.contains(told) && why.contains("`keys`"), "{why}");
        }
        assert!(entry_of(Secret::default(), &entry("k")).is_err());
    }

    #[tokio::test]
    async fn one_secret_is_asked_for_by_its_name() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = asked.clone();
        let answer = async move |request: axum::extract::Request| {
            record.lock().push(format!("{} {}", request.method(), request.uri().path()));
            let is_known = request.uri().path().ends_with("/keys");
            let forbidden = Status::failure("no", "Forbidden").with_code(403);
            if is_known {
                (StatusCode::OK, Json(serde_json::to_value(secret()).unwrap()))
            } else {
                (StatusCode::FORBIDDEN, Json(serde_json::to_value(forbidden).unwrap()))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, axum::Router::new().fallback(answer));
        let _server = AbortOnDropHandle::new(tokio::spawn(server.into_future()));
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let secrets = SecretKeys::new(client, "here", Duration::from_secs(10));
        let read = secrets.source(&entry("k")).key_set().await.unwrap();
        assert_eq!(read.expose_secret(), [0, 255]);
        let other = SecretEntry { name: "other".into(), key: "k".into() };
        let refused = secrets.source(&other).key_set().await.err().unwrap();
        assert!(refused.contains("may not get the Secret `other`"), "{refused}");
        assert_eq!(
            *asked.lock(),
            [
                "GET /api/v1/namespaces/here/secrets/keys",
                "GET /api/v1/namespaces/here/secrets/other"
            ]
        );
    }

    #[test]
    fn a_right_that_is_missing_is_told_with_where_it_is_given() {
        let refused = |code, reason: &str| {
            let status = Status::failure("no", reason).with_code(code);
            why("keys", &kube::Error::Api(status.boxed()))
        };
        assert!(refused(403, "Forbidden").contains("gateway.providerSecrets"));
        assert!(refused(404, "NotFound").contains("no Secret `keys`"));
        assert!(refused(500, "InternalError").contains("did not give"));
    }
}
