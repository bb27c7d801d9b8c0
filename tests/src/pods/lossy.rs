//! A way to the API server that can lose answers, or be slow with them: requests arrive, and what is said to them does
//! not, or only later.

use parking_lot::Mutex;
use std::net::SocketAddr;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// The way. Its connections end with it.
pub struct Lossy {
    /// Where it begins.
    pub address: SocketAddr,
    are_answers_held: watch::Sender<bool>,
    connections: std::sync::Arc<Mutex<JoinSet<()>>>,
    _listening: JoinSet<()>,
}

impl Lossy {
    /// Leads from a free port of the loopback address to `target`.
    pub async fn to(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let are_answers_held = watch::Sender::new(false);
        let connections = std::sync::Arc::new(Mutex::new(JoinSet::new()));
        let mut listening = JoinSet::new();
        let (held, tasks) = (are_answers_held.clone(), connections.clone());
        listening.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let held = held.subscribe();
                tasks.lock().spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let (from_client, to_client) = client.into_split();
                        let (from_server, mut to_server) = server.into_split();
                        let mut from_client = from_client;
                        tokio::select! {
                            _ = io::copy(&mut from_client, &mut to_server) => {}
                            () = answers(from_server, to_client, held) => {}
                        }
                    }
                });
            }
        });
        Ok(Self { address, are_answers_held, connections, _listening: listening })
    }

    /// From now on requests arrive and answers do not.
    pub fn hold_answers(&self) {
        self.are_answers_held.send_replace(true);
    }

    /// Answers arrive again, and those that were held before them.
    pub fn release(&self) {
        self.are_answers_held.send_replace(false);
    }

    /// Ends every connection, with the answers that were held. New ones are whole.
    pub fn cut(&self) {
        self.connections.lock().abort_all();
        self.are_answers_held.send_replace(false);
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut are_held: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if are_held.wait_for(|held| !held).await.is_err() {
            return;
        }
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}
