//! `patchbay gateway`: gateway, broker and the gateway's side of a cluster in one process.
//!
//! It watches what it serves and holds nothing that another gateway needs, so that any number of them run side by
//! side. It is ready when it knows everything and workers would listen to it; at the first signal it says that it
//! is not, lets its connections go, and ends. A second signal ends it at once.

mod args;
mod cluster_keys;
mod configuration;
mod secret_keys;

pub(crate) use args::GatewayArgs;

use crate::{
    certificates::{Files, Renewal},
    clients::wait_for_signal,
    cluster::{self, ClusterArgs},
    counted::{Counted, Counts},
    probes::{self, Probes},
    session_keys, telemetry,
    token_endpoint::TokenEndpoints,
};
use anyhow::{Context, ensure};
use arc_swap::{ArcSwap, ArcSwapOption};
use cluster_keys::ClusterKeys;
use configuration::{Problems, build};
use kube::Client;
use parking_lot::Mutex;
use patchbay_broker::{AwsSts, Broker};
use patchbay_core::{
    digest::DigestKey,
    pin::Role,
    routing::{Route, RouteTable},
    session::SessionRoots,
};
use patchbay_gateway::{
    Gateway, Limits, Listener,
    authn::{Authenticator, Sources},
    forward::{
        link::LinkContext,
        pinned::{GatewayCertificate, LinkCertificate},
    },
    metrics::Metrics,
    service::{Composition, Configuration},
};
use patchbay_orchestrator::kubernetes::{
    self, Definitions, KubernetesConfig, KubernetesOrchestrator,
};
use prometheus_client::registry::Registry;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use secret_keys::SecretKeys;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long one request to the API server may take.
const API_REQUEST: Duration = Duration::from_secs(5);
/// How long a worker that cannot be reached may take to be known as gone: a kubelet looks every second.
const SETTLE: Duration = Duration::from_secs(5);
/// How long what is left may take to end when all clients have gone.
const LAST: Duration = Duration::from_secs(5);

/// Runs until a signal.
pub(crate) fn run(args: GatewayArgs) -> anyhow::Result<()> {
    telemetry::install()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

/// What the gateway waits for before it is ready, as `/readyz` shows it.
struct Readiness {
    orchestrator: Arc<KubernetesOrchestrator>,
    certificate: Arc<LinkCertificate>,
    /// None where there are to be none.
    sessions: Option<Arc<ArcSwapOption<SessionRoots>>>,
    is_configured: AtomicBool,
    is_draining: AtomicBool,
}

impl Readiness {
    fn missing(&self) -> Vec<String> {
        let lists = self.orchestrator.missing().into_iter();
        let lists = lists.map(|kind| format!("the first list of {kind} is not complete"));
        let rest = [
            (!self.is_configured.load(Ordering::Acquire), "the configuration is not built yet"),
            (!self.certificate.is_present(), "there is no certificate for workers (--link-cert)"),
            (
                self.sessions.as_ref().is_some_and(|roots| roots.load().is_none()),
                "there are no root keys of sessions yet (--session-keys)",
            ),
            (self.is_draining.load(Ordering::Acquire), "it is shutting down"),
        ];
        let rest = rest.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text.to_owned());
        lists.chain(rest).collect()
    }
}

async fn serve(args: GatewayArgs) -> anyhow::Result<()> {
    let GatewayArgs {
        cluster: ClusterArgs { namespace, admin_listen, hold },
        listen,
        clients,
        link_cert,
        link_key,
        session_keys: session_key_file,
        lame_duck,
        drain,
    } = args;
    let limits = Limits { hold, drain, settle: SETTLE, ..Limits::default() };
    let (listener, renewal) = clients.listen(listen).await?;
    let admin_socket = probes::listen(admin_listen).await?;
    let (address, admin_address) = (listener.address()?, admin_socket.local_addr()?);
    let public_url = clients.public_url(&listener)?;

    let crypto = Arc::new(aws_lc_rs::default_provider());
    let certificate = Arc::new(LinkCertificate::default());
    let sessions = Arc::<ArcSwapOption<SessionRoots>>::default();
    let link_renewal = link_renewal(link_cert, link_key, &certificate, &crypto);
    let mut registry = Registry::default();
    let (namespace, client) = cluster::connect(namespace).await?;
    let sources = sources(&client, &namespace, &crypto);
    let orchestrator = KubernetesOrchestrator::start(
        &client,
        KubernetesConfig { namespace, hold, request: API_REQUEST },
        kubernetes::Metrics::register(&mut registry),
    );
    let nobody = Configuration {
        routes: RouteTable::default(),
        authenticator: Authenticator::new(DigestKey::generate()?, &[], &sources)?,
    };
    let configuration = Arc::new(ArcSwap::from_pointee(nobody));
    let counts = Counts::register(&mut registry);
    let endpoints = TokenEndpoints { crypto: crypto.clone(), secrets: sources.named.clone() };
    let gateway = Arc::new(Gateway::new(Composition {
        configuration: configuration.clone(),
        names: clients.names(address),
        public_url,
        orchestrator: orchestrator.clone(),
        grants: Arc::new(Broker::new(
            Arc::new(Counted(AwsSts::new(crypto.clone())?, counts.clone())),
            Arc::new(Counted(endpoints, counts)),
        )),
        links: Arc::new(LinkContext {
            crypto: crypto.clone(),
            certificate: certificate.clone(),
            sessions: sessions.clone(),
            limits,
        }),
        metrics: Metrics::register(&mut registry),
    }));
    let readiness = Arc::new(Readiness {
        orchestrator: orchestrator.clone(),
        certificate,
        sessions: session_key_file.is_some().then(|| sessions.clone()),
        is_configured: AtomicBool::new(false),
        is_draining: AtomicBool::new(false),
    });

    let problems = Problems::register(&mut registry);
    let probes = Probes {
        registry: Arc::new(Mutex::new(registry)),
        missing: Arc::new({
            let readiness = readiness.clone();
            move || readiness.missing()
        }),
    };
    // what goes on until everything else has ended
    let end = CancellationToken::new();
    let admin = tokio::spawn(probes::serve(admin_socket, probes, end.clone()));
    tracing::info!(url = format!("http://{admin_address}"), "admin pages");
    for renewal in [renewal, link_renewal] {
        tokio::spawn(end.clone().run_until_cancelled_owned(renewal.run()));
    }
    if let Some(file) = session_key_file {
        let following = session_keys::follow(file, sessions);
        tokio::spawn(end.clone().run_until_cancelled_owned(following));
    }
    let definitions = orchestrator.definitions();
    let (configured, is_configured) = watch::channel(false);
    tokio::spawn(end.clone().run_until_cancelled_owned({
        let orchestrator = orchestrator.clone();
        async move {
            orchestrator.synced().await;
            keep_configured(definitions, &configuration, &sources, problems, &configured).await;
        }
    }));

    let running = async {
        serve_clients(listener, gateway, &readiness, is_configured, lame_duck).await?;
        if timeout(LAST, orchestrator.shutdown()).await.is_err() {
            tracing::warn!("watches did not end in time");
        }
        end.cancel();
        admin.await?
    };
    tokio::select! {
        ended = running => ended,
        second = second_signal() => second,
    }
}

