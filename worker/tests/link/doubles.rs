//! The world outside of a worker: https and plain http hosts that remember what they were sent, and
//! an egress proxy on a Unix socket, to which every name is this machine.

use crate::within;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use patchbay_core::{
    boot::{RelayBoot, RelayCatalog},
    class::HostPort,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
};
use serde_json::json;
use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, OnceLock},
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
        copy_bidirectional,
    },
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A host that the class lists and the egress proxy refuses.
pub(crate) const FORBIDDEN: &str = "forbidden.test";

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A request as a host got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) port: u16,
    seen: Mutex<Vec<Seen>>,
    /// Values of `Authorization` that are answered with 401.
    revoked: Mutex<Vec<String>>,
    /// Where `/config.json` and `/redirect` point.
    registry: OnceLock<String>,
    /// What it gives to who asks for AWS keys.
    keys: Mutex<String>,
}

impl Host {
    /// Gives this from now on to who asks for AWS keys.
    pub(crate) fn give(&self, keys: &str) {
        keys.clone_into(&mut self.keys.lock());
    }

    /// Takes what was sent since it was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock())
    }

    /// The one request since it was last asked.
    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    pub(crate) fn revoke(&self, authorization: &str) {
        self.revoked.lock().push(authorization.to_owned());
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (host, tls) = (Arc::clone(&self), tls.clone());
            tokio::spawn(async move {
                match tls {
                    // a client that does not trust this host leaves during the handshake
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => host.http(stream).await,
                        Err(_) => Ok(()),
                    },
                    None => host.http(stream).await,
                }
            });
        }
    }

    async fn http<S>(self: Arc<Self>, stream: S) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(move |request| {
            let answer = self.answer(request);
            async { Ok::<_, Infallible>(answer) }
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.to_string();
        let authorization = parts.headers.get("authorization").map(|it| it.to_str().unwrap());
        let is_revoked = self.revoked.lock().iter().any(|it| Some(it.as_str()) == authorization);
        let seen = Seen { method: parts.method, target: target.clone(), headers: parts.headers };
        self.seen.lock().push(seen);
        let registry = self.registry.get().cloned().unwrap_or_default();
        let builder = Response::builder().header("set-cookie", "session=secret");
        let text =
            |text: String| Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
        let response = match target.as_str() {
            _ if is_revoked => {
                builder.status(StatusCode::UNAUTHORIZED).body(text("revoked".into()))
            }
            "/config.json" => builder
                .header("etag", "\"1\"")
                .body(text(json!({"registryUrl": registry, "region": "us-east-1"}).to_string())),
            "/redirect" => builder
                .status(StatusCode::FOUND)
                .header("location", format!("{registry}/there?a=b"))
                .body(text(String::new())),
            "/api/auth/get_credentials" => builder.body(text(self.keys.lock().clone())),
            "/echo" => builder.body(body.boxed_unsync()),
            _ => builder.body(text("answer".into())),
        };
        response.unwrap()
    }
}

/// Everything outside of one worker.
pub(crate) struct World {
    pub(crate) catalog: Arc<Host>,
    pub(crate) registry: Arc<Host>,
    /// An https host whose certificate is by another CA.
    pub(crate) impostor: Arc<Host>,
    pub(crate) plain: Arc<Host>,
    ca: String,
    trust: TlsConnector,
    dialled: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (ca, impostors_ca) = (ca(), ca());
        let catalog = host(Some(acceptor(&ca))).await;
        let registry = host(Some(acceptor(&ca))).await;
        let impostor = host(Some(acceptor(&impostors_ca))).await;
        let plain = host(None).await;
        catalog.registry.set(format!("https://registry.test:{}", registry.port)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let dialled = Arc::default();
        let listener = UnixListener::bind(egress(directory.path())).unwrap();
        tokio::spawn(serve_egress(listener, Arc::clone(&dialled)));
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let trust = Arc::new(config).into();
        Self { catalog, registry, impostor, plain, ca: ca.pem(), trust, dialled, directory }
    }

    /// A relay for this world, through its egress proxy.
    pub(crate) fn relay(&self) -> RelayBoot {
        let listed =
            |host: &str, port, plain_http| HostPort { host: host.into(), port, plain_http };
        RelayBoot {
            hosts: vec![
                listed("catalog.test", self.catalog.port, false),
                listed("registry.test", self.registry.port, false),
                listed("plain.test", self.plain.port, true),
                listed(FORBIDDEN, 443, true),
            ],
            catalog: Some(RelayCatalog {
                origin: self.origin(),
                registry: format!("https://registry.test:{}", self.registry.port),
                ca_bundle: Some(self.ca.clone()),
            }),
            aws_keys: false,
            via: Some(egress(self.directory.path())),
        }
    }

    /// The catalog's origin.
    pub(crate) fn origin(&self) -> String {
        format!("https://catalog.test:{}", self.catalog.port)
    }

    /// What the egress proxy was asked for.
    pub(crate) fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut self.dialled.lock())
    }

    /// A client's TLS with the catalog over a stream.
    pub(crate) async fn tls<S>(&self, stream: S) -> TlsStream<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("catalog.test").unwrap();
        within(self.trust.connect(name, stream)).await.unwrap()
    }
}

fn egress(directory: &Path) -> std::path::PathBuf {
    directory.join("egress")
}

async fn host(tls: Option<TlsAcceptor>) -> Arc<Host> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = Arc::new(Host {
        port: listener.local_addr().unwrap().port(),
        seen: Mutex::default(),
        revoked: Mutex::default(),
        registry: OnceLock::new(),
        keys: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&host).serve(listener, tls));
    host
}

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(ca: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let names = ["catalog.test", "registry.test"].map(str::to_owned);
    let certificate =
        CertificateParams::new(names).unwrap().signed_by(&key, ca).unwrap().der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    Arc::new(config).into()
}

async fn serve_egress(listener: UnixListener, dialled: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let dialled = Arc::clone(&dialled);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            let target = head.split(' ').nth(1).unwrap().to_owned();
            dialled.lock().push(target.clone());
            let (host, port) = target.rsplit_once(':').unwrap();
            if host == FORBIDDEN {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
                return;
            }
            let mut host = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut host).await;
        });
    }
}
