//! The SDK's way to HTTP: the engine and the trust that the rest of the gateway has.
//!
//! The SDK's own client would bring a second set of trusted roots, from a machine that the gateway's image does not
//! have, and change the TLS of everything else in the program. This module must not know what is asked.

use aws_smithy_runtime_api::client::{
    http::{HttpConnector as Connector, HttpConnectorFuture, SharedHttpClient, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use std::{sync::Arc, time::Duration};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// An answer is at most this long, bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// A client that trusts the public certificate authorities. Plain http is for the addresses of credentials inside AWS
/// (Pod Identity), and for endpoints that a class names so.
pub(super) fn client(crypto: Arc<CryptoProvider>) -> Result<SharedHttpClient, rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_LIMIT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let hyper = Hyper(Client::builder(TokioExecutor::new()).build(connector));
    Ok(http_client_fn(move |_, _: &RuntimeComponents| hyper.clone().into()))
}

#[derive(Debug, Clone)]
struct Hyper(Client<HttpsConnector<HttpConnector>, SdkBody>);

impl From<Hyper> for aws_smithy_runtime_api::client::http::SharedHttpConnector {
    fn from(hyper: Hyper) -> Self {
        Self::new(hyper)
    }
}

impl Connector for Hyper {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let answer =
                client.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(ConnectorError::io)?
                .to_bytes();
            // one that is seen to be in memory is logged before the SDK looks whether it is secret
            let body = SdkBody::from_body_1_x(Full::new(body));
            let answer = http::Response::from_parts(parts, body);
            HttpResponse::try_from(answer)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
