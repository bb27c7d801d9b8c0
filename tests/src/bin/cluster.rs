//! `make cluster-up`, `make cluster-down`: a real Kubernetes cluster on this machine.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use patchbay_tests::{
    cluster::{Cluster, Status, default_directory, layout::Layout},
    pods::images,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A Kubernetes cluster on this machine, for tests.
#[derive(Debug, Parser)]
struct Args {
    /// Where its files are; by default `PATCHBAY_CLUSTER_DIRECTORY`, or a place in the user's cache
    #[arg(long, global = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Bring it up, if it is not, and print the path of its kubeconfig
    Up,
    /// Take it down; nothing is left
    Down {
        /// But for what its components said, in this directory
        #[arg(long)]
        keep_logs: Option<PathBuf>,
    },
    /// Write the images of which `cluster_anywhere` is made into a directory, as archives, and print their names: for a
    /// cluster that is somebody's own
    Images {
        /// Where to
        into: PathBuf,
    },
    /// Import an image from an archive (an OCI layout, or what `docker save` writes), and wait until pods can use it
    Import {
        /// What it is called, registry and tag included, as `images` prints it
        name: String,
        /// The archive
        archive: PathBuf,
    },
    /// Say what runs; fail if something does not
    Status,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { directory, action } = Args::parse();
    let directory = match directory {
        Some(directory) => std::path::absolute(directory)?,
        None => default_directory()?,
    };
    match action {
        Action::Up => {
            let cluster = Cluster::up(&directory).await?;
            println!("{}", cluster.kubeconfig().display());
            Ok(())
        }
        Action::Down { keep_logs } => {
            if let Some(to) = keep_logs {
                keep(&Layout::new(&directory)?.logs(), &to)?;
            }
            Cluster::take_down(&directory)
        }
        Action::Images { into } => {
            fs::create_dir_all(&into)?;
            for made in [images::controller().await?, images::worker()?, images::fixture().await?] {
                let file = made.name().rsplit('/').next().and_then(|name| name.split(':').next());
                let archive = into.join(format!("{}.tar", file.context("a name")?));
                made.write(&archive)?;
                println!("{} {}", made.name(), archive.display());
            }
            Ok(())
        }
        Action::Import { name, archive } => {
            attach(&directory)?.import_archive(&name, &archive).await?;
            println!("{name}");
            Ok(())
        }
        Action::Status => {
            let cluster = attach(&directory)?;
            let mut are_all_running = true;
            for Status { component, pid } in cluster.status()? {
                are_all_running &= pid.is_some();
                let state =
                    pid.map_or("not running".to_owned(), |pid| format!("running, pid {pid}"));
                println!("{component:<24} {state}");
            }
            println!("KUBECONFIG={}", cluster.kubeconfig().display());
            if !are_all_running {
                bail!("not everything runs; `cluster up` starts it");
            }
            Ok(())
        }
    }
}

fn attach(directory: &Path) -> anyhow::Result<Cluster> {
    Cluster::attach(directory)?.context("no cluster is up: `cluster up` brings one up")
}

/// Copies what is in `logs`, if anything is.
fn keep(logs: &Path, to: &Path) -> anyhow::Result<()> {
    if !logs.exists() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