/// Serves from the moment at which it is known what, to the end of the drain.
async fn serve_clients(
    listener: Listener,
    gateway: Arc<Gateway>,
    readiness: &Readiness,
    mut is_configured: watch::Receiver<bool>,
    lame_duck: Duration,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let drain = gateway.drain().clone();
    let serving = async {
        // clients that come before wait in the listener's queue
        let configured = async { is_configured.wait_for(|is_so| *is_so).await.is_ok() };
        if shutdown.run_until_cancelled(configured).await == Some(true) {
            readiness.is_configured.store(true, Ordering::Release);
            let scheme = if listener.is_tls() { "https" } else { "http" };
            tracing::info!(url = format!("{scheme}://{}", listener.address()?), "serving");
        }
        listener.serve(gateway, shutdown.clone()).await;
        anyhow::Ok(())
    };
    let ending = async {
        wait_for_signal().await?;
        tracing::info!("shutting down; a second signal ends at once");
        readiness.is_draining.store(true, Ordering::Release);
        drain.announce();
        sleep(lame_duck).await;
        shutdown.cancel();
        anyhow::Ok(())
    };
    tokio::try_join!(serving, ending)?;
    Ok(())
}

/// Where the keys of issuers are, seen from a cluster.
pub(crate) fn sources(client: &Client, namespace: &str, crypto: &Arc<CryptoProvider>) -> Sources {
    let cluster = ClusterKeys { client: client.clone(), limit: API_REQUEST };
    let secrets = SecretKeys::new(client.clone(), namespace, API_REQUEST);
    Sources {
        crypto: crypto.clone(),
        cluster: Some(Arc::new(cluster)),
        named: Some(Arc::new(secrets)),
    }
}

/// Completes with the second signal.
async fn second_signal() -> anyhow::Result<()> {
    wait_for_signal().await?;
    wait_for_signal().await
}

/// Exchanges the certificate of all links when its files change. One of another role is of no use, and would
/// only be found out by the first user.
fn link_renewal(
    cert: PathBuf,
    key: PathBuf,
    certificate: &Arc<LinkCertificate>,
    crypto: &Arc<CryptoProvider>,
) -> Renewal {
    let files = Files { cert: ("--link-cert", cert), key: ("--link-key", key) };
    let (certificate, crypto) = (certificate.clone(), crypto.clone());
    Renewal::new(files, move |pair| {
        let role = pair.chain.first().and_then(Role::of_certificate);
        ensure!(
            role == Some(Role::Gateway),
            "the certificate of --link-cert does not name the role of a gateway: its one URI must be {}",
            Role::Gateway.uri()
        );
        let pair = GatewayCertificate { chain: pair.chain, key: pair.key };
        certificate.replace(pair, &crypto).context("--link-cert and --link-key do not fit")
    })
}

/// Builds the configuration anew whenever what it is made from changes.
async fn keep_configured(
    mut definitions: watch::Receiver<Arc<Definitions>>,
    configuration: &ArcSwap<Configuration>,
    sources: &Sources,
    mut problems: Problems,
    configured: &watch::Sender<bool>,
) {
    let way_in =
        |route: &Route| (route.class.name.clone(), (route.class.path.clone(), route.modes()));
    let mut told = BTreeMap::new();
    loop {
        let now = definitions.borrow_and_update().clone();
        let (next, wrong) = build(&now, &configuration.load(), sources);
        let (routes, providers) = (next.routes.routes().len(), now.providers().len());
        let reached: BTreeMap<_, _> = next.routes.routes().iter().map(way_in).collect();
        for (class, (path, modes)) in &reached {
            if told.get(class) != reached.get(class) {
                tracing::info!(%class, path, modes, "a class is reached");
            }
        }
        told = reached;
        configuration.store(Arc::new(next));
        tracing::info!(routes, providers, "the configuration is in use");
        problems.tell(wrong);
        configured.send_replace(true);
        if definitions.changed().await.is_err() {
            return;
        }
    }
}
