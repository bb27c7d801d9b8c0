//! A strict AWS in front of moto, which checks signatures and what roles allow, and takes what AWS would not: session
//! policies that it keeps and never asks, keys that have ended, and whatever a session is named.
//!
//! This one records every session, refuses what STS would, ends keys, and lets a session's policy decide before the role
//! does, by an evaluator that shares nothing with Patchbay (`iam-rs`). It records each call with the session whose key
//! signed it, has moto answer a query with who asked it, takes tokens of the OIDC providers that it is told of, for
//! roles that trust them, and lets STS be unwell. It must not know who asks or why.

mod asked;
mod fault;
mod queries;
mod session;
mod web_identity;

pub use fault::StsFault;
pub use session::Session;

use crate::{
    catalog::{keys::SigningKey, sts::Sts, world::World},
    known,
};
use anyhow::{Context, ensure};
use asked::{Form, asked, form};
use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use session::{is_allowed, session_of};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};
use tokio::net::TcpListener;
use web_identity::{NotTrusted, Trusted};

/// No object of the suites comes near it.
const MAX_BODY: usize = 16 << 20;

/// A running front; it ends with the runtime.
pub struct StrictAws {
    endpoint: String,
    state: Arc<Front>,
}

/// A call that a session's key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCall {
    /// The session's role.
    pub role: String,
    /// What was asked for, as IAM calls it: `athena:StartQueryExecution`.
    pub action: String,
    /// Whether the session's policy let it pass to where the role decides.
    pub passed: bool,
}

struct Front {
    moto: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// By the id of the session's key.
    sessions: Mutex<HashMap<String, Session>>,
    /// In the order in which they began.
    begun: Mutex<Vec<Session>>,
    refused: Mutex<Vec<String>>,
    calls: Mutex<Vec<AwsCall>>,
    /// Held from saying what a query gives until it is started: moto gives it to the next one.
    starting: tokio::sync::Mutex<()>,
    /// In the place of what was asked for.
    lifetime: Mutex<Option<SignedDuration>>,
    faults: fault::Faults,
    trusted: Trusted,
    /// Who assumes roles at moto for those who show a token, or a key of their own.
    world: Mutex<Option<World>>,
    /// The key that its user has for good, and the role that stands for what they may do.
    owner: Mutex<Option<(String, String)>>,
}

impl StrictAws {
    /// In front of the moto at `endpoint`, on its usual address.
    pub async fn start(endpoint: &str) -> anyhow::Result<Self> {
        Self::start_at(crate::moto::ADDRESS, endpoint).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(address: Ipv4Addr, endpoint: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Front {
            moto: endpoint.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).set_host(false).build_http(),
            sessions: Mutex::default(),
            begun: Mutex::default(),
            refused: Mutex::default(),
            calls: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            lifetime: Mutex::default(),
            faults: fault::Faults::default(),
            trusted: Trusted::default(),
            world: Mutex::default(),
            owner: Mutex::default(),
        });
        serve(listener, state.clone());
        Ok(Self { endpoint: format!("http://{address}"), state })
    }

    /// Listens here as well.
    pub fn listen_on(&self, listener: std::net::TcpListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        serve(TcpListener::from_std(listener)?, self.state.clone());
        Ok(())
    }

    /// Where it listens, without a final slash.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The sessions that have begun.
    pub fn sessions(&self) -> Vec<Session> {
        self.state.begun.lock().clone()
    }

    /// Tells IAM of an issuer whose tokens name this audience, and lets the roles of all users trust it.
    pub fn trust(&self, world: &World, issuer: &str, audience: &str, key: &SigningKey) {
        self.state.trusted.add(issuer, audience, key);
        for role in world.users.iter().filter_map(|user| user.role_arn.as_ref()) {
            self.state.trusted.let_assume(role, issuer, audience);
        }
        *self.state.world.lock() = Some(world.clone());
    }

    /// From now on the world's own key is a user's who may do what this one's role may.
    pub fn own(&self, world: &World, user: &str) -> anyhow::Result<()> {
        let member = world.users.iter().find(|it| it.name == user).context("no such user")?;
        let role = member.role_arn.clone().context("they have no role")?;
        *self.state.owner.lock() = Some((world.registry_key.access_key_id.clone(), role));
        *self.state.world.lock() = Some(world.clone());
        Ok(())
    }

    /// Keys of a user's role, which somebody else than Patchbay assumes, as tokens carry them. Every call gives others.
    pub async fn keys_of(&self, world: &World, user: &str) -> anyhow::Result<Value> {
        let world = World { aws_endpoint: self.endpoint.clone(), ..world.clone() };
        let member = world.users.iter().find(|it| it.name == user).context("no such user")?;
        let role = member.role_arn.as_deref().context("they have no role")?;
        let sts = Sts::new(SignedDuration::from_hours(1));
        let keys = sts.credentials(&world, member, role).await?;
        Ok(json!({
            "access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key,
            "session_token": keys.session_token, "expiration": keys.expiration, "region": world.region,
        }))
    }

    /// What sessions' policies, and keys that had ended, were refused.
    pub fn refused(&self) -> Vec<String> {
        self.state.refused.lock().clone()
    }

    /// What sessions' keys signed, in order. Calls with keys that had ended are none.
    pub fn calls(&self) -> Vec<AwsCall> {
        self.state.calls.lock().clone()
    }

    /// Keys that are asked for from now on live this long, which AWS itself does not do below 15 minutes.
    pub fn keys_live_for(&self, lifetime: SignedDuration) {
        *self.state.lifetime.lock() = Some(lifetime);
    }

    /// STS does this in the place of its work, or works again.
    pub fn sts_does(&self, fault: Option<StsFault>) {
        self.state.faults.set(fault);
    }

    /// How often STS was asked for keys, tries that came to nothing included.
    pub fn asked_sts(&self) -> usize {
        self.state.faults.asked()
    }
}

