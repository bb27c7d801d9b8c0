//! The MCP server of these tests: this test binary again, run by the host. It answers under `/mcp`
//! like a server, remembers what it saw, and lets the tests wait for that under `/test`.

use crate::{
    sessioned::{Said, Sessioned},
    within,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use patchbay_core::digest::Digest;
use serde_json::json;
use std::{collections::BTreeMap, convert::Infallible, pin::pin, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) const PORT: &str = "MCP_PORT";
pub(crate) const PROXY_PORT: &str = "MCP_PROXY_PORT";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the server saw, in order: `METHOD /path` when a request came, `closed /path` when its
/// client went away before the answer was complete.
#[derive(Debug)]
struct Seen {
    events: watch::Sender<Vec<String>>,
    is_released: watch::Sender<bool>,
    /// Whether who begins a session is told so only once that is released.
    is_slow: watch::Sender<bool>,
    is_deaf: watch::Sender<bool>,
    /// Whether no connection is taken any more.
    is_unreachable: watch::Sender<bool>,
    sessioned: Sessioned,
    /// What is said on the stream of the transport of 2024.
    said: watch::Sender<Vec<String>>,
}

#[test]
#[ignore = "the MCP server of the other tests, which the host runs"]
fn mcp_server() {
    let port = std::env::var(PORT).expect("the host sets the port").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(port));
}

async fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let seen = Arc::new(Seen {
        events: watch::Sender::new(Vec::new()),
        is_released: watch::Sender::new(false),
        is_slow: watch::Sender::new(false),
        is_deaf: watch::Sender::new(false),
        is_unreachable: watch::Sender::new(false),
        sessioned: Sessioned::default(),
        said: watch::Sender::new(Vec::new()),
    });
    println!("serving on port {port}");
    let mut is_deaf = seen.is_deaf.subscribe();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            () = until(&mut is_deaf) => break,
        };
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(Arc::clone(&seen), request));
        let mut is_deaf = is_deaf.clone();
        tokio::spawn(async move {
            let mut connection =
                pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = until(&mut is_deaf) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // what a client does to its connection is the worker's to judge
            drop(ended);
        });
    }
    drop(listener);
    seen.is_unreachable.send_replace(true);
    std::future::pending::<()>().await;
}

async fn until(is_so: &mut watch::Receiver<bool>) {
    // its sender lives as long as the server
    let _ = is_so.wait_for(|is_so| *is_so).await;
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    if let Some(event) = path.strip_prefix("/test/wait-for/") {
        let event = event.replacen('/', " /", 1);
        let mut events = seen.events.subscribe();
        events.wait_for(|events| events.contains(&event)).await.unwrap();
        return Ok(text(""));
    }
    if let Some(what) = path.strip_prefix("/test/refuse/") {
        seen.sessioned.refuse(what);
        return Ok(text(""));
    }
    match path.as_str() {
        "/test/ready" => return Ok(text("")),
        "/test/seen" => return Ok(text(json!(*seen.events.borrow()).to_string())),
        "/test/environment" => {
            let environment: BTreeMap<_, _> = std::env::vars().collect();
            return Ok(text(json!(environment).to_string()));
        }
        "/test/forget" => {
            seen.sessioned.forget();
            return Ok(text(""));
        }
        "/test/slow" => {
            seen.is_slow.send_replace(true);
            return Ok(text(""));
        }
        "/test/change" => {
            seen.sessioned.change();
            return Ok(text(""));
        }
        "/test/heard" => return Ok(text(json!(seen.sessioned.heard()).to_string())),
        "/test/release" => {
            seen.is_released.send_replace(true);
            return Ok(text(""));
        }
        _ => seen.note(format!("{} {path}", request.method())),
    }
    let closed = NoteClosed(Some((Arc::clone(&seen), path.clone())));
    let response = match path.as_str() {
        "/mcp" => sessioned(&seen, request).await,
        "/mcp/hang" => std::future::pending().await,
        "/mcp/exit" => std::process::exit(7),
        "/mcp/slow" => {
            until(&mut seen.is_released.subscribe()).await;
            text("done")
        }
        "/mcp/deaf" => {
            seen.is_deaf.send_replace(true);
            until(&mut seen.is_unreachable.subscribe()).await;
            text("")
        }
        "/mcp/stream" => return Ok(stream(closed)),
        "/mcp/sse" => return Ok(pair(&seen, closed)),
        "/mcp/messages" => message(&seen, request).await,
        "/mcp/led-away/sse" => typed(
            "text/event-stream",
            "event: endpoint\ndata: https://evil.example/messages\n\ndata: {}\n\n".into(),
        ),
        "/mcp/trailers" => trailers().await,
        "/mcp/proxy" => text(ask_proxy().await),
        "/mcp/tools" => typed("application/json", TOOLS.into()),
        "/mcp/tools-stream" => {
            typed("text/event-stream", format!("event: message\ndata: {TOOLS}\n\n"))
        }
        _ => echo(request).await,
    };
    closed.disarm();
    Ok(response)
}

