//! One worker: its latch, which is the real one, and its answers on the link, each for the role that may have it.

use super::{listen, pod::Pods};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use parking_lot::Mutex;
use patchbay_core::{
    id::{Epoch, TenantUid},
    latch::{Admission, BindDecision, Claim, Latch},
    link::{
        BIND_PATH, BindAccepted, BindOutcome, BindRefusal, BindRequest, DRAIN_PATH, ENROL_PATH,
        EPOCH_HEADER, Enrolment, FORWARD_PREFIX, Farewell, LeaveReason, MAX_BIND_BYTES,
        MAX_RESERVATION_BYTES, MISDIRECTED, REFUSAL_HEADER, RELEASE_PATH, RESERVE_PATH,
        RETIRE_PATH, Refused, Reservation, STATUS_PATH, TENANT_HEADER, WHEN_IDLE, WorkerPhase,
        WorkerStatus,
    },
    pin::Role,
    tenant::TenantName,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tokio_rustls::TlsAcceptor;

/// A call's body is at most this long.
const MOST_BODY: usize = 1024 * 1024;
/// How long it is kept for a tenant that does not come.
const KEPT: Duration = Duration::from_secs(5);

/// A worker.
pub(super) struct Worker {
    pods: Pods,
    pod: Pod,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    latch: Latch,
    /// For whom it is kept, and until when.
    kept: Option<(TenantName, Instant)>,
    last_activity: Option<Timestamp>,
}

type Answer = Response<Full<Bytes>>;

impl Worker {
    pub(super) fn new(pods: Pods, pod: Pod) -> Self {
        Self { pods, pod, state: Mutex::default() }
    }

    fn status(&self) -> WorkerStatus {
        let state = self.state.lock();
        let phase = match state.latch {
            Latch::Anonymous => WorkerPhase::Anonymous,
            Latch::Bound(_) => WorkerPhase::Bound,
            Latch::Leaving(_) => WorkerPhase::Leaving,
        };
        let tenant = state.latch.claim().map(|claim| claim.tenant.clone());
        WorkerStatus { phase, tenant, in_flight: 0, last_activity: state.last_activity }
    }

    async fn answer(self: Arc<Self>, role: Option<Role>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query());
        let needed = match path {
            BIND_PATH | RESERVE_PATH | RELEASE_PATH | FORWARD_PREFIX => Role::Gateway,
            ENROL_PATH | STATUS_PATH | RETIRE_PATH | DRAIN_PATH => Role::Operator,
            _ => return bare(StatusCode::NOT_FOUND),
        };
        if role != Some(needed) {
            return bare(StatusCode::FORBIDDEN);
        }
        match (&head.method, path, query) {
            (&Method::POST, BIND_PATH, None) => match read(body, MAX_BIND_BYTES).await {
                Some(bind) => self.bind(bind),
                None => bare(StatusCode::BAD_REQUEST),
            },
            (&Method::POST, RESERVE_PATH | RELEASE_PATH, None) => {
                match read(body, MAX_RESERVATION_BYTES).await {
                    Some(Reservation { tenant }) if path == RESERVE_PATH => self.keep(tenant),
                    Some(Reservation { tenant }) => self.release(&tenant),
                    None => bare(StatusCode::BAD_REQUEST),
                }
            }
            (&Method::POST, FORWARD_PREFIX, None) => {
                if let Some(refused) = self.refusal(&head.headers) {
                    return refused;
                }
                match read(body, MOST_BODY).await {
                    Some(message) => call(&message),
                    None => bare(StatusCode::BAD_REQUEST),
                }
            }
            (&Method::GET, ENROL_PATH, None) => self.enrol().await,
            (&Method::GET, STATUS_PATH, None) => json(StatusCode::OK, &self.status()),
            (&Method::POST, RETIRE_PATH, None) => {
                if let Err(why) = self.state.lock().retire() {
                    return refuse(why);
                }
                self.end(LeaveReason::Retired);
                bare(StatusCode::ACCEPTED)
            }
            // it is idle whenever nothing is in flight, and an answer takes no time
            (&Method::POST, DRAIN_PATH, None | Some(WHEN_IDLE)) => {
                self.state.lock().latch.leave();
                self.end(LeaveReason::Drained);
                bare(StatusCode::ACCEPTED)
            }
            _ => bare(StatusCode::BAD_REQUEST),
        }
    }

    fn keep(&self, tenant: TenantName) -> Answer {
        match self.state.lock().keep(tenant) {
            Ok(()) => bare(StatusCode::NO_CONTENT),
            Err(why) => refuse(why),
        }
    }

    fn release(&self, tenant: &TenantName) -> Answer {
        let mut state = self.state.lock();
        if state.kept.as_ref().is_some_and(|(holder, _)| holder == tenant) {
            state.kept = None;
        }
        bare(StatusCode::NO_CONTENT)
    }

    fn bind(&self, bind: BindRequest) -> Answer {
        let BindRequest { tenant, epoch, grant: _, user: _, sessions: _ } = bind;
        match self.state.lock().latch.bind(&Claim { tenant, epoch }) {
            Ok(BindDecision::Latch) => accept(BindOutcome::Bound),
            Ok(BindDecision::Again) => accept(BindOutcome::Kept),
            Err(why) => refuse(why),
        }
    }

    /// What a call is answered that is not for this worker's tenant.
    fn refusal(&self, headers: &HeaderMap) -> Option<Answer> {
        let mut state = self.state.lock();
        match state.latch.admit(claim(headers).as_ref()) {
            Admission::Serve => {
                state.last_activity = Some(Timestamp::now());
                None
            }
            Admission::Misdirected => {
                let mut answer = bare(StatusCode::MISDIRECTED_REQUEST);
                let why = http::HeaderValue::from_static(MISDIRECTED);
                answer.headers_mut().insert(REFUSAL_HEADER, why);
                Some(answer)
            }
            Admission::Leaving => Some(bare(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }

    async fn enrol(&self) -> Answer {
        match self.pods.token(&self.pod).await {
            Ok(token) => json(StatusCode::OK, &Enrolment { token, phase: self.status().phase }),
            Err(error) => {
                eprintln!("{}: no token: {error:#}", self.pod.name_any());
                bare(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The pod ends once this has been answered.
    fn end(self: &Arc<Self>, reason: LeaveReason) {
        let WorkerStatus { tenant, last_activity, .. } = self.status();
        let (worker, farewell) =
            (Arc::clone(self), Farewell { tenant, reason, last_activity, detail: None });
        tokio::spawn(async move {
            if let Err(error) = worker.pods.end(&worker.pod, &farewell).await {
                eprintln!("{}: its end is not told: {error:#}", worker.pod.name_any());
            }
        });
    }
}

impl State {
    fn holder(&self) -> Option<&TenantName> {
        let (holder, until) = self.kept.as_ref()?;
        (*until > Instant::now()).then_some(holder)
    }

    fn keep(&mut self, tenant: TenantName) -> Result<(), BindRefusal> {
        match self.latch {
            Latch::Bound(_) => Err(BindRefusal::OtherTenant),
            Latch::Leaving(_) => Err(BindRefusal::Leaving),
            Latch::Anonymous if self.holder().is_some_and(|holder| *holder != tenant) => {
                Err(BindRefusal::Reserved)
            }
            Latch::Anonymous => {
                self.kept = Some((tenant, Instant::now() + KEPT));
                Ok(())
            }
        }
    }

    fn retire(&mut self) -> Result<(), BindRefusal> {
        if self.latch == Latch::Anonymous && self.holder().is_some() {
            return Err(BindRefusal::Reserved);
        }
        self.latch.leave_if_anonymous().then_some(()).ok_or(BindRefusal::OtherTenant)
    }
}

/// Listens at the pod's address for as long as this is polled.
pub(super) async fn serve(worker: Arc<Worker>, address: SocketAddr, tls: TlsAcceptor) {
    let listener = listen(address).await;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(Arc::clone(&worker), stream, tls.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(worker: Arc<Worker>, stream: TcpStream, tls: TlsAcceptor) {
    // answers are small, and awaited
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let role = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let role = role.and_then(Role::of_certificate);
    let service = service_fn(move |request| {
        let worker = Arc::clone(&worker);
        async move { Ok::<_, Infallible>(worker.answer(role, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new());
    // one that breaks is dialled again
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

/// Whom a request names.
fn claim(headers: &HeaderMap) -> Option<Claim> {
    let text = |name| headers.get(name)?.to_str().ok();
    let tenant = TenantUid::parse(text(TENANT_HEADER)?).ok()?;
    Some(Claim { tenant, epoch: Epoch(text(EPOCH_HEADER)?.parse().ok()?) })
}

/// A body of at most `limit` bytes, as what it says.
async fn read<T: DeserializeOwned>(body: Incoming, limit: usize) -> Option<T> {
    let body = Limited::new(body, limit).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// The MCP server's part: the tool `echo`, and no other.
fn call(message: &Value) -> Answer {
    let of_echo = message["method"] == "tools/call" && message["params"]["name"] == "echo";
    let text = message["params"]["arguments"]["text"].as_str().filter(|_| of_echo);
    let mut answer = json!({ "jsonrpc": "2.0", "id": message["id"] });
    match text {
        Some(text) => {
            let said = json!({ "text": text }).to_string();
            answer["result"] = json!({ "content": [{ "type": "text", "text": said }] });
        }
        None => answer["error"] = json!({ "code": -32601, "message": "only `echo` is known" }),
    }
    json(StatusCode::OK, &answer)
}

fn accept(outcome: BindOutcome) -> Answer {
    json(StatusCode::OK, &BindAccepted { outcome })
}

fn refuse(reason: BindRefusal) -> Answer {
    json(StatusCode::CONFLICT, &Refused { reason })
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // plain structures always serialise
    let mut answer = Response::new(Full::from(serde_json::to_vec(body).unwrap_or_default()));
    *answer.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, json);
    answer
}

fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