fn serve(listener: TcpListener, front: Arc<Front>) {
    let app = Router::new().fallback(answer).with_state(front);
    tokio::spawn(axum::serve(listener, app).into_future());
}

async fn answer(State(front): State<Arc<Front>>, request: Request<Body>) -> Response {
    match front.respond(request).await {
        Ok(response) => response,
        Err(error) => refusal(StatusCode::BAD_GATEWAY, "InternalFailure", &error.to_string()),
    }
}

impl Front {
    async fn respond(&self, request: Request<Body>) -> anyhow::Result<Response> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .to_bytes();
        let Some((key, service)) = credential(&parts.headers) else {
            return match self.faults.instead().await {
                Some(answer) => Ok(answer),
                None => self.exchange(&form(&body)?).await,
            };
        };
        let session = self.sessions.lock().get(&key).cloned();
        if let Some(session) = &session {
            if session.expires_at <= Timestamp::now() {
                self.refused.lock().push("expired".into());
                return Ok(refusal(StatusCode::BAD_REQUEST, "ExpiredToken", "the keys have ended"));
            }
            let (action, resource) = asked(&service, &parts, &body)?;
            let passed = is_allowed(session, &action, &resource)?;
            let role = session.role.clone();
            self.calls.lock().push(AwsCall { role, action: action.clone(), passed });
            if !passed {
                self.refused.lock().push(format!("{action} {resource}"));
                return Ok(match service.as_str() {
                    "athena" | "glue" => json_denial("by the session policy"),
                    _ => refusal(StatusCode::FORBIDDEN, "AccessDenied", "by the session policy"),
                });
            }
            if action == "athena:StartQueryExecution" {
                return self.start_query(&session.role, parts, body).await;
            }
        }
        if service == "sts"
            && session.is_none()
            && let Some(answer) = self.faults.instead().await
        {
            return Ok(answer);
        }
        let form = (service == "sts").then(|| form(&body)).transpose()?;
        if let Some(form) = &form
            && form.get("Action").is_some_and(|action| action == "GetSessionToken")
        {
            return self.session_token(&key, form).await;
        }
        let assumed = match form {
            Some(form) if form.get("Action").is_some_and(|action| action == "AssumeRole") => {
                match session_of(&form) {
                    Ok(session) => Some(session),
                    Err(error) => {
                        let why = error.to_string();
                        return Ok(refusal(StatusCode::BAD_REQUEST, "ValidationError", &why));
                    }
                }
            }
            _ => None,
        };
        let (status, headers, text) = self.forward(parts, body).await?;
        match assumed {
            Some(session) if status.is_success() => {
                let text = self.begin(session, std::str::from_utf8(&text)?)?;
                Ok((status, [(header::CONTENT_TYPE, "text/xml")], text).into_response())
            }
            _ => Ok((status, headers, text).into_response()),
        }
    }

    /// Starts a query, once moto knows what it gives.
    async fn start_query(&self, role: &str, parts: Parts, body: Bytes) -> anyhow::Result<Response> {
        let asked: Value = serde_json::from_slice(&body)?;
        let query = asked["QueryString"].as_str().context("no query")?;
        let url: Uri = format!("{}{}", self.moto, queries::RESULTS_PATH).parse()?;
        let host = url.authority().context("no host")?.to_string();
        let told = Request::post(url)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(queries::results(query, role).to_string()))?;
        let _starting = self.starting.lock().await;
        let answer = self.client.request(told).await?;
        ensure!(answer.status().is_success(), "moto took no results: {}", answer.status());
        let (status, headers, text) = self.forward(parts, body).await?;
        // else the next query would get this one's rows
        ensure!(status.is_success(), "moto started no query: {status}");
        Ok((status, headers, text).into_response())
    }

    /// The one action of STS that is not signed.
    async fn exchange(&self, form: &Form) -> anyhow::Result<Response> {
        let action = form.get("Action").map(String::as_str);
        ensure!(action == Some("AssumeRoleWithWebIdentity"), "{action:?} is not signed");
        if let Err(NotTrusted { status, code, why }) = self.trusted.check(form) {
            self.refused.lock().push(code.into());
            return Ok(refusal_of_sts(status, code, &why));
        }
        let session = match session_of(form) {
            Ok(session) if session.tags.is_empty() && session.source_identity.is_none() => session,
            other => {
                let why = other.err().map_or_else(|| "tags".into(), |error| error.to_string());
                return Ok(refusal_of_sts(StatusCode::BAD_REQUEST, "ValidationError", &why));
            }
        };
        self.give("AssumeRoleWithWebIdentity", Session { by_token: true, ..session }).await
    }

    /// Temporary keys of the same user, who has a key that does not end. moto's are always the same, and no keys: the role
    /// that this user has here stands for what they may do.
    async fn session_token(&self, key: &str, form: &Form) -> anyhow::Result<Response> {
        let owner = self.owner.lock().clone();
        let Some((_, role)) = owner.filter(|(its, _)| its == key) else {
            let why = "Cannot call GetSessionToken with session credentials";
            return Ok(refusal_of_sts(StatusCode::FORBIDDEN, "AccessDenied", why));
        };
        let duration = form.get("DurationSeconds").context("no duration")?.parse()?;
        ensure!((900..=129_600).contains(&duration), "{duration} s is no duration");
        let (name, expires_at) = ("own".to_owned(), Timestamp::now());
        let session = Session {
            role,
            name,
            source_identity: None,
            tags: BTreeMap::new(),
            transitive: BTreeSet::new(),
            policy: None,
            duration,
            expires_at,
            by_token: false,
        };
        self.give("GetSessionToken", session).await
    }

    /// Begins a session with keys of its role, which moto takes.
    async fn give(&self, action: &str, session: Session) -> anyhow::Result<Response> {
        let world = self.world.lock().clone().context("nobody is known")?;
        // else the session would begin twice
        let world = World { aws_endpoint: self.moto.clone(), ..world };
        let member = world.users.iter().find(|it| it.role_arn.as_deref() == Some(&session.role));
        let member = member.context("nobody has this role")?;
        let sts = Sts::new(SignedDuration::from_hours(1));
        let keys = sts.credentials(&world, member, &session.role).await?;
        let answer = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
             <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
             <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>\
             </{action}Result></{action}Response>",
            keys.access_key_id, keys.secret_access_key, keys.session_token, keys.expiration
        );
        let text = self.begin(session, &answer)?;
        Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/xml")], text).into_response())
    }

    /// As it came, its `Host` included, which is signed.
    async fn forward(
        &self,
        parts: Parts,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method;
        *request.uri_mut() = format!("{}{path}", self.moto).parse()?;
        *request.headers_mut() = parts.headers;
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        let is_head = request.method() == Method::HEAD;
        let (mut parts, body) = self.client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.remove(header::CONNECTION);
        if !is_head {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        Ok((parts.status, parts.headers, body))
    }

    /// Remembers a session, and returns moto's answer with the end that its keys have here.
    fn begin(&self, session: Session, answer: &str) -> anyhow::Result<String> {
        let key = element(answer, "AccessKeyId").context("no key")?.to_owned();
        for (what, name) in
            [("a secret key of AWS", "SecretAccessKey"), ("a session token of AWS", "SessionToken")]
        {
            known::hold(what, element(answer, name).context("no secret")?);
        }
        let end = element(answer, "Expiration").context("no end")?.to_owned();
        let lifetime = *self.lifetime.lock();
        let asked = SignedDuration::from_secs(i64::try_from(session.duration)?);
        let expires_at = Timestamp::now() + lifetime.unwrap_or(asked);
        let session = Session { expires_at, ..session };
        self.begun.lock().push(session.clone());
        self.sessions.lock().insert(key, session);
        let told = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Ok(answer.replace(&end, &told))
    }
}

