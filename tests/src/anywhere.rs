//! A cluster that somebody has: the one that `KUBECONFIG` names, or else this machine's own. What is tried there needs
//! no more than an administrator's rights, and a way from here to its API server.
//!
//! Images are this machine's own to import. To another cluster whoever has it brings them, from the archives that
//! `make image-archives` writes: `PATCHBAY_TEST_REGISTRY` says where they are. This module must not know what is tried.

use crate::{
    cluster::{Cluster, default_directory},
    pods::images::{self, Made},
};
use anyhow::{Context, ensure};
use kube::{Client, Config};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// The registry in the names of images that this machine makes; it is never asked.
const OWN_REGISTRY: &str = "patchbay.dev/";

/// A cluster, and the images that it has.
pub struct Anywhere {
    /// An administrator's client.
    pub client: Client,
    /// The image of gateway and operator.
    pub controller: String,
    /// The worker's image.
    pub worker: String,
    /// The fixture server's image.
    pub fixture: String,
    own: Option<Cluster>,
}

impl Anywhere {
    /// The cluster that the environment names, or this machine's own.
    pub async fn find() -> anyhow::Result<Self> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_set("KUBECONFIG") { Self::users().await } else { Self::own().await }
    }

    async fn own() -> anyhow::Result<Self> {
        let cluster = Cluster::up(&default_directory()?).await?;
        Ok(Self {
            client: cluster.client().await?,
            controller: images::import_controller(&cluster).await?,
            worker: images::worker()?.import(&cluster).await?,
            fixture: images::fixture().await?.import(&cluster).await?,
            own: Some(cluster),
        })
    }

    async fn users() -> anyhow::Result<Self> {
        let config = Config::infer().await.context("KUBECONFIG names no cluster")?;
        let registry = std::env::var("PATCHBAY_TEST_REGISTRY").ok().filter(|it| !it.is_empty());
        let there = |made: &Made| match &registry {
            Some(registry) => {
                let name = made.name().trim_start_matches(OWN_REGISTRY);
                format!("{}/{name}", registry.trim_end_matches('/'))
            }
            None => made.name().to_owned(),
        };
        Ok(Self {
            client: Client::try_from(config)?,
            controller: there(&images::controller().await?),
            worker: there(&images::worker()?),
            fixture: there(&images::fixture().await?),
            own: None,
        })
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        self.own.as_ref().map_or_else(|| users_program("kubectl"), Cluster::kubectl)
    }

    /// Helm as the administrator.
    pub fn helm(&self) -> Command {
        self.own.as_ref().map_or_else(|| users_program("helm"), Cluster::helm)
    }

    /// A way from this machine to a pod's port, until it is dropped.
    pub async fn forward(&self, namespace: &str, pod: &str, port: &str) -> anyhow::Result<Forward> {
        let mut command = self.kubectl();
        command.args([
            "--namespace",
            namespace,
            "port-forward",
            &format!("pod/{pod}"),
            &format!(":{port}"),
        ]);
        Forward::begin(command).await
    }
}

/// A way to a pod.
pub struct Forward {
    /// Where it begins.
    pub url: String,
    _child: Child,
}

impl Forward {
    /// Runs this `kubectl port-forward`, of one port.
    pub async fn begin(mut command: Command) -> anyhow::Result<Self> {
        let mut child =
            command.stdout(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await?.context("kubectl ended")?;
        // it tells of every connection, and ends where nobody listens
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        // Forwarding from 127.0.0.1:40123 -> 8080
        let local = line.split_whitespace().nth(2).with_context(|| line.clone())?;
        ensure!(local.starts_with("127.0.0.1:"), "{line}");
        Ok(Self { url: format!("http://{local}"), _child: child })
    }
}

/// A program of the user's, on the cluster that the environment names.
fn users_program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
