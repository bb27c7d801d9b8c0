use super::*;
use crate::agent::{
    clock::Moment,
    credentials::Credentials,
    held_grant::Claims,
    policy::Policy,
    server::Server,
    state::{Entry, Worker},
};
use http::HeaderMap;
use http_body_util::channel::{Channel, Sender};
use patchbay_core::{
    class::{Profile, TenantLimits, Transport},
    id::{Epoch, TenantUid},
    idle::Weight,
    latch::Claim,
    tools::ToolPolicy,
};
use std::{convert::Infallible, time::Duration};

const NAMED: &str = "event: endpoint\r\ndata: /messages/?session_id=a\r\n\r\n";
const TOLD: &str = "event: endpoint\ndata: messages/?session_id=a\n\n";
const AT: &str = "/mcp-server/messages/?session_id=a";

type Body = stream::Stream<Channel<Bytes, Infallible>>;

struct World {
    pairs: Arc<Pairs>,
    worker: Arc<Worker>,
}

impl World {
    fn new() -> Self {
        let claim = claim();
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        worker.set_ready();
        worker.apply_bind(&claim, None, Moment::now()).unwrap();
        Self { pairs: Arc::default(), worker }
    }

    /// A stream that was asked for at `/sse`.
    fn stream(&self, is_filtered: bool) -> (Sender<Bytes, Infallible>, Body) {
        let transport = Transport::Http { port: 8000, path: "/".into(), ready_path: None };
        let server = Arc::new(Server::new("/nowhere".into(), transport, Duration::from_secs(1)));
        let tools = ToolPolicy {
            deny: ["drop".to_owned()].into(),
            hide_denied: true,
            ..ToolPolicy::default()
        };
        let policy = Policy::new(Some(tools), TenantLimits::default(), Profile::Generic).unwrap();
        let listing = Arc::new(policy).listing(Claims::Absent, &HeaderMap::new());
        let opening = Opening {
            server,
            pairs: Arc::clone(&self.pairs),
            asked: "/sse".into(),
            listing: listing.filter(|_| is_filtered),
            request_id: None,
        };
        let (sender, body) = Channel::new(64);
        (sender, opening.answered(body))
    }

    /// A message to the stream that named [`AT`], which its server has taken.
    fn says(&self, text: &str) {
        let Entry::Admitted(in_flight) =
            self.worker.enter(Some(&claim()), Weight::Call, Moment::now())
        else {
            panic!("not admitted");
        };
        let pair = self.at(AT).unwrap();
        let ids = pair.begin(text.as_bytes(), &in_flight);
        Begun { pair, ids }.taken();
    }

    fn at(&self, at: &str) -> Option<Arc<Pair>> {
        self.pairs.of(&Request::post(at).body(()).unwrap())
    }
}

fn claim() -> Claim {
    Claim { tenant: TenantUid::parse("t1").unwrap(), epoch: Epoch(1) }
}

async fn next(body: &mut Body) -> String {
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    String::from_utf8(data.to_vec()).unwrap()
}

/// All that is passed on of a stream that comes in these parts and ends.
async fn all(is_filtered: bool, parts: &[&[u8]]) -> String {
    let (mut sender, body) = World::new().stream(is_filtered);
    for part in parts {
        sender.send_data(Bytes::copy_from_slice(part)).await.unwrap();
    }
    drop(sender);
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_event_names_the_endpoint_as_it_is_from_outside_wherever_it_is_cut() {
    let message = "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\r\n\r\n";
    let stream = format!(": hello\r\n\r\nretry: 5\r\n\r\n{NAMED}{message}");
    for at in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(at);
        let passed = all(false, &[head, tail]).await;
        // a mark that comes in two parts may end two lines
        let passed = passed.replace("\r\n", "\n").replace('\r', "\n").replace("\n\n\n", "\n\n");
        let expected = format!(": hello\r\n\r\nretry: 5\r\n\r\n{TOLD}{message}");
        assert_eq!(passed, expected.replace("\r\n", "\n"), "cut at {at}");
    }
}

