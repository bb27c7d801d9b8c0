//! Descriptors, handed from one process to another over a Unix socket: the host makes a connection to the MCP server,
//! or starts it with pipes, and the agent speaks on them.
//!
//! Bytes that the host would have to pipe cost every call two more copies and two more wake-ups; a
//! descriptor is handed over once. It must not know what is said on the connection.

use patchbay_core::boot::{SERVER_CONNECTED, SERVER_FAILED};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, ipproto, recvmsg, sendmsg, sockopt,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};
use tokio::{
    io::Interest,
    net::{
        TcpStream, UnixStream,
        unix::pipe::{Receiver, Sender},
    },
};

/// Gives a connection away. The other side gets a copy of the descriptor; the caller's is closed.
pub(crate) async fn give(connection: TcpStream, to: &UnixStream) -> io::Result<()> {
    send(to, [SERVER_CONNECTED], &[connection.as_fd()]).await
}

/// Gives our ends of a program's standard streams away, its input's first.
pub(crate) async fn give_pipes(stdin: OwnedFd, stdout: OwnedFd, to: &UnixStream) -> io::Result<()> {
    send(to, [SERVER_CONNECTED], &[stdin.as_fd(), stdout.as_fd()]).await
}

/// Says that there is nothing to give.
pub(crate) async fn give_nothing(to: &UnixStream) -> io::Result<()> {
    send(to, [SERVER_FAILED], &[]).await
}

async fn send(to: &UnixStream, first: [u8; 1], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
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
    let Given::Descriptors(descriptors) = receive(from).await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let [descriptor] = only(descriptors)?;
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

/// Takes the ends of a program's standard streams; none where the program did not start, which a line says more of.
///
/// Whatever is no pipe of the right direction is refused.
pub(crate) async fn take_pipes(from: &UnixStream) -> io::Result<Option<(Sender, Receiver)>> {
    let descriptors = match receive(from).await? {
        Given::Nothing => return Ok(None),
        Given::Descriptors(descriptors) => descriptors,
    };
    let [stdin, stdout] = only(descriptors)?;
    Ok(Some((Sender::from_owned_fd(stdin)?, Receiver::from_owned_fd(stdout)?)))
}

/// What one message on the socket brought.
enum Given {
    Descriptors(Vec<OwnedFd>),
    Nothing,
}

fn only<const N: usize>(descriptors: Vec<OwnedFd>) -> io::Result<[OwnedFd; N]> {
    descriptors.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

async fn receive(from: &UnixStream) -> io::Result<Given> {
    from.async_io(Interest::READABLE, || receive_now(from)).await
}

fn receive_now(from: &UnixStream) -> io::Result<Given> {
    let mut first = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut first)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // dropping one closes it
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    match first {
        [SERVER_CONNECTED] => Ok(Given::Descriptors(descriptors)),
        [SERVER_FAILED] => Ok(Given::Nothing),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
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
    async fn pipes_arrive_in_their_directions_and_nothing_else_does() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut child_in, stdin) = std::io::pipe().unwrap();
        let (stdout, mut child_out) = std::io::pipe().unwrap();
        give_pipes(stdin.into(), stdout.into(), &ours).await.unwrap();
        let (mut writes, mut reads) = take_pipes(&theirs).await.unwrap().unwrap();
        writes.write_all(b"in").await.unwrap();
        drop(writes);
        let mut got = String::new();
        std::io::Read::read_to_string(&mut child_in, &mut got).unwrap();
        std::io::Write::write_all(&mut child_out, b"out").unwrap();
        drop(child_out);
        reads.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "inout");

        give_nothing(&ours).await.unwrap();
        assert!(take_pipes(&theirs).await.unwrap().is_none());

        let (read, write) = std::io::pipe().unwrap();
        let (client, _server) = connected().await;
        for wrong in [
            &[read.as_fd(), write.as_fd()][..],
            &[write.as_fd()],
            &[client.as_fd(), client.as_fd()],
            &[],
        ] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            send(&ours, &[SERVER_CONNECTED], wrong);
            take_pipes(&theirs).await.unwrap_err();
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
