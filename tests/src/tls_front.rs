//! TLS in front of something that speaks plainly: the address by which clients know a gateway, or that of a service of AWS's.
//! It passes bytes and must not know what they say.

use crate::{catalog::tls::TestCa, tls_listener::TlsListener};
use axum::serve::Listener as _;
use parking_lot::Mutex;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{io::copy_bidirectional, net::TcpStream, task::JoinSet};

/// The front; it ends when dropped.
pub struct TlsFront {
    url: String,
    behind: Arc<Mutex<Option<SocketAddr>>>,
    _serving: JoinSet<()>,
}

impl TlsFront {
    /// On a free port of 127.0.0.1, leading nowhere yet: known before what lies behind it is started.
    pub async fn open(ca: &TestCa) -> anyhow::Result<Self> {
        let (listener, address) = TlsListener::bind(Ipv4Addr::LOCALHOST, ca).await?;
        Ok(Self::of(listener, format!("https://{address}")))
    }

    /// On this address, by this name.
    pub async fn open_as(name: &str, address: SocketAddr, ca: &TestCa) -> anyhow::Result<Self> {
        let (listener, _) = TlsListener::bind_as(name, address, ca).await?;
        Ok(Self::of(listener, format!("https://{name}")))
    }

    fn of(listener: TlsListener, url: String) -> Self {
        let behind = Arc::<Mutex<Option<SocketAddr>>>::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, behind.clone()));
        Self { url, behind, _serving: serving }
    }

    /// Without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads there from now on.
    pub fn lead_to(&self, address: SocketAddr) {
        *self.behind.lock() = Some(address);
    }
}

async fn serve(mut listener: TlsListener, behind: Arc<Mutex<Option<SocketAddr>>>) {
    let mut connections = JoinSet::new();
    loop {
        // not beside anything else: to give up a connection that begins would end it
        let (mut client, _) = listener.accept().await;
        while connections.try_join_next().is_some() {}
        // who comes before there is something behind it is hung up on
        let Some(address) = *behind.lock() else { continue };
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(address).await {
                // either side may go away, which the other then sees
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
