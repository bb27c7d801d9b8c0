//! One plain address in front of several replicas of a server, as a Service is: it leads to one of them, and when it is told
//! to another, hangs up on whoever is connected, as a replica that ends does. It passes bytes and must not know what they
//! say.

use anyhow::Context;
use http::Uri;
use std::net::SocketAddr;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The address; it ends when dropped.
pub struct Replicas {
    url: String,
    behind: watch::Sender<SocketAddr>,
    _serving: JoinSet<()>,
}

impl Replicas {
    /// On a free port of 127.0.0.1, leading to the replica at this URL of an address.
    pub async fn to(url: &str) -> anyhow::Result<Self> {
        let (behind, now) = watch::channel(address(url)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, now));
        Ok(Self { url, behind, _serving: serving })
    }

    /// Without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads to another from now on.
    pub fn lead_to(&self, url: &str) -> anyhow::Result<()> {
        self.behind.send_replace(address(url)?);
        Ok(())
    }
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let uri: Uri = url.parse()?;
    uri.authority()
        .with_context(|| format!("{url} names no host"))?
        .as_str()
        .parse()
        .map_err(Into::into)
}

async fn serve(listener: TcpListener, mut behind: watch::Receiver<SocketAddr>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // one that is gone before it is here is no loss
                let Ok((mut client, _)) = accepted else { continue };
                let address = *behind.borrow();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(address).await {
                        // whoever hangs up tells the other side by that
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
            changed = behind.changed() => match changed {
                Ok(()) => connections.shutdown().await,
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
