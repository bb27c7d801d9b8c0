//! The gateway's way to the token endpoints that classes name, as the client that they say. It must not know what an answer
//! means.

use crate::form;
use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use patchbay_broker::{Answered, TokenEndpoint};
use patchbay_core::{
    chain::Chain,
    class::{ExchangeClient, TokenExchange, WorkerClass},
    provider::SecretEntry,
};
use patchbay_gateway::{
    authn::NamedKeys,
    outbound::{Outbound, retry_after},
};
use rustls::crypto::CryptoProvider;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Token endpoints over https.
pub(crate) struct TokenEndpoints {
    pub(crate) crypto: Arc<CryptoProvider>,
    /// Where secrets of clients are; none = nowhere.
    pub(crate) secrets: Option<Arc<dyn NamedKeys>>,
}

#[async_trait]
impl TokenEndpoint for TokenEndpoints {
    async fn post(
        &self,
        exchange: &TokenExchange,
        ca_bundle: Option<&str>,
        fields: &[(&str, SecretString)],
    ) -> Result<Answered, String> {
        let client = exchange.client.as_ref();
        let secret = match client.and_then(|client| client.secret.as_ref()) {
            Some(entry) => Some(self.secret(entry).await?),
            None => None,
        };
        let request = request(&exchange.token_endpoint, client, secret.as_ref(), fields)
            .map_err(|error| error.to_string())?;
        let outbound = Outbound::new(self.crypto.clone(), ca_bundle);
        let outbound = outbound.map_err(|error| Chain(&error).to_string())?;
        let answered = outbound.answer(request).await;
        let (head, body) = answered.map_err(|error| Chain(&error).to_string())?.into_parts();
        Ok(Answered {
            status: head.status,
            retry_after: retry_after(&head.headers, Timestamp::now()),
            body: body.to_vec().into(),
        })
    }
}

impl TokenEndpoints {
    /// Whether the secret of a class's client can be read now.
    pub(crate) async fn check(&self, class: &WorkerClass) -> anyhow::Result<()> {
        let exchange = class.credentials.catalog().and_then(|catalog| catalog.exchange.as_deref());
        let client = exchange.and_then(|exchange| exchange.client.as_ref());
        let Some(entry) = client.and_then(|client| client.secret.as_ref()) else { return Ok(()) };
        let read = self.secret(entry).await.map_err(anyhow::Error::msg);
        read.map(drop).with_context(|| {
            format!(
                "WorkerClass {}: spec.credentials.catalog.exchange.client.secretRef",
                class.name
            )
        })
    }

    /// It is read for every exchange, so that a new one needs no restart.
    async fn secret(&self, entry: &SecretEntry) -> Result<SecretString, String> {
        let Some(secrets) = &self.secrets else {
            return Err(format!(
                "the client's secret {entry} is nowhere: say where (--provider-secrets)"
            ));
        };
        let bytes = secrets.source(entry).key_set().await?;
        let text = std::str::from_utf8(bytes.expose_secret());
        let text = text.map_err(|_| format!("the client's secret {entry} is no text"))?;
        // editors end a file with a line end, and `kubectl create secret --from-file` keeps it
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(text.strip_suffix('\r').unwrap_or(text).into())
    }
}

/// The request: a client with a secret shows it by Basic (RFC 6749, 2.3.1), one without only says who it is.
fn request(
    url: &str,
    client: Option<&ExchangeClient>,
    secret: Option<&SecretString>,
    fields: &[(&str, SecretString)],
) -> http::Result<Request<Full<Bytes>>> {
    let mut shown: Vec<_> =
        fields.iter().map(|(name, value)| (*name, value.expose_secret())).collect();
    let mut request = Request::post(url)
        .header(header::CONTENT_TYPE, form::MEDIA_TYPE)
        .header(header::ACCEPT, "application/json");
    match (client, secret) {
        (Some(client), Some(secret)) => {
            request = request.header(header::AUTHORIZATION, basic(&client.id, secret)?);
        }
        (Some(client), None) => shown.push(("client_id", &client.id)),
        (None, _) => {}
    }
    let form = form::encode(shown);
    request.body(Full::new(Bytes::from_owner(form)))
}

fn basic(id: &str, secret: &SecretString) -> http::Result<HeaderValue> {
    let (id, secret) = (form::value(id), form::value(secret.expose_secret()));
    let pair = Zeroizing::new(format!("{}:{}", *id, *secret));
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let mut value = HeaderValue::try_from(text.as_str())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_files::KeyFiles;
    use http_body_util::BodyExt as _;

    fn client() -> ExchangeClient {
        ExchangeClient { id: "patch bay".into(), secret: None }
    }

    #[tokio::test]
    async fn a_client_shows_its_secret_by_basic_and_nowhere_else() {
        let fields = [("subject_token", SecretString::from("t/1"))];
        let secret = SecretString::from("p:w");
        let asked =
            request("https://l.example/t", Some(&client()), Some(&secret), &fields).unwrap();
        let shown = asked.headers()[header::AUTHORIZATION].clone();
        assert!(shown.is_sensitive());
        assert_eq!(shown, format!("Basic {}", BASE64.encode(b"patch%20bay:p%3Aw")));
        let body = asked.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&*body, b"subject_token=t%2F1");
    }

    #[tokio::test]
    async fn a_public_client_says_who_it_is_and_nobody_says_nothing() {
        let fields = [("audience", SecretString::from("c"))];
        for (client, form) in
            [(Some(client()), "audience=c&client_id=patch%20bay"), (None, "audience=c")]
        {
            let asked = request("https://l.example/t", client.as_ref(), None, &fields).unwrap();
            assert!(!asked.headers().contains_key(header::AUTHORIZATION));
            assert_eq!(asked.headers()[header::CONTENT_TYPE], form::MEDIA_TYPE);
            let body = asked.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&*body, form.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_secret_is_read_whenever_it_is_needed_without_its_final_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("exchange");
        std::fs::create_dir(&at).unwrap();
        let endpoints = TokenEndpoints {
            crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            secrets: Some(Arc::new(KeyFiles(directory.path().to_owned()))),
        };
        let entry = SecretEntry { name: "exchange".into(), key: "secret".into() };
        for (written, read) in [("one\n", "one"), ("two\r\n", "two"), (" three", " three")] {
            std::fs::write(at.join("secret"), written).unwrap();
            let secret = endpoints.secret(&entry).await.unwrap();
            assert_eq!(secret.expose_secret(), read);
        }
        let nowhere = TokenEndpoints { secrets: None, ..endpoints };
        let why = nowhere.secret(&entry).await.unwrap_err();
        assert!(why.contains("--provider-secrets"), "{why}");
    }
}
