//! Carries out what is decided about the control plane's authority: reads and writes its Secret, publishes what
//! workers trust, and gives the gateways and the operator their certificates.
//!
//! Only a leader does this. Every write says what it was decided on, so of two leaders one fails and looks again.
//! Keys go into Secrets and nowhere else.

use super::{
    bundle::Bundle,
    error::KeepError,
    publish::Publisher,
    root::{Certificate, Root, Roots},
    rotation::{Step, Terms, step},
};
use crate::{
    api_error::{ApiError, failed},
    params,
    total::after,
};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::Patch};
use patchbay_core::pin::Role;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// The entry of the authority's Secret.
const AUTHORITY: &str = "authority.json";
/// The entries of a Secret of the type `kubernetes.io/tls`.
const TLS_CRT: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";
/// The annotations of the gateways' Secret: who signed what is in it, and when it is to be replaced.
const ISSUER: &str = "patchbay.dev/issuer";
const RENEW: &str = "patchbay.dev/renew-after";
/// The longest between two looks: somebody may have emptied a Secret.
const LOOK: Duration = Duration::from_mins(1);

/// The names of the objects, all of one namespace. The Secrets are there, if empty, before the operator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The namespace.
    pub namespace: String,
    /// The Secret with the roots and their keys.
    pub roots: String,
    /// The Secret with the gateways' certificate.
    pub gateway: String,
    /// The `ConfigMap` that workers mount.
    pub bundle: String,
}

/// Keeps the authority.
pub struct Keeper {
    secrets: Api<Secret>,
    publisher: Publisher,
    names: Names,
    terms: Terms,
    operator: Option<Certificate>,
}

/// What a pass comes to.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The operator's certificate, as it is now.
    pub operator: Certificate,
    /// The end of the root that signs.
    pub until: Timestamp,
    /// When to look again.
    pub look_again: Timestamp,
}

impl Keeper {
    /// Keeps the authority of these names.
    pub fn new(client: Client, names: Names, terms: Terms) -> Self {
        let secrets = Api::namespaced(client.clone(), &names.namespace);
        let publisher = Publisher::new(client, &names.namespace, &names.bundle, terms.certificate);
        Self { secrets, publisher, names, terms, operator: None }
    }

    /// Looks at everything once, and puts right what is not.
    pub async fn pass(&mut self, now: Timestamp) -> Result<Kept, KeepError> {
        let (roots, bundle, rest) = self.rotate(now).await?;
        let current = roots.current.as_ref().ok_or_else(|| self.unreadable())?;
        let for_gateway = self.renew_gateway(current, now).await?;
        let operator = match self.operator.take() {
            Some(held) if !is_due(&held.issuer, held.renew, current, now) => held,
            _ => self.issue(current, Role::Operator, now)?,
        };
        self.operator = Some(operator.clone());
        let due = bundle.due(self.terms.certificate);
        let moments = [rest, for_gateway, operator.renew, after(now, LOOK)];
        let look_again = moments.into_iter().chain(due).min().unwrap_or(now);
        Ok(Kept { operator, until: current.until, look_again })
    }

    /// Takes every step that is due. The roots, what is published, and when there is more to do.
    async fn rotate(&self, now: Timestamp) -> Result<(Roots, Bundle, Timestamp), KeepError> {
        let secret = self.secrets.get(&self.names.roots).await;
        let mut secret = secret.map_err(failed("read the Secret", &self.names.roots))?;
        let mut roots = roots_of(&secret).ok_or_else(|| self.unreadable())?;
        let mut bundle = self.publisher.publish(&roots.certificates(), now).await?;
        loop {
            let published = roots.next.as_ref().and_then(|next| bundle.since(&next.certificate));
            let next = match step(&roots, published, &self.terms, now) {
                Step::Rest { until } => return Ok((roots, bundle, until)),
                Step::Establish => {
                    Roots { current: Some(Root::make(now, self.terms.root)?), next: None }
                }
                Step::Introduce => Roots { next: Some(Root::make(now, self.terms.root)?), ..roots },
                Step::Promote => Roots { current: roots.next, next: None },
            };
            secret = self.write_roots(&secret, &next).await?;
            bundle = self.publisher.publish(&next.certificates(), now).await?;
            roots = next;
            let signs = roots.current.as_ref().map(|root| root.name.as_str());
            tracing::info!(
                signs,
                trusted = bundle.certificates().len(),
                "the authority's roots changed"
            );
        }
    }

    async fn write_roots(&self, secret: &Secret, roots: &Roots) -> Result<Secret, KeepError> {
        let text = serde_json::to_vec(&stored(roots)).map_err(|_| self.unreadable())?;
        let patch = json!({
            "metadata": { "resourceVersion": secret.metadata.resource_version },
            "data": { AUTHORITY: ByteString(text) },
        });
        Ok(self.patch(&self.names.roots, &patch).await?)
    }

