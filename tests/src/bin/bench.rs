//! `make bench`: measures what Patchbay costs and prints each figure beside its budget.
//!
//! It fails only where something could not be measured: a machine that is busy with other work must
//! not turn a figure into a failure.

use anyhow::{Context, bail};
use clap::Parser;
use patchbay_tests::bench::{Scale, first_contact, report::Report, throughput};
use tokio::signal::unix::{SignalKind, signal};

/// Measures first contact, added latency, throughput and memory of `patchbay local`.
#[derive(Debug, Parser)]
struct Args {
    /// Only show that everything can be measured; the figures say nothing.
    #[arg(long)]
    quick: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { quick } = Args::parse();
    let scale = if quick { Scale::quick() } else { Scale::full() };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(until_interrupted(&scale))
}

async fn until_interrupted(scale: &Scale) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // dropping what runs ends it
    tokio::select! {
        outcome = run(scale) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}

async fn run(scale: &Scale) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    if cfg!(debug_assertions) {
        eprintln!("these are debug builds: the figures say nothing");
    }
    eprintln!("1/2  first contacts of {} users, one after the other", scale.users);
    let contact = first_contact::measure(scale).await.context("first contacts")?;
    eprintln!("2/2  the same load directly and through the gateway, {} rounds each", scale.rounds);
    let throughput = throughput::measure(scale).await.context("load")?;
    println!("client, gateway, worker and server share {cores} cores");
    print!("{}", Report::new(&contact, &throughput));
    Ok(())
}
