//! The way out of a class's sandboxes: a CONNECT proxy on a Unix socket.
//!
//! Sandboxes have no network. An agent connects to its class's socket and names a host and a port; this
//! proxy asks the class's policy, resolves the name, asks the policy again about the address, dials and
//! pipes bytes. It reads nothing of what is piped. This module must not know credentials or catalogs.

use patchbay_core::egress::{EgressPolicy, Means};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream, lookup_host},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A CONNECT request is a line and a few headers.
const MAX_REQUEST_BYTES: u64 = 8 * 1024;
/// From the connection to its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// From the request to the connection that it asks for.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Open connections of one class.
const MAX_CONNECTIONS: usize = 4096;

/// Where a class's sandboxes may go, and where nobody may.
#[derive(Debug)]
pub(super) struct Egress {
    /// What the class allows.
    pub policy: EgressPolicy,
    /// This controller's own listeners: no worker reaches them, under any address.
    pub own: Vec<SocketAddr>,
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no CONNECT request")]
    Malformed,
    #[error("the class does not allow {0}:{1}")]
    NotAllowed(String, u16),
    #[error("{0} has no address that may be dialled")]
    AddressNotAllowed(String),
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] io::Error),
    #[error("{0} did not answer in time")]
    TimedOut(String),
}

impl Refusal {
    const fn status(&self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::NotAllowed(..) | Self::AddressNotAllowed(_) => "403 Forbidden",
            Self::Unreachable(..) => "502 Bad Gateway",
            Self::TimedOut(_) => "504 Gateway Timeout",
        }
    }
}

/// Makes a class's socket.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(path)
}

