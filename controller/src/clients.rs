//! How clients come in: what `patchbay local` and `patchbay gateway` have in common, as arguments and as what is
//! made of them. It must not know where workers are. Doc comments on arguments are what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use crate::{
    admin::host_name,
    certificates::{Files, Renewal, ServerCertificate},
};
use anyhow::Context as _;
use clap::Args;
use http::Uri;
use patchbay_gateway::{Listener, origin::AllowedNames, public_url::PublicUrl};
use rustls::ServerConfig;
use std::{net::SocketAddr, path::PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// How clients come in.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// PEM file of the certificate (and intermediates) that clients see; enables TLS. It is read again when
    /// it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "PATCHBAY_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "PATCHBAY_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen without TLS on an address that is not loopback (TLS ends in front of the gateway).
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// How clients address the gateway, where something in front of it has another name:
    /// https://HOST[:PORT], without a path. A class with a host is told by that, with the same scheme and port.
    #[arg(long, value_name = "URL", env = "PATCHBAY_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,
    /// A further host name under which clients reach the gateway (loopback names are always allowed).
    #[arg(long = "allowed-host", value_name = "HOST")]
    pub(crate) allowed_hosts: Vec<String>,
    /// A further origin whose browser pages may use the gateway, such as https://app.example.
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,
}

impl ClientArgs {
    /// Listens, and what renews the certificate that clients see.
    pub(crate) async fn listen(&self, address: SocketAddr) -> anyhow::Result<(Listener, Renewal)> {
        let (tls, renewal) = match self.tls_cert.clone().zip(self.tls_key.clone()) {
            None => (None, Renewal::none()),
            Some((cert, key)) => {
                let files = Files { cert: ("--tls-cert", cert), key: ("--tls-key", key) };
                let (certificate, renewal) = ServerCertificate::load(files).await?;
                let config =
                    ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificate);
                (Some(config), renewal)
            }
        };
        Ok((Listener::bind(address, tls, self.insecure_listen).await?, renewal))
    }

    /// How clients address the gateway.
    pub(crate) fn public_url(&self, listener: &Listener) -> anyhow::Result<PublicUrl> {
        match &self.public_url {
            Some(url) => url.parse().with_context(|| format!("--public-url {url}")),
            None if listener.is_tls() => Ok(PublicUrl::Https),
            None => Ok(PublicUrl::Http),
        }
    }

    /// The names that the gateway answers to: where it listens, what clients are told to call it, and what else it
    /// was told.
    pub(crate) fn names(&self, address: SocketAddr) -> AllowedNames {
        let public = self.public_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        let public = public.and_then(|url| url.host().map(str::to_owned));
        let hosts = self.allowed_hosts.iter().cloned().chain(host_name(address)).chain(public);
        AllowedNames::new(hosts, self.allowed_origins.iter().cloned())
    }
}

/// Completes with the next SIGINT or SIGTERM after this call.
pub(crate) fn next_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes with the next SIGINT or SIGTERM.
pub(crate) async fn wait_for_signal() -> anyhow::Result<()> {
    next_signal()?.await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use http::HeaderMap;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        clients: ClientArgs,
    }

    #[test]
    fn the_name_that_clients_are_told_is_one_that_is_answered_to() {
        let told = |flag: &str| {
            let command = Command::try_parse_from(["patchbay", flag]).unwrap();
            let names = command.clients.names("10.0.0.1:8080".parse().unwrap());
            let headers =
                HeaderMap::from_iter([("host".parse().unwrap(), "mcp.example".parse().unwrap())]);
            names.check(&Uri::from_static("/mcp"), &headers, [].into_iter()).is_ok()
        };
        assert!(told("--public-url=https://mcp.example"));
        assert!(told("--public-url=https://MCP.example:8443"));
        assert!(told("--allowed-host=mcp.example"));
        assert!(!told("--public-url=https://other.example"));
    }
}