/// Whose key signed, and for which service: `Credential=KEY/DAY/REGION/SERVICE/aws4_request`.
fn credential(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (_, scope) = value.split_once("Credential=")?;
    let mut parts = scope.split(',').next()?.split('/');
    Some((parts.next()?.to_owned(), parts.nth(2)?.to_owned()))
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// The same as the services that speak JSON say it.
fn json_denial(why: &str) -> Response {
    let text = json!({ "__type": "AccessDeniedException", "Message": why }).to_string();
    let kind = [(header::CONTENT_TYPE, "application/x-amz-json-1.1")];
    (StatusCode::BAD_REQUEST, kind, text).into_response()
}

fn refusal_of_sts(status: StatusCode, code: &str, why: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml")], error_of_sts(code, why)).into_response()
}

fn refusal(status: StatusCode, code: &str, why: &str) -> Response {
    // S3 and STS differ in what is around it, and SDKs read either
    let text = if status == StatusCode::FORBIDDEN || code == "ExpiredToken" {
        format!("<Error><Code>{code}</Code><Message>{why}</Message></Error>")
    } else {
        error_of_sts(code, why)
    };
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

fn error_of_sts(code: &str, why: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{why}</Message></Error></ErrorResponse>"
    )
}

#[cfg(test)]
mod tests;
