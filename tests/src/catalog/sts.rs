//! The registry's side of STS: assumes a user's role with the registry's own key, and keeps what it
//! got until five minutes before it ends. It must not know who asks or why.

use super::{
    sigv4::{self, Scope},
    world::{Member, World},
};
use crate::known;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::HashMap;
use tokio::sync::Mutex;

/// A set is handed out again until so long before its end.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// Temporary credentials in the catalog's own words.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Credentials {
    /// Public part.
    pub access_key_id: String,
    /// Secret part.
    pub secret_access_key: String,
    /// Session token.
    pub session_token: String,
    /// RFC 3339.
    pub expiration: Timestamp,
}

/// Assumes roles at one STS endpoint.
pub(crate) struct Sts {
    client: Client<HttpConnector, Full<Bytes>>,
    lifetime: SignedDuration,
    /// Held while a role is assumed, so that two requests of one user share one set.
    kept: Mutex<HashMap<String, Credentials>>,
}

impl Sts {
    /// Credentials live for `lifetime`; AWS allows 15 minutes to 12 hours.
    pub(crate) fn new(lifetime: SignedDuration) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            lifetime,
            kept: Mutex::default(),
        }
    }

    /// The current credentials of a user for `role`.
    pub(crate) async fn credentials(
        &self,
        world: &World,
        user: &Member,
        role: &str,
    ) -> anyhow::Result<Credentials> {
        let now = Timestamp::now();
        let mut kept = self.kept.lock().await;
        if let Some(credentials) = kept.get(&user.name).filter(|set| is_fresh(set, now)) {
            return Ok(credentials.clone());
        }
        let credentials = self.assume_role(world, &user.name, role, now).await?;
        kept.insert(user.name.clone(), credentials.clone());
        Ok(credentials)
    }

    async fn assume_role(
        &self,
        world: &World,
        user: &str,
        role: &str,
        now: Timestamp,
    ) -> anyhow::Result<Credentials> {
        let endpoint = &world.aws_endpoint;
        let (_, host) = endpoint.split_once("://").context("the endpoint has no scheme")?;
        let body = assume_role_form(user, role, self.lifetime);
        let scope = Scope { key: &world.registry_key, region: &world.region, service: "sts" };
        let signed = sigv4::sign_form_post(scope, host, &body, now);
        let request = Request::post(format!("{endpoint}/"))
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, sigv4::CONTENT_TYPE)
            .header("x-amz-date", signed.date)
            .header(header::AUTHORIZATION, signed.authorization)
            .body(Full::from(body))?;
        let response = self.client.request(request).await.context("STS cannot be reached")?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let body = std::str::from_utf8(&body)?;
        if !status.is_success() {
            bail!("STS answered {status}: {}", element(body, "Code").unwrap_or("no code"));
        }
        parse(body)
    }
}

fn is_fresh(credentials: &Credentials, now: Timestamp) -> bool {
    credentials.expiration - MARGIN > now
}

/// The shape that quilt-mcp used when it still assumed roles itself, and that the gateway's broker
/// uses: the user is the session's name, its source identity and a transitive tag.
fn assume_role_form(user: &str, role: &str, lifetime: SignedDuration) -> String {
    let lifetime = lifetime.as_secs().to_string();
    let fields = [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", user),
        ("SourceIdentity", user),
        ("DurationSeconds", &lifetime),
        ("Tags.member.1.Key", "tenant"),
        ("Tags.member.1.Value", user),
        ("TransitiveTagKeys.member.1", "tenant"),
    ];
    fields.map(|(name, value)| format!("{name}={}", percent_encode(value))).join("&")
}

fn percent_encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn parse(body: &str) -> anyhow::Result<Credentials> {
    let field =
        |name| element(body, name).with_context(|| format!("no {name} in the answer of STS"));
    let (secret, token) = (field("SecretAccessKey")?, field("SessionToken")?);
    known::hold("a secret key of AWS", secret);
    known::hold("a session token of AWS", token);
    Ok(Credentials {
        access_key_id: field("AccessKeyId")?.to_owned(),
        secret_access_key: secret.to_owned(),
        session_token: token.to_owned(),
        expiration: field("Expiration")?.parse()?,
    })
}

/// The text of the first element with this name. Enough for STS: its answers have no attributes
/// that matter, and base64 needs no unescaping.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
        <SessionToken>token==</SessionToken><SecretAccessKey>secret/+</SecretAccessKey>\
        <Expiration>2026-01-01T01:00:00.000Z</Expiration><AccessKeyId>ASIA1</AccessKeyId>\
        </Credentials></AssumeRoleResult></AssumeRoleResponse>";

    #[test]
    fn an_answer_of_sts_becomes_the_catalogs_words() {
        let credentials = serde_json::to_value(parse(ANSWER).unwrap()).unwrap();
        assert_eq!(
            credentials,
            serde_json::json!({
                "AccessKeyId": "ASIA1",
                "SecretAccessKey": "secret/+",
                "SessionToken": "token==",
                "Expiration": "2026-01-01T01:00:00Z",
            })
        );
    }

    #[test]
    fn a_set_is_kept_until_five_minutes_before_its_end() {
        let credentials = parse(ANSWER).unwrap();
        let at = |time: &str| is_fresh(&credentials, time.parse().unwrap());
        assert!(at("2026-01-01T00:54:59Z"));
        assert!(!at("2026-01-01T00:55:00Z"));
    }

    #[test]
    fn a_role_is_escaped_in_the_form() {
        let form =
            assume_role_form("alice", "arn:aws:iam::1:role/r", SignedDuration::from_hours(1));
        assert!(form.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&"));
        assert!(form.contains("&DurationSeconds=3600&"));
    }
}