async fn sessioned(seen: &Seen, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (status, id, said) =
        seen.sessioned.answer(&parts.method, &parts.uri, &parts.headers, &body);
    if id.is_some() && *seen.is_slow.borrow() {
        seen.note("BEGUN /mcp".to_owned());
        until(&mut seen.is_released.subscribe()).await;
    }
    let mut response = match said {
        Said::Json(answer) => typed("application/json", answer.to_string()),
        Said::Event(id) => typed("text/event-stream", format!("id: {id}\ndata: {{}}\n\n")),
    };
    *response.status_mut() = status;
    if let Some(id) = id {
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
    }
    response
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let headers: serde_json::Map<_, _> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = json!({
        "method": parts.method.as_str(),
        "url": parts.uri.to_string(),
        "headers": headers,
        "length": body.len(),
        "digest": Digest::of(&body).to_string(),
    });
    let mut response = text(seen.to_string());
    response.headers_mut().insert("mcp-session-id", "session".parse().unwrap());
    response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
    response
}

/// One event, and then silence until the client goes away.
fn stream(closed: NoteClosed) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        sender.send_data("data: 1\n\n".into()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let body = body.map_frame(move |frame| {
        let _ = &closed;
        frame
    });
    let mut response = Response::new(UnsyncBoxBody::new(body));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// The stream of a pair: where messages are sent, and then what they are answered with.
fn pair(seen: &Seen, closed: NoteClosed) -> Response<Body> {
    let mut said = seen.said.subscribe();
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let mut next = "event: endpoint\ndata: /mcp/messages?session_id=a\n\n".to_owned();
        for count in 0.. {
            if sender.send_data(next.into()).await.is_err() {
                return;
            }
            let said = said.wait_for(|said| said.len() > count).await.unwrap();
            next = format!("event: message\ndata: {}\n\n", said[count]);
        }
    });
    let body = body.map_frame(move |frame| {
        let _ = &closed;
        frame
    });
    let mut response = Response::new(UnsyncBoxBody::new(body));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// A message of a pair: accepted at once, and answered on the stream; a call of a tool once such may end.
async fn message(seen: &Arc<Seen>, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        let answer = if message["method"] == "tools/list" {
            TOOLS.to_owned()
        } else {
            until(&mut seen.is_released.subscribe()).await;
            json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} }).to_string()
        };
        seen.said.send_modify(|said| said.push(answer));
    });
    let mut response = text("Accepted");
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

async fn trailers() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
    sender.send_data("body".into()).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    sender.send_trailers(trailers).await.unwrap();
    let mut response = Response::new(UnsyncBoxBody::new(body));
    response.headers_mut().insert("trailer", "x-checksum".parse().unwrap());
    response
}

async fn ask_proxy() -> String {
    let port: u16 = std::env::var(PROXY_PORT).unwrap().parse().unwrap();
    let mut proxy = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    proxy
        .write_all(b"CONNECT example.com:443 HTTP/1.1\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    proxy.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A list of tools, whatever was asked.
const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"drop"}],"nextCursor":"c"}}"#;

fn typed(kind: &'static str, body: String) -> Response<Body> {
    let mut response = text(body);
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    response
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(UnsyncBoxBody::new(Full::new(text.into())))
}

impl Seen {
    fn note(&self, event: String) {
        self.events.send_modify(|events| events.push(event));
    }
}

struct NoteClosed(Option<(Arc<Seen>, String)>);

impl NoteClosed {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for NoteClosed {
    fn drop(&mut self) {
        if let Some((seen, path)) = self.0.take() {
            seen.note(format!("closed {path}"));
        }
    }
}

/// A test's direct view of the server, past the worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness {
    pub(crate) port: u16,
}

impl Witness {
    /// All that the server saw.
    pub(crate) async fn seen(self) -> Vec<String> {
        serde_json::from_slice(&self.ask(Method::GET, "/test/seen").await).unwrap()
    }

    /// The server's environment.
    pub(crate) async fn environment(self) -> BTreeMap<String, String> {
        serde_json::from_slice(&self.ask(Method::GET, "/test/environment").await).unwrap()
    }

    /// Returns once the server saw this.
    pub(crate) async fn saw(self, event: &str) {
        self.ask(Method::GET, &format!("/test/wait-for/{}", event.replacen(" /", "/", 1))).await;
    }

    /// Session and method of every message in one.
    pub(crate) async fn heard(self) -> Vec<(String, String)> {
        serde_json::from_slice(&self.ask(Method::GET, "/test/heard").await).unwrap()
    }

    /// Has the server let go of its sessions.
    pub(crate) async fn forget(self) {
        self.ask(Method::POST, "/test/forget").await;
    }

    /// Has the server become another one.
    pub(crate) async fn change(self) {
        self.ask(Method::POST, "/test/change").await;
    }

    /// Tells whoever begins a session so only once that is released.
    pub(crate) async fn take_time(self) {
        self.ask(Method::POST, "/test/slow").await;
    }

    /// Has the server refuse this, and nothing else.
    pub(crate) async fn refuse(self, what: &str) {
        self.ask(Method::POST, &format!("/test/refuse/{what}")).await;
    }

    /// Lets slow calls end.
    pub(crate) async fn release(self) {
        self.ask(Method::POST, "/test/release").await;
    }

    async fn ask(self, method: Method, path: &str) -> Bytes {
        within(async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = Request::new(Full::<Bytes>::default());
            *request.method_mut() = method;
            *request.uri_mut() = path.parse().unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap().to_bytes()
        })
        .await
    }
}
