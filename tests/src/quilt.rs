//! The world in which the real `quilt-mcp` is proven: a catalog, an AWS with IAM enforcement, and a
//! controller with a class of quilt workers. It turns two users into credentials and one URL.

pub mod alone;
pub mod docs_site;
pub mod exchanged;
pub mod isolation;
pub mod keys;
pub mod rolls;
pub mod stateless;
pub mod tools;
pub mod two_catalogs;

use crate::{
    catalog::{Catalog, Config, credentials::TOKEN_LIFETIME, record::Bearers, world::World},
    controller::{Controller, ControllerConfig},
    fed::fed,
    known,
    moto::{Moto, python_environment},
    repository::repository,
    strict_aws::StrictAws,
};
use anyhow::{Context, ensure};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::process::Command;

/// The class.
pub const CLASS: &str = "quilt";
/// Its path.
pub const PATH: &str = "/mcp";
/// What tokens name a gateway in tests.
pub const AUDIENCE: &str = "https://patchbay.example/mcp";

/// A handful of tool calls on a loaded machine.
const CALLS_LIMIT: Duration = Duration::from_mins(4);

/// A running world.
pub struct QuiltWorld {
    /// The catalog's double. It keeps bearers verbatim.
    pub catalog: Arc<Catalog>,
    /// The AWS.
    pub moto: Moto,
    /// What is in both.
    pub aws: World,
    audience: String,
}

/// Which era a client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Stateless where the server can.
    Modern,
    /// With a session.
    Legacy,
}

/// What an SDK client saw.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// The protocol's version that was agreed on.
    pub protocol: String,
    /// The names of the tools.
    pub tools: Vec<String>,
    /// The URIs of the resources.
    pub resources: Vec<String>,
    /// What each call gave, in order.
    pub results: Vec<CallResult>,
}

/// What one call gave.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallResult {
    /// The text of its content.
    #[serde(default)]
    pub text: String,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: bool,
    /// What the SDK raised instead of an answer.
    pub exception: Option<String>,
}

impl Report {
    /// Everything that each call said.
    pub fn said(&self) -> Vec<String> {
        self.results.iter().map(CallResult::said).collect()
    }
}

impl CallResult {
    /// Everything that it says.
    pub fn said(&self) -> String {
        format!("{}{}", self.text, self.exception.as_deref().unwrap_or_default())
    }
}

/// One call.
#[allow(clippy::needless_pass_by_value, reason = "reads as the call that it is")]
pub fn call(tool: &str, arguments: Value) -> Value {
    json!({ "tool": tool, "arguments": arguments })
}

/// One resource read.
pub fn read(uri: &str) -> Value {
    json!({ "resource": uri })
}

