//! Turns a host and a port into a connected byte stream: through the egress proxy where there is
//! one, which then decides, else by itself, and then never to an address that the policy forbids.
//! It must not know what is said on a stream.

use super::request::Target;
use patchbay_core::egress::EgressPolicy;
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_util::either::Either;

/// From the name to the connection.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// The same through the egress proxy, which has a limit of its own and says so.
const PROXY_LIMIT: Duration = Duration::from_secs(15);
/// The head of the egress proxy's answer is at most this long, bytes.
const MAX_HEAD_BYTES: u64 = 8 * 1024;

/// A connected stream. The egress proxy's is buffered: behind its answer the host's first bytes may
/// already have come.
pub(crate) type Dialled = Either<BufReader<UnixStream>, TcpStream>;

/// How to dial.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    policy: EgressPolicy,
    via: Option<PathBuf>,
}

/// A host that is not connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the host has no address that may be dialled")]
    AddressNotAllowed,
    #[error("the host cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("the host did not accept a connection in time")]
    TimedOut,
    #[error("the egress proxy cannot be reached")]
    NoProxy(#[source] io::Error),
    #[error("the egress proxy answered what is no answer")]
    BadProxy,
    #[error("the egress proxy refused with status {0}")]
    Refused(u16),
}

impl Dialler {
    /// Dials by the egress proxy at `via`, or by itself.
    pub(crate) const fn new(policy: EgressPolicy, via: Option<PathBuf>) -> Self {
        Self { policy, via }
    }

    /// Connects. Whether the class lists the target is the caller's question.
    pub(crate) async fn dial(&self, target: &Target) -> Result<Dialled, DialError> {
        let (limit, dialling) = match &self.via {
            Some(via) => (PROXY_LIMIT, Either::Left(through(via, target))),
            None => (DIAL_LIMIT, Either::Right(self.directly(target))),
        };
        timeout(limit, dialling).await.map_err(|_| DialError::TimedOut)?
    }

    async fn directly(&self, Target { host, port }: &Target) -> Result<Dialled, DialError> {
        let mut last = DialError::AddressNotAllowed;
        let addresses =
            lookup_host((host.as_str(), *port)).await.map_err(DialError::Unreachable)?;
        for address in addresses.filter(|address| self.policy.allows_address(*address)) {
            let connected = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            match connected.await {
                Ok(stream) => return Ok(Either::Right(stream)),
                Err(error) => last = DialError::Unreachable(error),
            }
        }
        Err(last)
    }
}

async fn through(via: &PathBuf, Target { host, port }: &Target) -> Result<Dialled, DialError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    let mut proxy = UnixStream::connect(via).await.map_err(DialError::NoProxy)?;
    proxy.write_all(request.as_bytes()).await.map_err(DialError::NoProxy)?;
    let mut proxy = BufReader::new(proxy);
    match status(&mut proxy).await? {
        200 => Ok(Either::Left(proxy)),
        status => Err(DialError::Refused(status)),
    }
}

/// Reads the head of an answer, and nothing behind it.
async fn status(proxy: &mut BufReader<UnixStream>) -> Result<u16, DialError> {
    let mut bounded = proxy.take(MAX_HEAD_BYTES);
    let mut line = String::new();
    bounded.read_line(&mut line).await.map_err(DialError::NoProxy)?;
    let mut words = line.split_ascii_whitespace();
    let status = match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => status,
        _ => return Err(DialError::BadProxy),
    };
    loop {
        line.clear();
        bounded.read_line(&mut line).await.map_err(DialError::NoProxy)?;
        match line.trim_ascii_end() {
            "" if line.ends_with('\n') => return Ok(status),
            "" => return Err(DialError::BadProxy),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::class::HostPort;
    use tokio::net::{TcpListener, UnixListener};

    fn target(host: &str, port: u16) -> Target {
        Target { host: host.into(), port }
    }

    #[tokio::test]
    async fn without_a_proxy_this_machine_is_dialled_only_where_its_address_is_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let listed = |host: &str| {
            let host = HostPort { host: host.into(), port, plain_http: false };
            Dialler::new(EgressPolicy::new([host]), None)
        };
        for name in ["localhost", "127.0.0.1"] {
            // the name is listed, the address that it has is not
            let refused = listed("localhost").dial(&target(name, port)).await;
            assert!(matches!(refused, Err(DialError::AddressNotAllowed)), "{name}: {refused:?}");
        }
        let dialled = listed("127.0.0.1").dial(&target("127.0.0.1", port)).await.unwrap();
        assert!(matches!(dialled, Either::Right(_)));
        listener.accept().await.unwrap();
    }

    /// Dials through a proxy that says this.
    async fn dial(said: &str) -> (Result<Dialled, DialError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let via = directory.path().join("egress");
        let listener = UnixListener::bind(&via).unwrap();
        let dialler = Dialler::new(EgressPolicy::default(), Some(via));
        let proxy = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut heard = String::new();
            while !heard.ends_with("\r\n\r\n") {
                stream.read_line(&mut heard).await.unwrap();
            }
            stream.write_all(said.as_bytes()).await.unwrap();
            heard
        };
        let target = target("::1", 443);
        tokio::join!(dialler.dial(&target), proxy)
    }

    #[tokio::test]
    async fn the_proxys_word_decides_and_the_hosts_first_bytes_are_not_lost() {
        let (dialled, heard) = dial("HTTP/1.1 200 OK\r\nX: y\r\n\r\nfirst").await;
        assert_eq!(heard, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
        let mut first = String::new();
        dialled.unwrap().read_to_string(&mut first).await.unwrap();
        assert_eq!(first, "first");

        let (refused, _) = dial("HTTP/1.1 403 Forbidden\r\n\r\n").await;
        assert!(matches!(refused, Err(DialError::Refused(403))), "{refused:?}");
        for nonsense in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 OK\r\n\r\n"] {
            let (refused, _) = dial(nonsense).await;
            assert!(matches!(refused, Err(DialError::BadProxy)), "{nonsense:?} {refused:?}");
        }
        let (refused, _) = dial(&"x".repeat(20_000)).await;
        assert!(matches!(refused, Err(DialError::BadProxy)), "{refused:?}");
    }
}
