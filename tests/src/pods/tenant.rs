//! A tenant at a worker, through the gateway's own link: bind, then requests that name tenant and epoch.

use crate::{
    http::Answer,
    mcp::{listed, modern_headers, modern_message, reading, said, tool_result},
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use patchbay_core::{
    digest::Digest,
    grant::{CatalogGrant, Grant},
    id::{Epoch, TenantUid},
    latch::Claim,
    link::{BindOutcome, EPOCH_HEADER, TENANT_HEADER, User, forward_path},
};
use patchbay_gateway::{
    bind::{self, BindError, Told},
    forward::link::{Link, LinkBody, link_uri},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One assignment of a tenant to the worker at the other end of a link.
pub struct Tenant<'a> {
    link: &'a Link,
    /// What every request names.
    pub claim: Claim,
    /// What the worker is given.
    pub grant: Grant,
    /// What the worker is told of who it is.
    pub user: Option<User>,
}

impl<'a> Tenant<'a> {
    /// A tenant that nobody has met, with its first assignment. The bearer that it is granted has its UID in
    /// it, so that whoever finds one finds whose it is.
    pub fn new(link: &'a Link) -> Self {
        let uid = uuid::Uuid::new_v4();
        let catalog = CatalogGrant {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            bearer: format!("bearer-of-{uid}").into(),
            lease: None,
        };
        let grant = Grant {
            credential: Digest::of(uid.as_bytes()),
            expires_at: None,
            catalog: Some(catalog),
            aws: None,
            allowed: None,
        };
        let claim = Claim { tenant: TenantUid::from(uid), epoch: Epoch(1) };
        Self { link, claim, grant, user: None }
    }

    /// The tenant of an object, at the worker that it was assigned.
    pub fn assigned(link: &'a Link, uid: &str, epoch: u64) -> anyhow::Result<Self> {
        let claim = Claim { tenant: TenantUid::parse(uid)?, epoch: Epoch(epoch) };
        Ok(Self { claim, ..Self::new(link) })
    }

    /// Binds the worker.
    pub async fn bind(&self) -> Result<BindOutcome, BindError> {
        let told = Told { user: self.user.clone(), sessions: None };
        bind::bind(self.link, &self.claim, &self.grant, told).await
    }

    /// Calls a tool; the raw answer.
    pub async fn raw_call(&self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        self.raw("tools/call", tool, arguments).await
    }

    /// Calls a tool; the text of whatever came of it, a failure too.
    pub async fn said(&self, tool: &str, arguments: Value) -> anyhow::Result<String> {
        said(&self.raw_call(tool, arguments).await?)
    }

    /// The names of all tools.
    pub async fn tools(&self) -> anyhow::Result<BTreeSet<String>> {
        listed(&self.raw("tools/list", "", json!({})).await?, "tools")
    }

    /// The URIs of all resources.
    pub async fn resources(&self) -> anyhow::Result<BTreeSet<String>> {
        listed(&self.raw("resources/list", "", json!({})).await?, "resources")
    }

    /// Reads a resource; the text of it, or of its refusal.
    pub async fn read(&self, uri: &str) -> anyhow::Result<String> {
        said(&self.send("resources/read", uri, &reading(uri)).await?)
    }

    async fn raw(&self, method: &str, name: &str, arguments: Value) -> anyhow::Result<Answer> {
        self.send(method, name, &modern_message(method, name, &arguments)).await
    }

    async fn send(&self, method: &str, name: &str, message: &Value) -> anyhow::Result<Answer> {
        let message = message.to_string();
        let mut request = Request::post(link_uri(&forward_path("", None))?)
            .header(TENANT_HEADER, self.claim.tenant.as_str())
            .header(EPOCH_HEADER, self.claim.epoch.0)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (header, value) in modern_headers(method, name) {
            request = request.header(header, value);
        }
        let request = request.body(LinkBody::Control(Full::new(Bytes::from(message))))?;
        let (head, body) = self.link.send(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Calls a tool; what it said.
    pub async fn call(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        tool_result(&self.raw_call(tool, arguments).await?)
    }
}
