//! Several classes of one gateway as resources of their own, for clients that log in: each is told by its own URL, and takes
//! no token that was made for another.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use patchbay_tests::{
    catalog::keys::SigningKey,
    controller::{Controller, ControllerConfig, fixture_documents},
    http::{Answer, Http},
    issuer::{Issuer, claims},
    mcp::McpClient,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How clients address the gateway, where a class says nothing else.
const PUBLIC: &str = "https://mcp.example:8443";
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// A class, as its clients know it.
struct Resource {
    class: &'static str,
    /// The host that it is limited to.
    host: Option<&'static str>,
    path: &'static str,
    url: &'static str,
    /// Where its document is, for clients.
    document: &'static str,
}

const RESOURCES: [Resource; 3] = [
    Resource {
        class: "notes",
        host: None,
        path: "/notes/mcp",
        url: "https://mcp.example:8443/notes/mcp",
        document: "https://mcp.example:8443/.well-known/oauth-protected-resource/notes/mcp",
    },
    Resource {
        class: "maps",
        host: None,
        path: "/maps/mcp",
        url: "https://mcp.example:8443/maps/mcp",
        document: "https://mcp.example:8443/.well-known/oauth-protected-resource/maps/mcp",
    },
    Resource {
        class: "data",
        host: Some("data.example"),
        path: "/mcp",
        url: "https://data.example:8443/mcp",
        document: "https://data.example:8443/.well-known/oauth-protected-resource/mcp",
    },
];

impl Resource {
    /// The class, and the way in by tokens of an issuer that are meant for it.
    fn documents(&self, issuer: &Issuer) -> anyhow::Result<Vec<String>> {
        let Self { class, host, path, url, .. } = self;
        let host = host.map(|host| format!("  host: {host}\n")).unwrap_or_default();
        let mut documents = fixture_documents(class, 1, &["unused"], &host)?;
        documents[0] =
            documents[0].replace(&format!("path: /{class}\n"), &format!("path: {path}\n"));
        documents.push(
            json!({
                "apiVersion": "patchbay.dev/v1alpha1",
                "kind": "IdentityProvider",
                "metadata": { "name": format!("{class}-login") },
                "spec": { "classes": [class], "jwt": {
                    "issuer": issuer.url(), "audiences": [url],
                    "jwks": { "url": issuer.keys_url(), "caBundle": issuer.ca_pem() },
                    "authorizationServer": issuer.url(),
                } },
            })
            .to_string(),
        );
        Ok(documents)
    }

    /// What is asked for, by whatever leads clients to the gateway.
    fn asked_host(&self) -> &'static str {
        self.host.unwrap_or("mcp.example")
    }

    fn client(&self, controller: &Controller, token: &str) -> McpClient {
        let bearer = format!("Bearer {token}");
        let headers = [("host", self.asked_host()), ("authorization", &bearer)];
        McpClient::with_headers(controller.url(self.class), &headers)
    }

    /// Where a 401 sends clients.
    fn ensure_challenge(&self, refused: &Answer) -> anyhow::Result<()> {
        let challenge =
            refused.headers.get("www-authenticate").context("no challenge")?.to_str()?;
        let expected = format!("resource_metadata=\"{}\"", self.document);
        ensure!(challenge.contains(&expected), "{}: {challenge}", self.class);
        Ok(())
    }
}

/// The issuer that all classes share, and its key.
async fn start() -> anyhow::Result<(Controller, Issuer, SigningKey)> {
    let key = SigningKey::generate()?;
    let issuer = Issuer::start(&key).await?;
    let documents: anyhow::Result<Vec<_>> =
        RESOURCES.iter().map(|resource| resource.documents(&issuer)).collect();
    let config = ControllerConfig::new(documents?.concat()).args(&["--public-url", PUBLIC]);
    Ok((config.start().await?, issuer, key))
}

fn token(issuer: &Issuer, key: &SigningKey, audience: &str) -> anyhow::Result<String> {
    let mut claims = claims(issuer.url(), "alice");
    claims["aud"] = json!(audience);
    key.sign(&claims)
}

#[tokio::test]
async fn each_class_of_a_gateway_is_a_resource_that_is_told_by_its_own_url() -> anyhow::Result<()> {
    let (controller, issuer, _) = start().await?;
    let http = Http::default();
    for resource in &RESOURCES {
        let (url, host) = (controller.url(resource.class), [("host", resource.asked_host())]);
        let refused = http.send(Method::POST, url, &host, "{}").await?;
        ensure!(refused.status == StatusCode::UNAUTHORIZED, "{}", refused.status);
        resource.ensure_challenge(&refused)?;

        let gateway = url.strip_suffix(resource.path).context("another path")?;
        let at = format!("{gateway}{METADATA}{}", resource.path);
        let document = http.get(&at, &host).await?.json()?;
        ensure!(document["resource"] == resource.url, "{document}");
        ensure!(document["authorization_servers"] == json!([issuer.url()]), "{document}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_for_one_class_is_nothing_at_another_and_its_user_has_a_worker_at_each()
-> anyhow::Result<()> {
    let (controller, issuer, key) = start().await?;
    for meant in &RESOURCES {
        let token = token(&issuer, &key, meant.url)?;
        for other in RESOURCES.iter().filter(|other| other.class != meant.class) {
            let refused =
                other.client(&controller, &token).modern_call("whoami", json!({})).await?;
            let (status, reason) = (refused.status, refused.reason().unwrap_or_default());
            let is_refused = status == StatusCode::UNAUTHORIZED && reason == "wrong_audience";
            ensure!(is_refused, "{} at {}: {status} {reason}", meant.class, other.class);
            other.ensure_challenge(&refused)?;
        }
    }
    ensure!(controller.tenants().await?.is_empty(), "a worker was claimed");

    for meant in &RESOURCES {
        let client = meant.client(&controller, &token(&issuer, &key, meant.url)?);
        client.call("remember", json!({ "key": "at", "value": meant.class })).await?;
    }
    for meant in &RESOURCES {
        let client = meant.client(&controller, &token(&issuer, &key, meant.url)?);
        let kept = client.call("recall", json!({ "key": "at" })).await?;
        ensure!(kept["memory"] == meant.class, "{}: {kept}", meant.class);
    }
    let tenants = controller.tenants().await?;
    let of = |name: &str| -> BTreeSet<String> {
        tenants
            .iter()
            .filter_map(|tenant: &Value| Some(tenant[name].as_str()?.to_owned()))
            .collect()
    };
    ensure!(of("worker").len() == RESOURCES.len(), "{tenants:?}");
    ensure!(of("class") == RESOURCES.iter().map(|it| it.class.to_owned()).collect(), "{tenants:?}");
    Ok(())
}
