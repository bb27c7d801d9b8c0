//! `patchbay operator`: wires the operator of a cluster, its probes and its certificate.

mod args;
mod certificate;

pub(crate) use args::OperatorArgs;

use crate::{
    probes::{self, Probes},
    telemetry,
};
use anyhow::{Context, ensure};
use kube::{Client, Config};
use parking_lot::Mutex;
use patchbay_core::cidr::Cidr;
use patchbay_operator::{
    Settings,
    driver::{Metrics, Operator, State},
    worker_class::Pace,
};
use prometheus_client::registry::Registry;
use std::{sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT. Losing the leadership is an error: the process is to begin again.
pub(crate) fn run(args: OperatorArgs) -> anyhow::Result<()> {
    telemetry::install()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: OperatorArgs) -> anyhow::Result<()> {
    let OperatorArgs {
        namespace,
        worker_image,
        image_pull_secrets,
        cluster_ranges,
        dns,
        hold,
        link_cert,
        link_key,
        admin_listen,
    } = args;
    ensure!(!namespace.is_empty(), "--namespace must name the namespace of classes and workers");
    ensure!(!worker_image.is_empty(), "--worker-image must name the image that holds the worker");
    let settings = Settings {
        image_pull_secrets,
        cluster_ranges: ranges("--cluster-range", &cluster_ranges)?,
        dns: ranges("--dns", &dns)?,
        ..Settings::new(namespace, worker_image)
    };
    let shutdown = CancellationToken::new();
    let certificate = certificate::watched(link_cert, link_key, shutdown.clone())?;
    let mut config = Config::infer().await.context(
        "there is no way to a cluster: set KUBECONFIG, or run in a pod with a service account",
    )?;
    // whether a repeated write is the same, only its writer knows
    config.default_retry = false;
    let client = Client::try_from(config).context("the way to the cluster is of no use")?;

    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let state = Arc::new(State::default());
    let listener = probes::listen(admin_listen).await?;
    tracing::info!(address = %listener.local_addr()?, "admin pages");
    let pages = Probes {
        registry: Arc::new(Mutex::new(registry)),
        missing: Arc::new({
            let state = Arc::clone(&state);
            move || state.missing()
        }),
    };
    let end_of_pages = CancellationToken::new();
    let admin = tokio::spawn(probes::serve(listener, pages, end_of_pages.clone()));
    tokio::spawn(end_on_signal(shutdown.clone())?);

    let pace = Pace { hold: Duration::from_secs(hold), ..Pace::default() };
    let operator = Operator { client, settings, pace, certificate, metrics, state };
    let led = operator.run(&shutdown).await;
    end_of_pages.cancel();
    admin.await??;
    Ok(led?)
}

fn ranges(flag: &str, texts: &[String]) -> anyhow::Result<Vec<Cidr>> {
    let read = |text: &String| {
        Cidr::parse(text).with_context(|| {
            format!("{flag} {text} is no range: write an address and a prefix length, such as 10.0.0.0/8")
        })
    };
    texts.iter().map(read).collect()
}

/// What ends the operator when a signal comes.
fn end_on_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("ending: what has begun is finished first");
        shutdown.cancel();
    })
}