#[tokio::test]
async fn a_stream_that_begins_otherwise_passes_as_it_comes() {
    let first = "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n";
    for begins in [first.to_owned(), format!("data: {}", "x".repeat(70_000))] {
        let stream = format!("{begins}{NAMED}no event at all");
        assert_eq!(all(false, &[stream.as_bytes()]).await, stream);
    }
    // what is no message decides nothing
    let greeted = format!("event: hello\ndata: x\n\n{NAMED}");
    let told = format!("event: hello\ndata: x\n\n{TOLD}");
    assert_eq!(all(false, &[greeted.as_bytes()]).await, told);
}

#[tokio::test]
async fn what_names_an_endpoint_elsewhere_ends() {
    for named in ["https://evil.example/messages", "//evil.example", "/../other/mcp", "x/../../y"] {
        let stream = format!(": hello\n\nevent: endpoint\ndata: {named}\n\ndata: more\n\n");
        assert_eq!(all(false, &[stream.as_bytes()]).await, ": hello\n\n", "{named}");
        // and later as well
        let stream = format!("{NAMED}event: endpoint\ndata: {named}\n\ndata: more\n\n");
        assert_eq!(all(false, &[stream.as_bytes()]).await, TOLD, "{named}");
    }
}

#[tokio::test]
async fn a_list_of_tools_on_the_stream_has_none_that_is_denied() {
    let list =
        r#"data: {"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop"},{"name":"echo"}]}}"#;
    let stream = format!("{NAMED}{list}\n\n");
    let plain = format!("id: 7\n{list}\n\n");
    let left = r#"data: {"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}]}}"#;
    assert_eq!(all(true, &[stream.as_bytes()]).await, format!("{TOLD}{left}\n\n"));
    assert_eq!(all(false, &[stream.as_bytes()]).await, format!("{TOLD}{list}\n\n"));
    // as on a stream of which it is the first word, where a client comes back for it
    assert_eq!(all(true, &[plain.as_bytes()]).await, format!("id: 7\n{left}\n\n"));
    assert_eq!(all(false, &[plain.as_bytes()]).await, plain);
    // what cannot be looked through is not passed on, nor what follows
    let passed = all(true, &[format!("{NAMED}data: x\n\n{list}\n\n").as_bytes()]).await;
    assert!(passed.contains("tools_unreadable") && !passed.contains("drop"), "{passed}");
}

