//! Joins the two sides: it gives the agent connections to the MCP server's port, and pipes the server's
//! proxy connections to the agent's socket. Bytes pass as they are. It must not know HTTP, or what is
//! said.

use super::connections::Connections;
use crate::handover;
use std::{io, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};

/// Open pipes, or connections that are being made; more wait in the listener's queue.
const MAX_PIPES: usize = 1024;

/// Every open pipe, and whether there may be more.
#[derive(Debug, Clone)]
pub(crate) struct Piping(Connections);

impl Piping {
    pub(crate) fn new() -> Self {
        Self(Connections::new())
    }

    /// Answers each connection of the agent with a new one to the MCP server on `port`. Where the
    /// server takes none, the agent's is closed without a byte.
    pub(crate) async fn serve_agent(self, agent_side: UnixListener, port: u16) {
        let connect = |agent: UnixStream| async move {
            log_end(connect_server(&agent, port).await);
        };
        self.0.serve(MAX_PIPES, || agent_side.accept(), connect).await;
    }

    /// Joins each of the MCP server's proxy connections to a new one to the agent on `control`.
    pub(crate) async fn serve_proxy(self, proxy_side: TcpListener, control: PathBuf) {
        let control = Arc::new(control);
        let join = |server| {
            let control = Arc::clone(&control);
            async move { log_end(join_agent(server, &control).await) }
        };
        self.0.serve(MAX_PIPES, || proxy_side.accept(), join).await;
    }

    /// Takes no more connections and waits up to `limit` for the open pipes, which end with the
    /// server.
    pub(crate) async fn finish(self, limit: Duration) {
        self.0.close();
        if timeout(limit, self.0.tasks.wait()).await.is_err() {
            tracing::debug!("pipes were still open at the end");
        }
    }
}

async fn connect_server(agent: &UnixStream, port: u16) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    server.set_nodelay(true)?;
    handover::give(server, agent).await
}

async fn join_agent(mut server: TcpStream, control: &PathBuf) -> io::Result<()> {
    server.set_nodelay(true)?;
    let mut agent = UnixStream::connect(control).await?;
    // a tunnel: what runs in it may close one direction and go on in the other
    copy_bidirectional(&mut server, &mut agent).await.map(drop)
}

/// A pipe may end in any way that a connection can; none of them is a fault of the host.
fn log_end(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a pipe broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A host's way in for the agent, and the MCP server's listener behind it.
    async fn way_in() -> (tempfile::TempDir, PathBuf, TcpListener, Piping) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        let agent_side = UnixListener::bind(&path).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let piping = Piping::new();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(piping.clone().serve_agent(agent_side, port));
        (directory, path, server, piping)
    }

    #[tokio::test]
    async fn the_agent_is_given_a_connection_that_is_its_own() {
        let (_directory, path, listener, piping) = way_in().await;
        let agent = UnixStream::connect(&path).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut agent = handover::take(&agent).await.unwrap();
        piping.finish(Duration::from_secs(10)).await;
        agent.write_all(b"question").await.unwrap();
        let mut got = [0; 8];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut got = Vec::new();
        agent.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
    }

    #[tokio::test]
    async fn a_server_that_does_not_listen_closes_the_agents_connection() {
        let (_directory, path, listener, _piping) = way_in().await;
        drop(listener);
        let mut agent = UnixStream::connect(&path).await.unwrap();
        let mut got = Vec::new();
        agent.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty());
    }

    #[tokio::test]
    async fn a_tunnel_may_be_closed_in_one_direction_alone() {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control");
        let agent_side = UnixListener::bind(&control).unwrap();
        let proxy_side = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy_side.local_addr().unwrap();
        tokio::spawn(Piping::new().serve_proxy(proxy_side, control));

        let mut server = TcpStream::connect(address).await.unwrap();
        let (mut agent, _) = agent_side.accept().await.unwrap();
        server.shutdown().await.unwrap();
        let mut got = Vec::new();
        agent.read_to_end(&mut got).await.unwrap();
        agent.write_all(b"late").await.unwrap();
        drop(agent);
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"late");
    }
}