impl QuiltWorld {
    /// Starts catalog and AWS with alice and bob.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_for(AUDIENCE, &["alice", "bob"]).await
    }

    /// Starts them for a gateway that tokens name by `audience`, with these users; the first of them
    /// administers the catalog.
    pub async fn start_for(audience: &str, users: &[&str]) -> anyhow::Result<Self> {
        // two addresses, because quilt3 knows catalog and registry by their hosts alone
        let at = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        let config = Config { catalog: at(2), registry: at(3), ..Config::default() };
        Self::start_with(Moto::start().await?, config, audience, users).await
    }

    /// Starts catalog and AWS with alice and bob, who and whose registry reach AWS through a strict one alone.
    pub async fn start_strict() -> anyhow::Result<(Self, StrictAws)> {
        let moto = Moto::start().await?;
        let aws = StrictAws::start(moto.endpoint()).await?;
        let at = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        let config = Config { catalog: at(2), registry: at(3), ..Config::default() };
        Self::start_behind(aws, moto, config).await
    }

    /// The same at an address that pods reach, where catalog and registry have these names.
    pub async fn start_strict_at(
        address: Ipv4Addr,
        names: [String; 2],
    ) -> anyhow::Result<(Self, StrictAws)> {
        let moto = Moto::start_at(address).await?;
        let aws = StrictAws::start_at(address, moto.endpoint()).await?;
        let at = SocketAddr::from((address, 0));
        let config = Config { catalog: at, registry: at, names: names.into(), ..Config::default() };
        Self::start_behind(aws, moto, config).await
    }

    async fn start_behind(
        aws: StrictAws,
        moto: Moto,
        config: Config,
    ) -> anyhow::Result<(Self, StrictAws)> {
        let mut world = moto.set_up(&["alice", "bob"]).await?;
        aws.endpoint().clone_into(&mut world.aws_endpoint);
        Ok((Self::start_in(moto, world, config, AUDIENCE).await?, aws))
    }

    /// Starts another catalog with another AWS beside those of [`Self::start`].
    pub async fn start_beside() -> anyhow::Result<Self> {
        let at = |last| Ipv4Addr::new(127, 0, 0, last);
        let [catalog, registry] = [at(4), at(5)].map(|address| SocketAddr::from((address, 0)));
        let config = Config { catalog, registry, ..Config::default() };
        Self::start_with(Moto::start_at(at(6)).await?, config, AUDIENCE, &["alice", "bob"]).await
    }

    /// Starts them at an address that pods reach, where catalog and registry have these names.
    pub async fn start_at(
        address: Ipv4Addr,
        names: [String; 2],
        users: &[&str],
    ) -> anyhow::Result<Self> {
        let at = SocketAddr::from((address, 0));
        let config = Config { catalog: at, registry: at, names: names.into(), ..Config::default() };
        Self::start_with(Moto::start_at(address).await?, config, AUDIENCE, users).await
    }

    async fn start_with(
        moto: Moto,
        config: Config,
        audience: &str,
        users: &[&str],
    ) -> anyhow::Result<Self> {
        let world = moto.set_up(users).await?;
        Self::start_in(moto, world, config, audience).await
    }

    async fn start_in(
        moto: Moto,
        world: World,
        config: Config,
        audience: &str,
    ) -> anyhow::Result<Self> {
        let config =
            Config { gateway_audience: audience.into(), bearers: Bearers::Verbatim, ..config };
        Ok(Self {
            catalog: Arc::new(Catalog::start(config, world.clone()).await?),
            moto,
            aws: world,
            audience: audience.to_owned(),
        })
    }

    /// The documents of a class of quilt workers, and of its two ways in: the catalog's tokens, and its
    /// API keys.
    pub async fn documents(&self, warm: u32) -> anyhow::Result<Vec<String>> {
        let environment = python_environment("quilt").await?;
        let python = environment.join("bin/python");
        let endpoint = self.aws.aws_endpoint.trim_end_matches('/');
        let aws: http::Uri = endpoint.parse()?;
        let catalog = self.catalog.origins();
        let class = document(
            "WorkerClass",
            CLASS,
            &json!({
                "path": PATH,
                "image": "registry.example/quilt-mcp:0.22.0",
                "profile": "quilt",
                "command": [python],
                "env": { "AWS_ENDPOINT_URL": endpoint },
                "warm": warm,
                "credentials": { "source": "catalog", "catalog": catalog },
                "egress": { "hosts": [
                    { "host": aws.host(), "port": aws.port_u16(), "plainHttp": true },
                ] },
                "local": { "readOnlyPaths": [environment] },
            }),
        );
        let tokens = document("IdentityProvider", "quilt-tokens", &self.tokens(&[]));
        let api_keys = document(
            "IdentityProvider",
            "quilt-keys",
            &json!({
                "classes": [CLASS],
                "introspection": { "catalog": catalog },
            }),
        );
        Ok(vec![class, tokens, api_keys])
    }

    /// The same, with users' AWS keys from another source beside the catalog, for an AWS in front of this one's,
    /// and tokens whose authority is what these claims say.
    pub async fn documents_with_keys(
        &self,
        warm: u32,
        aws: &str,
        credentials: &Value,
        authority: &[&str],
    ) -> anyhow::Result<Vec<String>> {
        let mut documents = self.documents(warm).await?;
        documents[1] = document("IdentityProvider", "quilt-tokens", &self.tokens(authority));
        let uri: http::Uri = aws.parse()?;
        let mut class: Value = serde_json::from_str(&documents[0])?;
        let spec = &mut class["spec"];
        spec["env"]["AWS_ENDPOINT_URL"] = json!(aws);
        spec["egress"]["hosts"] =
            json!([{ "host": uri.host(), "port": uri.port_u16(), "plainHttp": true }]);
        for (field, value) in credentials.as_object().context("no credentials")? {
            spec["credentials"][field] = value.clone();
        }
        documents[0] = class.to_string();
        Ok(documents)
    }

    /// The provider of the catalog's tokens, whose authority is what these claims say.
    pub fn tokens(&self, authority: &[&str]) -> Value {
        let keys = self.catalog.jwks();
        json!({ "classes": [CLASS], "jwt": {
            "issuer": self.catalog.url(), "audiences": [self.audience], "jwks": keys,
            "authorityClaims": authority,
        } })
    }

    /// Starts a controller whose users' keys are of the roles that AWS has for them, as far as their tokens' claims
    /// `buckets` and `permissions` go.
    pub async fn controller_of_roles(
        &self,
        warm: u32,
        aws: &StrictAws,
        tags: &Value,
    ) -> anyhow::Result<Controller> {
        let (endpoint, authority) = (aws.endpoint(), &keys::AUTHORITY);
        let credentials = keys::of_roles(self, Some(endpoint), tags);
        let documents = self.documents_with_keys(warm, endpoint, &credentials, authority).await?;
        let key = &self.aws.registry_key;
        ControllerConfig::new(documents)
            .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
            .start()
            .await
    }

    /// A user's token, good for an hour, that says this too.
    pub fn token_saying(&self, user: &str, said: &Value) -> anyhow::Result<String> {
        let credentials = self.catalog.credentials();
        let mut claims = credentials.claims(user, Timestamp::now(), TOKEN_LIFETIME);
        let said = said.as_object().context("no claims")?.clone();
        claims.as_object_mut().context("no claims")?.extend(said);
        credentials.key().sign(&claims)
    }

    /// Starts a controller and waits for its warm workers.
    pub async fn controller(&self, warm: u32) -> anyhow::Result<Controller> {
        ControllerConfig::new(self.documents(warm).await?).start().await
    }

    /// A user's token, good for an hour.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        Ok(self.catalog.credentials().token(user)?.expose_secret().to_owned())
    }

    /// A new API key of a user.
    pub fn api_key(&self, user: &str) -> String {
        self.catalog.credentials().api_key(user).expose_secret().to_owned()
    }
}

fn document(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "patchbay.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name },
        "spec": spec,
    })
    .to_string()
}

/// Calls tools through the official Python SDK. The credential travels on standard input.
pub async fn sdk_calls(
    url: &str,
    credential: (&str, &str),
    era: Era,
    calls: &[Value],
) -> anyhow::Result<Report> {
    let environment = python_environment("quilt").await?;
    let mut program = Command::new(environment.join("bin/python"));
    program.arg(repository().join("tests/python/mcp_calls.py")).env_clear();
    let (name, value) = credential;
    known::present_in(&[credential]);
    let asked = json!({
        "url": url,
        "headers": { name: value },
        "mode": match era { Era::Modern => "auto", Era::Legacy => "legacy" },
        "calls": calls,
    });
    let output = fed(program, &asked.to_string(), CALLS_LIMIT).await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mcp_calls.py failed: {complaint}");
    known::not_in_answer("what an SDK saw", &String::from_utf8_lossy(&output.stdout))?;
    serde_json::from_slice(&output.stdout).context("mcp_calls.py reported nothing")
}
