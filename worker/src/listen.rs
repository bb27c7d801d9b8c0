//! Turns a boot document's listening places into listeners: an inherited socket, a path to make, or
//! a TCP address. It must not know what is said on the connections.

use crate::inherited::{self, InheritedError};
use patchbay_core::boot::Listen;
use rustix::io::Errno;
use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
    time::sleep,
};
use tokio_util::either::Either;

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// A connection of either kind.
pub(crate) type Stream = Either<UnixStream, TcpStream>;

/// Listens for connections of either kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Where the link will listen.
#[derive(Debug)]
pub(crate) enum Reserved {
    /// It listens: whoever connects before it is served waits.
    Listening(Listener),
    /// A port that is taken, and refuses connections until [`Reserved::listen`].
    Port(TcpSocket),
}

/// A place that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on descriptor {fd}")]
    Descriptor {
        fd: i32,
        #[source]
        source: InheritedError,
    },
    #[error("cannot listen on `{}`", path.display())]
    Path {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot watch the inherited socket")]
    Watch(#[source] io::Error),
    #[error("only a Unix socket may be listened on here, and not {0:?}")]
    NotUnix(Listen),
}

impl Reserved {
    /// Takes any kind of place, so that nobody else can. A port of every address refuses connections for now.
    pub(crate) async fn take(place: &Listen) -> Result<Self, ListenError> {
        match place {
            Listen::Tcp(address) => tcp(*address).await.map(Self::Listening),
            Listen::Port(port) => {
                // a socket of the newer family takes both, but a kernel may be without that family
                match reserve((Ipv6Addr::UNSPECIFIED, *port).into()) {
                    Err(ListenError::Tcp { source, .. }) if is_without_family(&source) => {
                        reserve((Ipv4Addr::UNSPECIFIED, *port).into())
                    }
                    result => result,
                }
            }
            Listen::Fd(_) | Listen::Path(_) => unix(place).map(Listener::Unix).map(Self::Listening),
        }
    }

    /// Takes connections from now on.
    pub(crate) fn listen(self) -> Result<Listener, ListenError> {
        match self {
            Self::Listening(listener) => Ok(listener),
            Self::Port(socket) => {
                let address = socket.local_addr().unwrap_or((Ipv6Addr::UNSPECIFIED, 0).into());
                let listener = socket.listen(BACKLOG);
                listener.map(Listener::Tcp).map_err(|source| ListenError::Tcp { address, source })
            }
        }
    }
}

impl Listener {
    /// The next connection. Errors concern that connection or a want of descriptors, not the
    /// listener.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }
}

/// Without `SO_REUSEADDR`: with it, whoever has it too could listen here before this does.
fn reserve(address: SocketAddr) -> Result<Reserved, ListenError> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let bound = socket.and_then(|socket| socket.bind(address).map(|()| socket));
    bound.map(Reserved::Port).map_err(|source| ListenError::Tcp { address, source })
}

async fn tcp(address: SocketAddr) -> Result<Listener, ListenError> {
    TcpListener::bind(address)
        .await
        .map(Listener::Tcp)
        .map_err(|source| ListenError::Tcp { address, source })
}

fn is_without_family(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What was accepted; none after a failure, which is logged.
///
/// A failed accept is mostly a want of descriptors, and nothing tells when that ends: hence the
/// pause.
pub(crate) async fn accepted<S>(result: io::Result<S>) -> Option<S> {
    match result {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Listens on a Unix socket; must be called inside the runtime.
pub(crate) fn unix(place: &Listen) -> Result<UnixListener, ListenError> {
    match place {
        Listen::Fd(fd) => {
            let listener = inherited::unix_listener(*fd)
                .map_err(|source| ListenError::Descriptor { fd: *fd, source })?;
            listener.set_nonblocking(true).map_err(ListenError::Watch)?;
            UnixListener::from_std(listener).map_err(ListenError::Watch)
        }
        Listen::Path(path) => {
            make(path).map_err(|source| ListenError::Path { path: path.clone(), source })
        }
        Listen::Tcp(_) | Listen::Port(_) => Err(ListenError::NotUnix(place.clone())),
    }
}

fn make(path: &Path) -> io::Result<UnixListener> {
    // a container that is started again in its pod finds the socket of its former life
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // agent and host are different users of one group (the volume's)
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_former_life_is_replaced_but_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        drop(unix(&Listen::Path(socket.clone())).unwrap());
        let again = unix(&Listen::Path(socket.clone())).unwrap();
        let (_client, accepted) = tokio::join!(UnixStream::connect(&socket), again.accept());
        accepted.unwrap();

        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(unix(&Listen::Path(file.clone())).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_and_group_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = unix(&Listen::Path(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_tcp_address_is_refused_where_only_unix_sockets_may_be() {
        let place = Listen::Tcp(([127, 0, 0, 1], 0).into());
        assert!(matches!(unix(&place), Err(ListenError::NotUnix(_))));
        let taken = Reserved::take(&place).await;
        assert!(matches!(taken, Ok(Reserved::Listening(Listener::Tcp(_)))));
    }

    #[tokio::test]
    async fn a_port_is_nobody_elses_before_it_listens_and_is_then_reached_by_both_families() {
        assert!(matches!(unix(&Listen::Port(0)), Err(ListenError::NotUnix(_))));
        let Reserved::Port(socket) = Reserved::take(&Listen::Port(0)).await.unwrap() else {
            panic!("it listens already");
        };
        let port = socket.local_addr().unwrap().port();
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // the library sets SO_REUSEADDR, as a server would
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        let Listener::Tcp(listener) = Reserved::Port(socket).listen().unwrap() else {
            panic!("a port is TCP's");
        };
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }
}
