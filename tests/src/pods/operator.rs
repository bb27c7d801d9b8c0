//! The operator's end of a worker's link, used by hand: the operator's own, with any certificate and any path.

use anyhow::Context as _;
use http::{Method, StatusCode};
use patchbay_core::pin::Role;
use patchbay_gateway::forward::pinned::GatewayCertificate;
use patchbay_operator::link::{Connection, Dialer, LinkCertificate};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};

use super::Authority;

/// A connection to a worker.
pub struct Operator {
    /// The operator's own.
    pub connection: Connection,
}

impl Operator {
    /// Dials a worker with a certificate of this authority and role. Whether the worker takes it shows in what is
    /// asked next.
    pub async fn dial(
        address: SocketAddr,
        authority: &Authority,
        role: Role,
    ) -> anyhow::Result<Self> {
        Self::dial_with(address, authority.certificate(role)?).await
    }

    /// The same with this certificate.
    pub async fn dial_with(
        address: SocketAddr,
        certificate: GatewayCertificate,
    ) -> anyhow::Result<Self> {
        let certificate = LinkCertificate::new(certificate.chain, certificate.key)?;
        let dialer = Dialer::new(Arc::new(Some(Arc::new(certificate)).into()));
        Ok(Self { connection: dialer.dial(address).await? })
    }

    /// Sends a request; its status and body.
    pub async fn ask(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, Value)> {
        let answer = self.connection.send(method, path).await;
        let (status, body) = answer.with_context(|| path.to_owned())?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
