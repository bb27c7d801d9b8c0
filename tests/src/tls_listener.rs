//! TLS on a port of its own, for doubles that are asked over https. It turns a certificate authority into what `axum`
//! serves on. It must not know what is answered.

use crate::catalog::tls::TestCa;
use axum::serve::Listener;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A listening port.
pub struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl TlsListener {
    /// On a free port of this address, which the certificate names. Where it listens.
    pub async fn bind(address: Ipv4Addr, ca: &TestCa) -> anyhow::Result<(Self, SocketAddr)> {
        Self::bind_as(&address.to_string(), (address, 0).into(), ca).await
    }

    /// On this address, where the certificate names something else.
    pub async fn bind_as(
        name: &str,
        address: SocketAddr,
        ca: &TestCa,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let tcp = TcpListener::bind(address).await?;
        let tls = TlsAcceptor::from(ca.server(vec![name.to_owned()])?);
        let at = tcp.local_addr()?;
        Ok((Self { tcp, tls }, at))
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // an error is of that one connection
            let Ok((stream, address)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