#[tokio::test]
async fn a_request_runs_until_its_answer_has_been_taken() {
    let world = World::new();
    let (mut sender, mut body) = world.stream(false);
    sender.send_data(NAMED.into()).await.unwrap();
    assert_eq!(next(&mut body).await, TOLD);
    world.says(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    world.says(r#"[{"jsonrpc":"2.0","id":"1","method":"x"},{"jsonrpc":"2.0","method":"y"}]"#);
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(world.worker.status().in_flight, 2);
    for (event, left) in [
        (r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#, 2),
        // the server's own request has an id of its own
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, 2),
        (r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, 2),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 1),
        (r#"{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":""}}"#, 0),
    ] {
        sender.send_data(format!("data: {event}\n\n").into()).await.unwrap();
        let before = world.worker.status().in_flight;
        assert_eq!(next(&mut body).await, format!("data: {event}\n\n"));
        assert_eq!(world.worker.status().in_flight, before, "it has not been sent yet");
        tokio::select! {
            biased;
            _ = body.frame() => panic!("nothing was said"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(world.worker.status().in_flight, left, "{event}");
    }
}

#[tokio::test]
async fn nothing_runs_that_was_cancelled_not_taken_or_whose_stream_has_ended() {
    let world = World::new();
    let (mut sender, mut body) = world.stream(false);
    sender.send_data(NAMED.into()).await.unwrap();
    next(&mut body).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    world.says(call);
    assert!(!world.worker.is_quiet());
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    assert!(world.worker.is_quiet());

    let Entry::Admitted(in_flight) =
        world.worker.enter(Some(&claim()), Weight::Call, Moment::now())
    else {
        panic!("not admitted");
    };
    let pair = world.at(AT).unwrap();
    let ids = pair.begin(call.as_bytes(), &in_flight);
    drop((Begun { pair, ids }, in_flight));
    assert!(world.worker.is_quiet(), "the server did not take it");

    world.says(call);
    let pair = world.at(AT).unwrap();
    drop(body);
    assert!(world.worker.is_quiet());
    assert!(world.at(AT).is_none());
    // who found it before it ended
    drop(pair);
}

#[tokio::test]
async fn messages_to_elsewhere_are_of_no_stream() {
    let world = World::new();
    let (mut sender, mut body) = world.stream(false);
    sender.send_data(NAMED.into()).await.unwrap();
    next(&mut body).await;
    assert!(world.at(AT).is_some());
    for other in ["/mcp-server/messages/?session_id=b", "/mcp-server/messages/", "/mcp-server"] {
        assert!(world.at(other).is_none(), "{other}");
    }
    assert!(world.pairs.of(&Request::get(AT).body(()).unwrap()).is_none());
}

#[tokio::test]
async fn an_answer_of_our_own_comes_on_the_stream_and_else_as_it_is() {
    let world = World::new();
    let (mut sender, mut body) = world.stream(false);
    sender.send_data(NAMED.into()).await.unwrap();
    next(&mut body).await;
    let pair = world.at(AT).unwrap();
    let answer = || Response::new(whole("{}".into()));
    let (told, event) = tokio::join!(pair.tell(answer()), next(&mut body));
    assert_eq!(told.status(), StatusCode::ACCEPTED);
    assert_eq!(event, "event: message\ndata: {}\n\n");
    // in the midst of an event it waits
    sender.send_data("data: {\"jsonrpc\":\"2.0\",".into()).await.unwrap();
    pair.tell(answer()).await;
    sender.send_data("\"method\":\"x\"}\n\n".into()).await.unwrap();
    assert_eq!(next(&mut body).await, "event: message\ndata: {}\n\n");
    assert_eq!(next(&mut body).await, "data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n");

    let mut over = answer();
    *over.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(pair.tell(over).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(body);
    let untold = pair.tell(answer()).await;
    assert_eq!(untold.status(), StatusCode::OK);
    assert_eq!(untold.into_body().collect().await.unwrap().to_bytes(), "{}");
}

#[tokio::test]
async fn a_message_that_is_too_long_to_be_read_passes_and_nothing_runs_any_more() {
    let world = World::new();
    let (mut sender, mut body) = world.stream(false);
    sender.send_data(NAMED.into()).await.unwrap();
    next(&mut body).await;
    world.says(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let long = "x".repeat(crate::agent::policy::MAX_LIST_BYTES);
    sender.send_data(format!("data: {long}").into()).await.unwrap();
    assert_eq!(next(&mut body).await.len(), long.len() + 6);
    assert!(world.worker.is_quiet() && world.at(AT).is_none());
    sender.send_data("x\n\n".into()).await.unwrap();
    assert_eq!(next(&mut body).await, "x\n\n");

    let (mut sender, mut body) = world.stream(true);
    sender.send_data(NAMED.into()).await.unwrap();
    next(&mut body).await;
    sender.send_data(format!("data: {long}").into()).await.unwrap();
    assert!(next(&mut body).await.contains("too long"));
    assert!(body.frame().await.is_none());
}

#[test]
fn only_events_that_can_be_read_are_looked_at() {
    let response = |status: u16, pairs: &[(&'static str, &'static str)]| {
        let mut response = Response::builder().status(status);
        for (name, value) in pairs {
            response = response.header(*name, *value);
        }
        Opening::is_answered(&response.body(()).unwrap())
    };
    let events = ("content-type", "Text/Event-Stream; charset=utf-8");
    assert_eq!(response(200, &[events]), Some(true));
    assert_eq!(response(200, &[events, ("content-encoding", "gzip")]), Some(false));
    assert_eq!(response(404, &[events]), None);
    assert_eq!(response(200, &[("content-type", "application/json")]), None);
    let mut asked = Request::get("/mcp-server/sse")
        .header("accept", "text/event-stream")
        .header("accept-encoding", "gzip")
        .body(())
        .unwrap();
    assert_eq!(Opening::asked(&mut asked).as_deref(), Some("/sse"));
    assert!(!asked.headers().contains_key("accept-encoding"));
    let mut page = Request::get("/mcp-server").header("accept-encoding", "gzip").body(()).unwrap();
    assert_eq!(Opening::asked(&mut page).as_deref(), Some(""));
    assert!(page.headers().contains_key("accept-encoding"));
    assert!(Opening::asked(&mut Request::post("/mcp-server/sse").body(()).unwrap()).is_none());
}
