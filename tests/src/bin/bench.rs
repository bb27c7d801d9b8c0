//! `make bench`, `make bench-clients`, `make bench-cluster`: measures what Patchbay costs and prints each figure beside its budget.
//!
//! It fails only where something could not be measured: a machine that is busy with other work must
//! not turn a figure into a failure.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use patchbay_tests::bench::{
    Scale, cluster, cold, first_contact, report::report, throughput, ways,
};
use tokio::signal::unix::{SignalKind, signal};

/// Measures first contact, added latency, throughput and memory of `patchbay local`, beside others' proxies and bridges.
#[derive(Debug, Parser)]
struct Args {
    /// Only show that everything can be measured; the figures say nothing.
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    at: Option<At>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum At {
    /// Only directly, through Patchbay, and through others' proxies and bridges
    Ways,
    /// Each official client's first contact at the real quilt-mcp, where no worker is warm
    Cold,
    /// On a Kubernetes cluster of this machine, with ten thousand tenants
    Cluster,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(until_interrupted(&args))
}

async fn until_interrupted(args: &Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // dropping what runs ends it
    tokio::select! {
        outcome = run(args) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("these are debug builds: the figures say nothing");
    }
    let scale = if args.quick { Scale::quick() } else { Scale::full() };
    match args.at {
        None => on_this_machine(&scale).await,
        Some(At::Ways) => beside_others(&scale).await,
        Some(At::Cold) => cold().await,
        Some(At::Cluster) => on_a_cluster(args.quick).await,
    }
}

async fn on_this_machine(scale: &Scale) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    eprintln!("1/3  first contacts of {} users, one after the other", scale.users);
    let contact = first_contact::measure(scale).await.context("first contacts")?;
    eprintln!("2/3  the same load directly and through the gateway, {} rounds each", scale.rounds);
    let throughput = throughput::measure(scale).await.context("load")?;
    println!("client, gateway, worker and server share {cores} cores");
    println!("{}", report(&contact, &throughput));
    eprintln!("3/3  directly, through Patchbay, and through others' proxies and bridges");
    beside_others(scale).await
}

async fn beside_others(scale: &Scale) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    let ways = ways::measure(&scale.ways).await.context("ways")?;
    println!("client, server and what is between them share {cores} cores");
    print!("{ways}");
    Ok(())
}

async fn cold() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    let figures = cold::measure().await?;
    println!("client, catalog, AWS, gateway and worker share {cores} cores");
    print!("{figures}");
    Ok(())
}

async fn on_a_cluster(is_quick: bool) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    let scale = if is_quick { cluster::Scale::quick() } else { cluster::Scale::full() };
    let figures = cluster::measure(scale).await?;
    println!(
        "control plane, operator, gateways, client and doubles of workers share {cores} cores"
    );
    print!("{}", cluster::report(&figures));
    Ok(())
}