    async fn patch(&self, name: &str, patch: &Value) -> Result<Secret, ApiError> {
        let patched = self.secrets.patch(name, &params::patch(), &Patch::Merge(patch)).await;
        patched.map_err(failed("write the Secret", name))
    }

    /// Gives the gateways a certificate, if theirs is due. When the one that they have then is.
    async fn renew_gateway(&self, root: &Root, now: Timestamp) -> Result<Timestamp, KeepError> {
        let name = &self.names.gateway;
        let secret = self.secrets.get(name).await.map_err(failed("read the Secret", name))?;
        let annotations = secret.metadata.annotations.as_ref();
        let says = |key: &str| annotations?.get(key).map(String::as_str);
        let data = secret.data.as_ref();
        let has =
            |key: &str| data.is_some_and(|data| data.get(key).is_some_and(|it| !it.0.is_empty()));
        let renew =
            says(RENEW).and_then(|at| at.parse().ok()).filter(|_| has(TLS_CRT) && has(TLS_KEY));
        if let Some(renew) = renew
            && !is_due(says(ISSUER).unwrap_or_default(), renew, root, now)
        {
            return Ok(renew);
        }
        let issued = self.issue(root, Role::Gateway, now)?;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let patch = json!({
            "metadata": {
                "resourceVersion": secret.metadata.resource_version,
                "annotations": { ISSUER: issued.issuer, RENEW: issued.renew.to_string() },
            },
            "data": {
                TLS_CRT: bytes(&issued.certificate),
                TLS_KEY: bytes(issued.key.expose_secret()),
            },
        });
        self.patch(name, &patch).await?;
        tracing::info!(until = %issued.until, "the gateways have a new certificate");
        Ok(issued.renew)
    }

    fn issue(&self, root: &Root, role: Role, now: Timestamp) -> Result<Certificate, KeepError> {
        Ok(root.issue(role, now, self.terms.certificate, self.terms.renewal)?)
    }

    fn unreadable(&self) -> KeepError {
        KeepError::Unreadable(self.names.roots.clone())
    }
}

/// Whether a certificate is to be replaced: its time has come, or another root signs by now.
fn is_due(issuer: &str, renew: Timestamp, root: &Root, now: Timestamp) -> bool {
    issuer != root.name || renew <= now
}

/// Roots, as they are kept. The keys are in the open in here, so it is made last and written nowhere else.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<StoredRoot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<StoredRoot>,
}

#[derive(Serialize, Deserialize)]
struct StoredRoot {
    name: String,
    certificate: String,
    key: String,
    made: Timestamp,
    until: Timestamp,
}

fn stored(roots: &Roots) -> Stored {
    let stored = |root: &Root| StoredRoot {
        name: root.name.clone(),
        certificate: root.certificate.clone(),
        key: root.key.expose_secret().to_owned(),
        made: root.made,
        until: root.until,
    };
    Stored { current: roots.current.as_ref().map(stored), next: roots.next.as_ref().map(stored) }
}

/// The roots in a Secret: none in an empty one, and nothing of one that cannot be read.
fn roots_of(secret: &Secret) -> Option<Roots> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let Some(text) = data.get(AUTHORITY).filter(|text| !text.0.is_empty()) else {
        return Some(Roots::default());
    };
    let stored: Stored = serde_json::from_slice(&text.0).ok()?;
    let root = |root: StoredRoot| Root {
        name: root.name,
        certificate: root.certificate,
        key: SecretString::from(root.key),
        made: root.made,
        until: root.until,
    };
    Some(Roots { current: stored.current.map(root), next: stored.next.map(root) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn secret(text: &[u8]) -> Secret {
        let data = BTreeMap::from([(AUTHORITY.to_owned(), ByteString(text.to_vec()))]);
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn roots_are_read_as_they_were_written() {
        let made = Root::make(at(0), Duration::from_hours(9)).unwrap();
        let roots = Roots { current: Some(made.clone()), next: None };
        let read = roots_of(&secret(&serde_json::to_vec(&stored(&roots)).unwrap())).unwrap();
        let root = read.current.unwrap();
        assert_eq!((root.name, root.made, root.until), (made.name, made.made, made.until));
        assert_eq!(root.key.expose_secret(), made.key.expose_secret());
        assert!(read.next.is_none());
    }

    #[test]
    fn an_empty_secret_has_no_roots_and_a_spoilt_one_is_not_taken_for_empty() {
        for empty in [Secret::default(), secret(b"")] {
            assert!(roots_of(&empty).unwrap().current.is_none());
        }
        for spoilt in [&b"{"[..], b"{}x", br#"{"current":{"name":"x"}}"#] {
            assert!(roots_of(&secret(spoilt)).is_none());
        }
    }
}
