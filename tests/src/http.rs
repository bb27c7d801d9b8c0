//! A small HTTP client that shows everything: statuses, headers, and bodies as they arrive.

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

type Pool = Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

/// A client with its own connections.
#[derive(Clone)]
pub struct Http(Pool);

impl Default for Http {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with no JSON: {}", self.status, self.text()))
    }

    /// The `reason` of one of the gateway's own refusals.
    pub fn reason(&self) -> Option<String> {
        Some(self.json().ok()?.pointer("/error/data/reason")?.as_str()?.to_owned())
    }
}

impl Http {
    /// Sends a request and returns its answer as soon as the headers are there.
    pub async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(self.0.request(request.body(Full::new(body.into()))?).await?)
    }

    /// Sends a request and returns its whole answer. One that began and broke off is a [`hyper::Error`].
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let response = self.open(method, url, headers, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// `GET`.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }
}

/// Reads an answer until what has come is `enough`, and returns that. One that ends or takes longer before is an error.
pub async fn read_until(
    answer: &mut Response<Incoming>,
    within: Duration,
    enough: impl Fn(&str) -> bool,
) -> anyhow::Result<String> {
    let mut came = String::new();
    let reading = async {
        while !enough(&came) {
            let frame = answer.frame().await.context("the stream has ended")??;
            came.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[], |data| data)));
        }
        anyhow::Ok(())
    };
    let read = timeout(within, reading).await;
    read.with_context(|| format!("it is held back; what came is {came:?}"))??;
    Ok(came)
}
