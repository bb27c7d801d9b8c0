//! One descriptor, handed from one process to another over a Unix socket: the host makes a connection
//! to the MCP server, and the agent speaks on it.
//!
//! Bytes that the host would have to pipe cost every call two more copies and two more wake-ups; a
//! descriptor is handed over once. It must not know what is said on the connection.

use patchbay_core::boot::SERVER_CONNECTED;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, ipproto, recvmsg, sendmsg, sockopt,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// Gives a connection away. The other side gets a copy of the descriptor; the caller's is closed.
pub(crate) async fn give(connection: TcpStream, to: &UnixStream) -> io::Result<()> {
    let descriptors = [connection.as_fd()];
    to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let first = [SERVER_CONNECTED];
        sendmsg(to, &[IoSlice::new(&first)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    })
    .await
}

/// Takes the connection that the other side gives. An end without one is a connection that could not be
/// made ([`io::ErrorKind::UnexpectedEof`]): the MCP server saw nothing.
///
/// The other side is not trusted: whatever is no TCP connection of one machine is refused.
pub(crate) async fn take(from: &UnixStream) -> io::Result<TcpStream> {
    let descriptor = from.async_io(Interest::READABLE, || receive(from)).await?;
    let is_tcp = sockopt::socket_type(&descriptor)? == SocketType::STREAM
        && sockopt::socket_domain(&descriptor)? == AddressFamily::INET
        && sockopt::socket_protocol(&descriptor)? == Some(ipproto::TCP);
    if !is_tcp {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let connection = std::net::TcpStream::from(descriptor);
    connection.peer_addr()?;
    connection.set_nonblocking(true)?;
    TcpStream::from_std(connection)
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut first = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut first)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // dropping the buffer closes every descriptor that is not taken
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.filter(|_| first == [SERVER_CONNECTED]).ok_or(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::BorrowedFd;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn send(to: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn who_takes_a_connection_is_its_only_owner() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (client, mut server) = connected().await;
        give(client, &ours).await.unwrap();
        let mut client = take(&theirs).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut got = [0; 8];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"question");
        // were the giver's copy open, this would not be the connection's end
        drop(client);
        assert_eq!(server.read(&mut got).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_end_without_a_connection_says_so() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let error = take(&theirs).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_tcp_connection_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").ok();
        let mut refused = vec![file.as_fd(), listener.as_fd(), udp.as_fd(), unix.as_fd()];
        refused.extend(six.as_ref().map(|listener| listener.as_fd()));
        for descriptor in refused {
            let (ours, theirs) = UnixStream::pair().unwrap();
            send(&ours, &[SERVER_CONNECTED], &[descriptor]);
            take(&theirs).await.unwrap_err();
        }
        for bytes in [&[SERVER_CONNECTED][..], b"x"] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            send(&ours, bytes, &[]);
            let error = take(&theirs).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn of_several_descriptors_none_is_kept_open() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (first, mut first_server) = connected().await;
        let (second, mut second_server) = connected().await;
        send(&ours, &[SERVER_CONNECTED], &[first.as_fd(), second.as_fd()]);
        drop((first, second, ours));
        drop(take(&theirs).await);
        drop(theirs);
        let mut got = [0];
        assert_eq!(first_server.read(&mut got).await.unwrap(), 0);
        assert_eq!(second_server.read(&mut got).await.unwrap(), 0);
    }
}
