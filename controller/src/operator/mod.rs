//! `patchbay operator`: wires the operator of a cluster, its probes and its certificate.

mod args;
mod authority;

pub(crate) use args::OperatorArgs;

use crate::{
    clients::next_signal,
    cluster::{self, ClusterArgs},
    probes::{self, Probes},
    telemetry,
};
use anyhow::{Context, ensure};
use parking_lot::Mutex;
use patchbay_core::cidr::Cidr;
use patchbay_operator::{
    Settings,
    driver::{Metrics, Operator, State},
    link::CurrentCertificate,
    session_roots::SessionRootKeeper,
    worker_class::Pace,
};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT. Losing the leadership is an error: the process is to begin again.
pub(crate) fn run(args: OperatorArgs) -> anyhow::Result<()> {
    telemetry::install()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: OperatorArgs) -> anyhow::Result<()> {
    let OperatorArgs {
        cluster: ClusterArgs { namespace, admin_listen, hold },
        worker_image,
        image_pull_secrets,
        cluster_ranges,
        dns,
        session_secret,
        authority,
    } = args;
    let (namespace, client) = cluster::connect(namespace).await?;
    ensure!(!worker_image.is_empty(), "--worker-image must name the image that holds the worker");
    let settings = Settings {
        image_pull_secrets,
        cluster_ranges: ranges("--cluster-range", &cluster_ranges)?,
        dns: ranges("--dns", &dns)?,
        ..Settings::new(namespace, worker_image)
    };
    let shutdown = CancellationToken::new();
    let certificate = CurrentCertificate::default();
    let vouching = authority::of(authority, &client, &settings, &certificate)?;
    for renewal in vouching.renewals {
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(renewal));
    }

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
    let signalled = next_signal()?;
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            signalled.await;
            tracing::info!("ending: what has begun is finished first");
            shutdown.cancel();
        }
    });

    let pace = Pace { hold, ..Pace::default() };
    let authority = vouching.authority;
    let session_roots = session_secret
        .map(|name| SessionRootKeeper::new(client.clone(), &settings.namespace, name));
    let operator =
        Operator { client, settings, pace, certificate, authority, session_roots, metrics, state };
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