/// Serves a class's socket until `shutdown`.
pub(super) async fn serve(listener: UnixListener, egress: Egress, shutdown: CancellationToken) {
    let egress = Arc::new(egress);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an egress connection");
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!("too many egress connections; one was closed");
            continue;
        };
        let (egress, shutdown) = (egress.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = pipe(stream, &egress) => {}
                () = shutdown.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn pipe(stream: UnixStream, egress: &Egress) {
    let mut client = BufStream::new(stream);
    let outcome = async {
        let (host, port) = timeout(REQUEST_LIMIT, read_request(&mut client))
            .await
            .map_err(|_| Refusal::Malformed)??;
        timeout(DIAL_LIMIT, dial(egress, &host, port)).await.map_err(|_| Refusal::TimedOut(host))?
    };
    match outcome.await {
        Ok(mut server) => {
            let begun = client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await;
            if begun.is_ok() && client.flush().await.is_ok() {
                // either side may leave at any time: no error of this is news
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
        Err(refusal) => {
            tracing::info!(error = &refusal as &dyn std::error::Error, "egress refused");
            let answer = format!(
                "HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                refusal.status()
            );
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.flush().await;
        }
    }
}

/// Reads `CONNECT host:port HTTP/1.1` and its headers, which mean nothing here.
async fn read_request(client: &mut BufStream<UnixStream>) -> Result<(String, u16), Refusal> {
    let mut bounded = client.take(MAX_REQUEST_BYTES);
    let mut line = String::new();
    bounded.read_line(&mut line).await.map_err(|_| Refusal::Malformed)?;
    let target = parse_connect(&line).ok_or(Refusal::Malformed)?;
    loop {
        line.clear();
        match bounded.read_line(&mut line).await {
            Ok(0) | Err(_) => return Err(Refusal::Malformed),
            Ok(_) if line == "\r\n" || line == "\n" => return Ok(target),
            Ok(_) => {}
        }
    }
}

/// The host and port of a CONNECT line.
fn parse_connect(line: &str) -> Option<(String, u16)> {
    let mut words = line.split_whitespace();
    let is_connect = words.next()? == "CONNECT";
    let (host, port) = words.next()?.rsplit_once(':')?;
    let is_http = words.next()?.starts_with("HTTP/1.");
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let is_plain = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_:".contains(&c));
    (is_connect && is_http && is_plain && words.next().is_none())
        .then(|| Some((host.to_ascii_lowercase(), port.parse().ok()?)))?
}

async fn dial(egress: &Egress, host: &str, port: u16) -> Result<TcpStream, Refusal> {
    if !egress.policy.allows(host, port, Means::Tunnel) {
        return Err(Refusal::NotAllowed(host.to_owned(), port));
    }
    let unreachable = |error| Refusal::Unreachable(host.to_owned(), error);
    let mut last = Refusal::AddressNotAllowed(host.to_owned());
    for address in lookup_host((host, port)).await.map_err(unreachable)? {
        if !egress.policy.allows_address(address) || is_own(address, &egress.own) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                return stream.set_nodelay(true).map(|()| stream).map_err(unreachable);
            }
            Err(error) => last = unreachable(error),
        }
    }
    Err(last)
}

/// Whether an address is one of this controller's listeners. A listener on all addresses is found at each
/// address of this machine.
fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|listener| {
        listener.port() == address.port()
            && (listener.ip().to_canonical() == ip
                || (listener.ip().is_unspecified() && is_of_this_machine(ip)))
    })
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::class::HostPort;
    use tokio::net::TcpListener;

    #[test]
    fn only_a_plain_connect_line_is_understood() {
        let parsed = |line: &str| parse_connect(line);
        assert_eq!(parsed("CONNECT A.example:443 HTTP/1.1\r\n"), Some(("a.example".into(), 443)));
        assert_eq!(parsed("CONNECT [::1]:443 HTTP/1.1\r\n"), Some(("::1".into(), 443)));
        for bad in [
            "",
            "GET http://a/ HTTP/1.1",
            "CONNECT a HTTP/1.1",
            "CONNECT a:0x1 HTTP/1.1",
            "CONNECT a:70000 HTTP/1.1",
            "CONNECT :443 HTTP/1.1",
            "CONNECT a:443",
            "CONNECT a:443 HTTP/2",
            "CONNECT a:443 HTTP/1.1 x",
            "CONNECT u@a:443 HTTP/1.1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_controllers_own_listeners_are_known_under_every_address() {
        let own = ["0.0.0.0:8080".parse().unwrap(), "10.0.0.9:9090".parse().unwrap()];
        assert!(is_own("127.0.0.1:8080".parse().unwrap(), &own));
        assert!(is_own("10.0.0.9:9090".parse().unwrap(), &own));
        assert!(is_own("[::ffff:10.0.0.9]:9090".parse().unwrap(), &own));
        assert!(!is_own("127.0.0.1:8081".parse().unwrap(), &own));
        // TEST-NET-1 is nobody's
        assert!(!is_own("192.0.2.1:8080".parse().unwrap(), &own));
    }

    struct Proxy {
        path: std::path::PathBuf,
        _directory: tempfile::TempDir,
        _stop: tokio_util::sync::DropGuard,
    }

    fn proxy(hosts: Vec<HostPort>, own: Vec<SocketAddr>) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e");
        let stop = CancellationToken::new();
        let egress = Egress { policy: EgressPolicy::new(hosts), own };
        tokio::spawn(serve(listen(&path).unwrap(), egress, stop.clone()));
        Proxy { path, _directory: directory, _stop: stop.drop_guard() }
    }

    async fn ask(proxy: &Proxy, request: &str) -> (String, UnixStream) {
        let mut stream = UnixStream::connect(&proxy.path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    }

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        address
    }

    fn listed(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port(), plain_http: false }
    }

    #[tokio::test]
    async fn a_listed_address_is_piped_both_ways() {
        let server = echo().await;
        let proxy = proxy(vec![listed(server)], Vec::new());
        let (head, mut stream) =
            ask(&proxy, &format!("CONNECT {server} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
    }

    #[tokio::test]
    async fn what_is_not_listed_and_what_is_the_controllers_own_is_refused() {
        let server = echo().await;
        let proxy_without = proxy(Vec::new(), Vec::new());
        let request = format!("CONNECT {server} HTTP/1.1\r\n\r\n");
        assert!(ask(&proxy_without, &request).await.0.starts_with("HTTP/1.1 403 "));
        let own = proxy(vec![listed(server)], vec![server]);
        assert!(ask(&own, &request).await.0.starts_with("HTTP/1.1 403 "));
        assert!(ask(&own, "GET / HTTP/1.1\r\n\r\n").await.0.starts_with("HTTP/1.1 400 "));
    }

    #[tokio::test]
    async fn a_listed_name_that_resolves_to_loopback_is_refused() {
        let server = echo().await;
        let name = HostPort { host: "localhost".into(), port: server.port(), plain_http: false };
        let proxy = proxy(vec![name], Vec::new());
        let request = format!("CONNECT localhost:{} HTTP/1.1\r\n\r\n", server.port());
        assert!(ask(&proxy, &request).await.0.starts_with("HTTP/1.1 403 "));
    }
}
