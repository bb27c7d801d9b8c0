//! Where a class is served: by one gateway, or by each of several, past what is in front of them. It turns a bearer into
//! clients, each of another gateway. It must not know whose bearers they are.

use crate::mcp::{self, McpClient};
use anyhow::Context;
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A class at its gateways.
#[derive(Clone)]
pub struct Served {
    urls: Vec<String>,
    host: Option<String>,
    /// Whose turn it is.
    next: Arc<AtomicUsize>,
}

impl Served {
    /// By one gateway.
    pub fn by_one(url: &str) -> Self {
        Self { urls: vec![url.to_owned()], host: None, next: Arc::default() }
    }

    /// By each of several, which clients address as this host.
    pub fn by_all(urls: Vec<String>, host: &str) -> Self {
        Self { urls, host: Some(host.to_owned()), next: Arc::default() }
    }

    /// By how many.
    pub fn gateways(&self) -> usize {
        self.urls.len()
    }

    /// A client of each gateway.
    pub fn clients(&self, bearer: &str) -> Vec<McpClient> {
        self.urls.iter().map(|url| self.client_of(url, bearer)).collect()
    }

    /// A client of the gateway whose turn it is.
    pub fn client(&self, bearer: &str) -> McpClient {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len();
        self.client_of(&self.urls[turn], bearer)
    }

    /// What calls of tools said, in order, each by another gateway than the one before it.
    pub async fn said(&self, bearer: &str, calls: &[Value]) -> anyhow::Result<Vec<String>> {
        let mut said = Vec::new();
        for call in calls {
            let tool = call["tool"].as_str().context("a tool's name")?;
            let answer = self.client(bearer).modern_call(tool, call["arguments"].clone()).await?;
            said.push(mcp::said(&answer).context(tool.to_owned())?);
        }
        Ok(said)
    }

    fn client_of(&self, url: &str, bearer: &str) -> McpClient {
        let bearer = format!("Bearer {bearer}");
        let host = self.host.as_deref().map(|host| ("host", host));
        let headers: Vec<_> = host.into_iter().chain([("authorization", &*bearer)]).collect();
        McpClient::with_headers(url, &headers)
    }
}
