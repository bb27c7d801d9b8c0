//! What leaves a worker, and with which credential. The tests speak in the MCP server's place: on
//! its proxy's port.

use crate::{
    client::{BEARER, Client, body_of, grant},
    doubles::{Body, World},
    hidden, within,
    worker::{Options, Worker},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Builder};
use http_body_util::{BodyExt as _, Empty, Full, channel::Channel};
use hyper::{body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{
    boot::RelayBoot,
    class::{HostPort, Profile},
    grant::{AwsGrant, CatalogGrant, Grant},
    pin::Role,
    quilt::PlacedFile,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

const SECRET_KEY: &str = "the-secret-key-of-aws";

/// A quilt worker in its world.
struct Setting {
    world: World,
    worker: Worker,
    gateway: Client,
}

impl Setting {
    async fn new() -> Self {
        let world = World::new().await;
        Self::with(world.relay(), world).await
    }

    async fn with(relay: RelayBoot, world: World) -> Self {
        let options = Options { profile: Profile::Quilt, relay, ..Options::default() };
        let worker = Worker::ready(options).await;
        let gateway = worker.connect(Role::Gateway).await;
        Self { world, worker, gateway }
    }

    /// A grant for this world's catalog.
    fn grant(&self, bearer: &str) -> Grant {
        let catalog = CatalogGrant {
            origin: self.world.origin(),
            registry: format!("https://registry.test:{}", self.world.registry.port),
            bearer: bearer.into(),
            lease: None,
        };
        Grant { catalog: Some(catalog), ..grant() }
    }

    async fn bind(&self, bearer: &str) -> (StatusCode, Value) {
        self.gateway.bind_with("t1", 1, self.grant(bearer)).await
    }

    async fn bound() -> Self {
        let setting = Self::new().await;
        let bound = (StatusCode::OK, json!({"outcome": "bound"}));
        assert_eq!(setting.bind(BEARER).await, bound);
        setting
    }

    /// What the MCP server finds as its bearer.
    fn stand_in(&self) -> String {
        let path = self.worker.home().join(".local/share/Quilt/auth.json");
        let auth: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        auth["http://registry.test"]["access_token"].as_str().unwrap().to_owned()
    }

    fn session(&self) -> String {
        format!("Bearer {}", self.stand_in())
    }

    async fn get(&self, target: &str, authorization: Option<&str>) -> Response<Incoming> {
        send(&self.worker, get(target, authorization).body(empty()).unwrap()).await
    }

    async fn open_tunnel(&self, target: &str) -> Response<Incoming> {
        let request = Request::connect(target).header("host", target).body(empty()).unwrap();
        send(&self.worker, request).await
    }
}

fn get(target: &str, authorization: Option<&str>) -> Builder {
    let builder = Request::get(target).header("host", "ignored.test");
    match authorization {
        Some(value) => builder.header("authorization", value),
        None => builder,
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Sends a request to the MCP server's proxy, as the server would.
async fn send(worker: &Worker, request: Request<Body>) -> Response<Incoming> {
    let stream = TcpStream::connect(("127.0.0.1", worker.proxy_port)).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    within(sender.send_request(request)).await.unwrap()
}

async fn reason(response: Response<Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let body: Value = serde_json::from_slice(&body_of(response).await).unwrap();
    (status, body["reason"].clone())
}

/// All files below a directory.
fn texts(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() { texts(&path) } else { vec![fs::read_to_string(path).unwrap()] }
        })
        .collect()
}

#[tokio::test]
async fn the_stand_in_is_worth_the_users_bearer_at_the_two_origins() {
    let setting = Setting::bound().await;
    let (session, world) = (setting.session(), &setting.world);
    let placed = texts(setting.worker.home());
    assert_eq!(placed.len(), 2, "{placed:?}");
    hidden(&placed.concat(), &[BEARER]);

    for (name, host) in [("catalog", &world.catalog), ("registry", &world.registry)] {
        let request = get(&format!("http://{name}.test/api?a=b%20c"), Some(&session))
            .header("cookie", "a=b")
            .header("proxy-authorization", "Basic x")
            .header("connection", "x-listed")
            .header("x-listed", "1")
            .header("accept", "*/*");
        let response = send(&setting.worker, request.body(empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("set-cookie"));
        assert_eq!(body_of(response).await, "answer");
        let seen = host.only();
        assert_eq!((seen.method, seen.target.as_str()), (Method::GET, "/api?a=b%20c"));
        let authority = format!("{name}.test:{}", host.port);
        let expected = HeaderMap::from_iter([
            (header::ACCEPT, "*/*".parse().unwrap()),
            (header::AUTHORIZATION, format!("Bearer {BEARER}").parse().unwrap()),
            (header::HOST, authority.parse().unwrap()),
        ]);
        assert_eq!(seen.headers, expected);

        let anonymous = setting.get(&format!("http://{name}.test/"), None).await;
        assert_eq!(anonymous.status(), StatusCode::OK);
        assert!(!host.only().headers.contains_key("authorization"));

        let foreign =
            setting.get(&format!("http://{name}.test/"), Some("Bearer somebody-elses")).await;
        let refused = (StatusCode::FORBIDDEN, "foreignCredential".into());
        assert_eq!(reason(foreign).await, refused);
        assert!(host.seen().is_empty(), "the origin saw nothing of it");
    }
    let logs = setting.worker.logs();
    hidden(&logs, &[BEARER, &setting.stand_in()]);
    assert!(logs.contains("ForeignCredential"), "{logs}");
}

#[tokio::test]
async fn nobody_reaches_the_catalog_before_a_bind() {
    let setting = Setting::new().await;
    let refused = (StatusCode::SERVICE_UNAVAILABLE, "noGrant".into());
    assert_eq!(reason(setting.get("http://catalog.test/", None).await).await, refused);
    assert!(setting.world.dialled().is_empty());
}

#[tokio::test]
async fn the_servers_own_names_come_back_in_configuration_and_redirects() {
    let setting = Setting::bound().await;
    let request =
        get("http://catalog.test/config.json", None).header("accept-encoding", "gzip, br");
    let response = send(&setting.worker, request.body(empty()).unwrap()).await;
    assert!(!response.headers().contains_key("etag"));
    let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap().to_owned();
    let body = body_of(response).await;
    assert_eq!(length, body.len().to_string());
    let config: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(config, json!({"registryUrl": "http://registry.test", "region": "us-east-1"}));
    assert_eq!(setting.world.catalog.only().headers["accept-encoding"], "identity");

    let response = setting.get("http://catalog.test/redirect", None).await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()["location"], "http://registry.test/there?a=b");
}

#[tokio::test]
async fn keys_without_an_end_that_the_registry_gives_stay_outside() {
    let setting = Setting::bound().await;
    let (session, at) = (setting.session(), "http://registry.test/api/auth/get_credentials");
    let temporary = json!({
        "AccessKeyId": "ASIAX", "SecretAccessKey": SECRET_KEY, "SessionToken": "t",
    });
    setting.world.registry.give(&temporary.to_string());
    let response = setting.get(at, Some(&session)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Value>(&body_of(response).await).unwrap(), temporary);

    let long_term = json!({ "AccessKeyId": "AKIAX", "SecretAccessKey": SECRET_KEY });
    setting.world.registry.give(&long_term.to_string());
    let refused = reason(setting.get(at, Some(&session)).await).await;
    assert_eq!(refused, (StatusCode::BAD_GATEWAY, "longTermKeys".into()));

    setting.world.registry.give(&"x".repeat(100 * 1024));
    let refused = reason(setting.get(at, Some(&session)).await).await;
    assert_eq!(refused, (StatusCode::BAD_GATEWAY, "answerTooLong".into()));
}

#[tokio::test]
async fn the_users_bearer_goes_into_no_plain_request_and_no_tunnel() {
    let setting = Setting::bound().await;
    let (session, world) = (setting.session(), &setting.world);
    let plain = format!("plain.test:{}", world.plain.port);

    let response = setting.get(&format!("http://{plain}/x"), Some("AWS4-HMAC own")).await;
    assert_eq!(response.headers()["set-cookie"], "session=secret", "it passes as it is");
    let seen = world.plain.only();
    assert_eq!(seen.headers["authorization"], "AWS4-HMAC own");
    assert_eq!((seen.headers["host"].to_str().unwrap(), seen.target.as_str()), (&*plain, "/x"));

    let leaked = setting.get(&format!("http://{plain}/x"), Some(&session)).await;
    assert_eq!(reason(leaked).await, (StatusCode::FORBIDDEN, "sessionElsewhere".into()));
    assert!(world.plain.seen().is_empty());

    let request = Request::put(format!("http://{plain}/x")).header("content-length", "5");
    let body = Full::from("12345").map_err(|never| match never {}).boxed_unsync();
    send(&setting.worker, request.body(body).unwrap()).await;
    let expected = HeaderMap::from_iter([
        (header::CONTENT_LENGTH, "5".parse().unwrap()),
        (header::HOST, plain.parse().unwrap()),
    ]);
    assert_eq!(world.plain.only().headers, expected, "a length stays a length");

    // the catalog under its real name: the server's own TLS, and what it says is what arrives
    let target = format!("catalog.test:{}", world.catalog.port);
    let response = setting.open_tunnel(&target).await;
    assert_eq!(response.status(), StatusCode::OK);
    let tunnel = TokioIo::new(within(upgrade::on(response)).await.unwrap());
    let tls = TokioIo::new(world.tls(tunnel).await);
    let (mut sender, connection) = http1::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("authorization", &session).body(empty()).unwrap();
    within(sender.send_request(request)).await.unwrap();
    assert_eq!(world.catalog.only().headers["authorization"].to_str().unwrap(), session);
}

#[tokio::test]
async fn a_tunnel_opens_for_clients_of_http_1_0_too() {
    // Python's http.client asks so
    let setting = Setting::bound().await;
    let mut proxy = TcpStream::connect(("127.0.0.1", setting.worker.proxy_port)).await.unwrap();
    let ask = format!("CONNECT plain.test:{} HTTP/1.0\r\n\r\n", setting.world.plain.port);
    proxy.write_all(ask.as_bytes()).await.unwrap();
    let mut proxy = BufReader::new(proxy);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(within(proxy.read_line(&mut head)).await.unwrap(), 0, "{head}");
    }
    assert_eq!(head.split(' ').nth(1), Some("200"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("content-length"), "{head}");
    let request = b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    proxy.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(proxy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("answer"), "{answer}");
}

#[tokio::test]
async fn what_is_not_listed_is_refused_and_what_the_egress_proxy_refuses_too() {
    let setting = Setting::bound().await;
    let refused = (StatusCode::FORBIDDEN, Value::from("hostNotAllowed"));
    for target in ["evil.test:443", "catalog.test:80", "169.254.169.254:80"] {
        assert_eq!(reason(setting.open_tunnel(target).await).await, refused, "{target}");
    }
    let catalog = format!("http://catalog.test:{}/", setting.world.catalog.port);
    for target in [&*catalog, "http://evil.test/"] {
        assert_eq!(reason(setting.get(target, None).await).await, refused, "{target}");
    }
    assert!(setting.world.dialled().is_empty());

    assert_eq!(reason(setting.open_tunnel("forbidden.test:443").await).await, refused);
    assert_eq!(reason(setting.get("http://forbidden.test:443/", None).await).await, refused);
    assert_eq!(setting.world.dialled(), ["forbidden.test:443", "forbidden.test:443"]);
}

#[tokio::test]
async fn an_origin_with_a_certificate_of_another_ca_sees_no_request() {
    let world = World::new().await;
    let mut relay = world.relay();
    if let Some(catalog) = &mut relay.catalog {
        catalog.origin = format!("https://catalog.test:{}", world.impostor.port);
    }
    let setting = Setting::with(relay, world).await;
    let mut grant = setting.grant(BEARER);
    if let Some(catalog) = &mut grant.catalog {
        catalog.origin = format!("https://catalog.test:{}", setting.world.impostor.port);
    }
    assert_eq!(setting.gateway.bind_with("t1", 1, grant).await.0, StatusCode::OK);
    let response = setting.get("http://catalog.test/", Some(&setting.session())).await;
    assert_eq!(reason(response).await, (StatusCode::BAD_GATEWAY, "unreachable".into()));
    assert!(setting.world.impostor.seen().is_empty());
}

#[tokio::test]
async fn a_replaced_grant_is_used_at_once_under_the_same_stand_in() {
    let setting = Setting::bound().await;
    let session = setting.session();
    // nothing is placed again: the server read its files once, and cannot hold up its own grants
    let planted = setting.worker.home().join(".local");
    fs::remove_dir_all(&planted).unwrap();
    symlink("/nowhere", &planted).unwrap();
    let outcome = |outcome: &str| (StatusCode::OK, json!({"outcome": outcome}));
    let presented = async || {
        let response = setting.get("http://registry.test/", Some(&session)).await;
        let seen = setting.world.registry.only().headers["authorization"].clone();
        (response.status(), seen.to_str().unwrap().to_owned())
    };
    // neither has an end: the present one stays until the origin refuses it
    assert_eq!(setting.bind("second").await, outcome("kept"));
    assert_eq!(presented().await, (StatusCode::OK, format!("Bearer {BEARER}")));

    setting.world.registry.revoke(&format!("Bearer {BEARER}"));
    assert_eq!(presented().await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(setting.bind("second").await, outcome("replaced"));
    assert_eq!(presented().await, (StatusCode::OK, "Bearer second".to_owned()));
    assert_eq!(setting.bind("third").await, outcome("kept"), "the new one was not refused");
}

#[tokio::test]
async fn a_401_of_another_host_says_nothing_of_the_grant() {
    let setting = Setting::bound().await;
    setting.world.plain.revoke("Bearer own");
    let plain = format!("http://plain.test:{}/", setting.world.plain.port);
    let response = setting.get(&plain, Some("Bearer own")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let kept = (StatusCode::OK, json!({"outcome": "kept"}));
    assert_eq!(setting.bind("second").await, kept);
}

#[tokio::test]
async fn granted_aws_keys_are_served_to_sdks_and_to_quilt3_and_renewed_by_the_next_bind() {
    let world = World::new().await;
    let setting = Setting::with(RelayBoot { aws_keys: true, ..world.relay() }, world).await;
    let granted = |id: &str, minutes: i64| {
        let end = Timestamp::now() + SignedDuration::from_mins(minutes);
        let aws = AwsGrant::temporary(id.into(), SECRET_KEY.into(), "t".into(), end, "r".into());
        Grant { expires_at: Some(end), aws, ..setting.grant(BEARER) }
    };
    let bind = async |grant| setting.gateway.bind_with("t1", 1, grant).await;
    assert_eq!(bind(setting.grant(BEARER)).await.1, json!({"reason": "storageFailed"}));
    assert_eq!(bind(granted("ASIA1", 15)).await.0, StatusCode::OK);
    let token = fs::read_to_string(setting.worker.home().join(".patchbay/aws-token")).unwrap();
    assert_eq!(token, setting.stand_in());

    let own = "/.patchbay/aws-credentials";
    let registry = "http://registry.test/api/auth/get_credentials";
    let keys = async || {
        let mut ids = Vec::new();
        for (target, presented) in [(own, &token), (registry, &setting.session())] {
            let response = setting.get(target, Some(presented)).await;
            assert_eq!(response.status(), StatusCode::OK, "{target}");
            let keys: Value = serde_json::from_slice(&body_of(response).await).unwrap();
            assert_eq!(keys["SecretAccessKey"], SECRET_KEY);
            ids.push(keys["AccessKeyId"].as_str().unwrap().to_owned());
        }
        ids
    };
    assert_eq!(keys().await, ["ASIA1", "ASIA1"]);
    assert_eq!(bind(granted("ASIA2", 30)).await.1, json!({"outcome": "replaced"}));
    assert_eq!(keys().await, ["ASIA2", "ASIA2"]);
    assert!(setting.world.registry.seen().is_empty(), "the registry was asked for keys");

    let foreign = (StatusCode::FORBIDDEN, Value::from("foreignCredential"));
    for presented in [None, Some("pod-other")] {
        assert_eq!(reason(setting.get(own, presented).await).await, foreign);
    }
    let logs = setting.worker.logs();
    hidden(&logs, &[SECRET_KEY, &token]);
}

#[tokio::test]
async fn bodies_are_streams_both_ways() {
    let setting = Setting::bound().await;
    let (mut sending, body) = Channel::<Bytes, hyper::Error>::new(1);
    let request = Request::post("http://catalog.test/echo")
        .header("host", "catalog.test")
        .header("authorization", setting.session())
        .body(body.boxed_unsync())
        .unwrap();
    let mut response = send(&setting.worker, request).await;
    for part in ["first", "second"] {
        sending.send_data(part.into()).await.unwrap();
        let frame = within(response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part, "it came before the request had ended");
    }
    drop(sending);
    assert_eq!(body_of(response).await, "");
}

#[tokio::test]
async fn a_session_that_cannot_be_placed_refuses_the_bind_and_keeps_others_out() {
    let setting = Setting::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), setting.worker.home().join(".local")).unwrap();
    let failed = (StatusCode::SERVICE_UNAVAILABLE, json!({"reason": "storageFailed"}));
    assert_eq!(setting.bind(BEARER).await, failed);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    let other = setting.gateway.bind_with("t2", 1, setting.grant(BEARER)).await;
    assert_eq!(other, (StatusCode::CONFLICT, json!({"reason": "otherTenant"})));

    // what stood in the way is gone: the same tenant's next bind stores it
    fs::remove_file(setting.worker.home().join(".local")).unwrap();
    assert_eq!(setting.bind(BEARER).await.0, StatusCode::OK);
    let response = setting.get("http://registry.test/", Some(&setting.session())).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_grant_without_the_classs_catalog_is_not_stored() {
    let setting = Setting::new().await;
    let failed = (StatusCode::SERVICE_UNAVAILABLE, json!({"reason": "storageFailed"}));
    let without = Grant { catalog: None, ..grant() };
    for grant in [without, grant()] {
        assert_eq!(setting.gateway.bind_with("t1", 1, grant).await, failed);
    }
    assert_eq!(texts(setting.worker.home()), [""; 0]);
}

#[tokio::test]
async fn without_an_egress_proxy_this_machine_is_reached_by_listed_addresses_alone() {
    let world = World::new().await;
    let port = world.plain.port;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let listed = |host: &str, port| HostPort { host: host.into(), port, plain_http: true };
    let relay = RelayBoot {
        hosts: vec![listed("127.0.0.1", port), listed("localhost", elsewhere)],
        ..RelayBoot::default()
    };
    let worker = Worker::ready(Options { relay, ..Options::default() }).await;
    let ask = async |target: String| send(&worker, get(&target, None).body(empty()).unwrap()).await;
    let refused = (StatusCode::FORBIDDEN, "addressNotAllowed".into());
    assert_eq!(reason(ask(format!("http://localhost:{elsewhere}/")).await).await, refused);
    assert_eq!(ask(format!("http://127.0.0.1:{port}/")).await.status(), StatusCode::OK);
    assert_eq!(world.plain.seen().len(), 1);
}

#[tokio::test]
async fn files_of_the_boot_document_are_there_before_the_server_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/launcher");
    let Options { command, .. } = Options::default();
    let server = command.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let options = Options {
        command: vec!["/bin/sh".into(), path.to_str().unwrap().into()],
        files: vec![PlacedFile {
            path: path.to_str().unwrap().into(),
            text: format!("exec {server}\n").into(),
            mode: 0o400,
        }],
        ..Options::default()
    };
    let worker = Worker::ready(options).await;
    assert_eq!(worker.witness.seen().await, [""; 0], "it runs from the placed file");
}
