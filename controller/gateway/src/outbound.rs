//! Requests of the gateway's own: key sets, questions to a catalog, and tokens. Https only, bounded in time and size.
//!
//! What comes back may be a secret: it is put together in memory that is wiped, though what TLS and HTTP keep of it in buffers
//! of theirs is not. This module must not know what is asked or why.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{Timestamp, fmt::rfc2822};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long a question may take, from its name to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer is at most this long, bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Who wants to be left alone for longer is taken at its word for so long, seconds.
const LONGEST_RETRY: u32 = 60;

/// Asks one service.
#[derive(Debug, Clone)]
pub struct Outbound(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The trusted certificates are not usable.
    #[error("the trusted certificates are not usable")]
    Trust(#[source] rustls::Error),
    /// The request could not be made.
    #[error("the request is not valid")]
    Request(#[source] http::Error),
    /// The service cannot be reached.
    #[error("the service cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// It did not answer in time.
    #[error("the service did not answer within {LIMIT:?}")]
    TimedOut,
    /// It answered too much, or broke off.
    #[error("the service's answer is not complete, or longer than {MAX_ANSWER_BYTES} bytes")]
    Answer,
}

impl Outbound {
    /// A client that trusts the public certificate authorities and `ca_bundle` (PEM).
    pub fn new(
        crypto: Arc<CryptoProvider>,
        ca_bundle: Option<&str>,
    ) -> Result<Self, OutboundError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(ca_bundle.unwrap_or_default().as_bytes())
        {
            let certificate = certificate.map_err(|_| {
                OutboundError::Trust(rustls::Error::General("a CA bundle is not PEM".into()))
            })?;
            roots.add(certificate).map_err(OutboundError::Trust)?;
        }
        let tls = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(OutboundError::Trust)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a request and returns the whole answer.
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let (head, body) = self.answer(request).await?.into_parts();
        Ok((head.status, body))
    }

    /// The same, with the answer's headers.
    pub async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, OutboundError> {
        let answer = async {
            let response = self.0.request(request).await.map_err(OutboundError::Unreachable)?;
            let (head, body) = response.into_parts();
            let body = whole(body).await.ok_or(OutboundError::Answer)?;
            Ok(Response::from_parts(head, Bytes::from_owner(body)))
        };
        timeout(LIMIT, answer).await.map_err(|_| OutboundError::TimedOut)?
    }
}

/// A body, unless it breaks off or is too long.
async fn whole(body: impl Body<Data = Bytes>) -> Option<Zeroizing<Vec<u8>>> {
    let (mut body, mut parts, mut length) = (pin!(body), Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(part) = frame.ok()?.into_data() else { continue };
        length += part.len();
        if length > MAX_ANSWER_BYTES {
            return None;
        }
        parts.push(part);
    }
    // what grows is copied, and the copies are not wiped
    let mut whole = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        whole.extend_from_slice(&part);
    }
    Some(whole)
}

/// When whoever gave no proper answer wants to be asked again, seconds: at once never, and soon enough (RFC 9110, 10.2.3:
/// a number of seconds, or a date).
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u32> {
    let said = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match said.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => rfc2822::parse(said).ok()?.timestamp().duration_since(now).as_secs(),
    };
    u32::try_from(seconds.clamp(1, i64::from(LONGEST_RETRY))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::convert::Infallible;

    #[tokio::test]
    async fn an_answer_is_put_together_in_order_and_is_not_too_long() {
        let of = async |parts: &[&[u8]]| {
            let parts: Vec<_> = parts.iter().map(|it| Bytes::copy_from_slice(it)).collect();
            let frames = parts.into_iter().map(|part| Ok::<_, Infallible>(Frame::data(part)));
            whole(StreamBody::new(stream::iter(frames))).await.map(|whole| whole.to_vec())
        };
        assert_eq!(of(&[b"one ", b"", b"two"]).await.unwrap(), b"one two");
        assert_eq!(of(&[]).await.unwrap(), b"");
        let half = vec![b' '; MAX_ANSWER_BYTES / 2];
        let half = half.as_slice();
        assert_eq!(of(&[half, half]).await.map(|it| it.len()), Some(MAX_ANSWER_BYTES));
        assert!(of(&[half, half, b" "]).await.is_none());
    }

    #[test]
    fn whoever_is_busy_says_in_seconds_or_by_a_date_when_to_ask_again_and_is_bounded() {
        let now = "2026-11-27T08:00:00Z".parse().unwrap();
        let said = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]), now)
        };
        assert_eq!(said("7"), Some(7));
        assert_eq!(said("Fri, 27 Nov 2026 08:00:20 GMT"), Some(20));
        for (value, bounded) in
            [("0", 1), ("-3", 1), ("86400", 60), ("Thu, 26 Nov 2026 08:00:00 GMT", 1)]
        {
            assert_eq!(said(value), Some(bounded), "{value}");
        }
        for nothing in ["", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(said(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
