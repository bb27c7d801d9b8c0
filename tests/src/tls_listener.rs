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
        let tcp = TcpListener::bind((address, 0)).await?;
        let tls = TlsAcceptor::from(ca.server(vec![address.to_string()])?);
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
