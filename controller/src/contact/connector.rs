//! Connects to where a URL says, or to where it was told to whatever the URL says. It must not know TLS: that checks the
//! URL's name.

use anyhow::{Context, ensure};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use std::task;
use tower_service::Service;

/// Makes connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    to: Option<Uri>,
}

impl Connector {
    /// One that connects to `to`, HOST:PORT, if that is given.
    pub(super) fn new(to: Option<&str>) -> anyhow::Result<Self> {
        let mut http = HttpConnector::new();
        // TLS is made over its connections
        http.enforce_http(false);
        Ok(Self { http, to: to.map(address).transpose()? })
    }
}

fn address(to: &str) -> anyhow::Result<Uri> {
    let address: Option<Uri> = format!("http://{to}").parse().ok();
    let address = address.with_context(|| wrong(to))?;
    let is_alone = address.path() == "/" && address.query().is_none();
    ensure!(address.port_u16().is_some() && is_alone && !to.ends_with('/'), wrong(to));
    Ok(address)
}

fn wrong(to: &str) -> String {
    format!("--connect {to} is no address: write HOST:PORT")
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.http.call(self.to.clone().unwrap_or(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for right in ["gateway.patchbay.svc:443", "10.0.0.1:8443", "[fd00::1]:443"] {
            assert_eq!(address(right).unwrap().authority().unwrap().as_str(), right);
        }
        for wrong in
            ["gateway", "gateway:443/", "gateway:443/mcp", "https://gateway:443", "", ":443 x"]
        {
            assert!(Connector::new(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
