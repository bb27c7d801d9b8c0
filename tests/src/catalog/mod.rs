//! The double of a Quilt catalog and its registry: what quilt3, quilt-mcp and Patchbay ask one,
//! answered over TLS by the rules of the real one, with every request recorded and faults on
//! demand.
//!
//! Behind it are real parts: RS256 tokens with a key set, and AWS credentials from an STS. It turns
//! a [`World`] into two origins (catalog and registry) and a loopback control port. It must not
//! know Patchbay: what it accepts and records is what any catalog would see.

pub mod credentials;
pub mod fault;
pub mod fixture;
pub mod graphql;
pub mod keys;
mod query;
pub mod record;
mod routes;
mod search;
mod serve;
mod sigv4;
pub(crate) mod sts;
pub mod tls;
pub mod world;

use anyhow::{Context, ensure};
use credentials::Credentials;
use fault::Faults;
use graphql::Directory;
use jiff::SignedDuration;
use parking_lot::Mutex;
use record::{Bearers, Origin, Record};
use serde_json::{Value, json};
use serve::Front;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use sts::Sts;
use tls::TestCa;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use world::World;

/// Where and how a double runs. The default takes free ports of 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the catalog's origin; port 0 picks a free one.
    pub catalog: SocketAddr,
    /// Address of the registry's origin.
    pub registry: SocketAddr,
    /// Address of the control port: plain HTTP, loopback only, nobody is asked who they are.
    pub control: SocketAddr,
    /// Names that the certificate carries beside the two addresses. The first becomes the host of
    /// the catalog's URL and the second, else the first, that of the registry's; without any, the
    /// addresses do.
    pub names: Vec<String>,
    /// The audience of its tokens beside the catalog itself.
    pub gateway_audience: String,
    /// How bearers are recorded.
    pub bearers: Bearers,
    /// How long AWS credentials live. From 15 minutes down, quilt3 fetches new ones at every use.
    pub aws_lifetime: SignedDuration,
}

impl Default for Config {
    fn default() -> Self {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            catalog: free,
            registry: free,
            control: free,
            names: Vec::new(),
            gateway_audience: "https://patchbay.example".into(),
            bearers: Bearers::default(),
            aws_lifetime: SignedDuration::from_hours(1),
        }
    }
}

/// A running double; it ends when dropped.
pub struct Catalog {
    shared: Arc<Shared>,
    url: String,
    control_url: String,
    ca_pem: String,
    _stop: DropGuard,
}

/// What all routes see.
pub(crate) struct Shared {
    world: World,
    registry_url: String,
    credentials: Credentials,
    directory: Mutex<Directory>,
    sts: Sts,
    record: Record,
    faults: Faults,
}

impl Catalog {
    /// Starts a double of `world`; its listeners are open when this returns.
    pub async fn start(config: Config, world: World) -> anyhow::Result<Self> {
        ensure!(config.control.ip().is_loopback(), "the control port must be on loopback");
        let catalog = bind(config.catalog).await?;
        let registry = bind(config.registry).await?;
        let control = bind(config.control).await?;
        let (catalog_at, registry_at) = (catalog.local_addr()?, registry.local_addr()?);

        let mut names = config.names.clone();
        let catalog_host = names.first().cloned().unwrap_or_else(|| host(catalog_at));
        let registry_host =
            names.get(1).or(names.first()).cloned().unwrap_or_else(|| host(registry_at));
        names.extend([catalog_at.ip().to_string(), registry_at.ip().to_string()]);
        names.sort_unstable();
        names.dedup();
        let url = format!("https://{catalog_host}:{}", catalog_at.port());

        let ca = TestCa::generate()?;
        let tls = TlsAcceptor::from(ca.server(names)?);
        let shared = Arc::new(Shared {
            registry_url: format!("https://{registry_host}:{}", registry_at.port()),
            credentials: Credentials::new(url.clone(), config.gateway_audience)?,
            directory: Mutex::new(Directory::of(&world)),
            sts: Sts::new(config.aws_lifetime),
            record: Record::new(config.bearers),
            faults: Faults::default(),
            world,
        });

        let stop = CancellationToken::new();
        let front = |origin, app| Front {
            origin,
            shared: Arc::clone(&shared),
            app,
            tls: tls.clone(),
            stop: stop.clone(),
        };
        let catalog_front = front(Origin::Catalog, routes::catalog(Arc::clone(&shared)));
        tokio::spawn(catalog_front.serve(catalog));
        let registry_front = front(Origin::Registry, routes::registry(Arc::clone(&shared)));
        tokio::spawn(registry_front.serve(registry));
        let control_url = format!("http://{}", control.local_addr()?);
        let control_app = routes::control(Arc::clone(&shared));
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                _ = axum::serve(control, control_app).into_future() => {}
            }
        });
        Ok(Self { shared, url, control_url, ca_pem: ca.pem().to_owned(), _stop: stop.drop_guard() })
    }

    /// The catalog's origin: the issuer of its tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The registry's origin.
    pub fn registry_url(&self) -> &str {
        &self.shared.registry_url
    }

    /// Where the record can be read: `GET /__double/requests`.
    pub fn control_url(&self) -> &str {
        &self.control_url
    }

    /// The certificate authority to trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where it is, as a class or a provider says it.
    pub fn origins(&self) -> Value {
        json!({
            "origin": self.url(), "registry": self.registry_url(), "caBundle": self.ca_pem(),
        })
    }

    /// Where its keys are, as a provider says it.
    pub fn jwks(&self) -> Value {
        json!({
            "url": format!("{}/.well-known/jwks.json", self.url()), "caBundle": self.ca_pem(),
        })
    }

    /// The world that it serves.
    pub fn world(&self) -> &World {
        &self.shared.world
    }

    /// Mints and revokes tokens and keys.
    pub fn credentials(&self) -> &Credentials {
        &self.shared.credentials
    }

    /// What it was asked.
    pub fn record(&self) -> &Record {
        &self.shared.record
    }

    /// What is wrong with it.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// An address as the host of a URL.
fn host(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
