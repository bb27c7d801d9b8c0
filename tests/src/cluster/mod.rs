//! A real Kubernetes cluster on this machine, brought up and down: etcd, the control plane, and one node with
//! kubelet, containerd and runc; services by kube-proxy and `CoreDNS`, network policies by kube-router.
//!
//! Everything runs on a node with namespaces of its own ([`node`]); the host has a link to it, a cgroup for its
//! pods, and a directory with its files. The programs come from `scripts/cluster-components`. It must not know
//! what the cluster is used for.

mod addons;
pub mod addresses;
mod arguments;
mod certificates;
mod cgroups;
pub mod component;
mod files;
pub mod image;
mod import;
pub mod layout;
mod link;
mod make;
mod node;
mod process;
mod ready;
pub mod simulated;
mod state;
mod strict;

pub use self::{
    component::Component,
    image::Image,
    ready::{Final, never, until, until_within},
    strict::{Strict, from, is_ready, shell_pod},
};

use self::{
    addresses::Addresses,
    certificates::NODE,
    layout::Layout,
    make::{ensure_empty, take_down},
    process::Recorded,
    state::{State, Turn, take_turn},
};
use crate::repository::made_by;
use anyhow::{Context, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
pub(crate) use node::apart;
use rustix::process::geteuid;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// How long the kernel may take to end a process, or everything on a node.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A cluster that is up.
pub struct Cluster {
    layout: Layout,
    /// As it was found. Which components run is looked up, since others may start some.
    state: State,
    /// The first process, where this process is its parent and has to wait for it.
    init: Option<Child>,
}

/// What is known of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Which one.
    pub component: Component,
    /// Its process; none if it is not running.
    pub pid: Option<u32>,
}

/// Where a cluster is if nobody says where: `PATCHBAY_CLUSTER_DIRECTORY`, or a place in the user's cache.
pub fn default_directory() -> anyhow::Result<PathBuf> {
    let path = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(directory) = path("PATCHBAY_CLUSTER_DIRECTORY") {
        return Ok(directory);
    }
    let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
    Ok(cache.context("HOME is not set")?.join("patchbay/cluster-run"))
}

impl Cluster {
    /// Brings a cluster up in `directory`, or finds it there. What is left of one that did not come up, or of
    /// which the node is gone, is taken down first; a component that is not running is started.
    pub async fn up(directory: &Path) -> anyhow::Result<Self> {
        ensure!(geteuid().is_root(), "a cluster makes namespaces, which takes root");
        let layout = Layout::new(directory)?;
        let _turn = wait_for_turn(&layout).await?;
        if let Some(cluster) = Self::find(&layout)? {
            for component in Component::ALL {
                cluster.ensure_started(component).await?;
            }
            cluster.ready().await?;
            return Ok(cluster);
        }
        take_down(&layout)?;
        ensure_empty(&layout)?;
        let programs = programs().await?;
        let logs = layout.logs();
        Self::make(layout, programs)
            .await
            .with_context(|| format!("what the components said is in {}", logs.display()))
    }

    /// The cluster that is up in `directory`, if there is one.
    pub fn attach(directory: &Path) -> anyhow::Result<Option<Self>> {
        Self::find(&Layout::new(directory)?)
    }

    /// Takes down what is in `directory`, whatever state it is in. Nothing there is no error.
    pub fn take_down(directory: &Path) -> anyhow::Result<()> {
        let layout = Layout::new(directory)?;
        if !directory.exists() {
            return Ok(());
        }
        let _turn = take_turn(&layout)?;
        take_down(&layout)
    }

    /// Takes this cluster down; nothing of it is left but its empty directory.
    pub fn down(mut self) -> anyhow::Result<()> {
        Self::take_down(self.layout.directory())?;
        if let Some(mut init) = self.init.take() {
            init.wait()?;
        }
        Ok(())
    }

    fn find(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let Some(state) = State::load(layout)? else {
            return Ok(None);
        };
        let is_there = match &state.init {
            Some(init) => state.is_up && init.is_alive()?,
            None => false,
        };
        Ok(is_there.then(|| Self { layout: layout.clone(), state, init: None }))
    }

    /// Ends a component as the kernel would.
    pub fn kill(&self, component: Component) -> anyhow::Result<()> {
        self.process(component)?.map_or(Ok(()), |process| process.kill(END_LIMIT))
    }

    /// Starts a component if it is not running. It may take a moment to do its work: see [`Self::ready`].
    pub async fn start(&self, component: Component) -> anyhow::Result<()> {
        let _turn = wait_for_turn(&self.layout).await?;
        self.ensure_started(component).await
    }

    async fn ensure_started(&self, component: Component) -> anyhow::Result<()> {
        if component.needs_api() {
            self.api_ready().await?;
        }
        if component.needs_node() {
            let client = self.client().await?;
            ready::until("the node is known", async || ready::is_node_known(&client, NODE).await)
                .await?;
        }
        self.launch(component)
    }

    /// Waits until every component does its work, the node takes pods, and services have addresses and names.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.api_ready().await?;
        let client = self.client().await?;
        ready::until("the node takes pods", async || {
            self.nobody_ended()?;
            ready::is_node_ready(&client, NODE).await
        })
        .await?;
        let mut config = self.config().await?;
        config.cluster_url = self.addresses()?.api_url().parse()?;
        let as_a_service = Client::try_from(config)?;
        ready::until("the API server is reached as a service", async || {
            self.nobody_ended()?;
            ready::is_api_ready(&as_a_service).await
        })
        .await?;
        ready::until("the name server is ready", async || {
            self.nobody_ended()?;
            ready::is_dns_ready(&client).await
        })
        .await
    }

    async fn api_ready(&self) -> anyhow::Result<()> {
        let client = self.client().await?;
        ready::until("the API server is ready", async || ready::is_api_ready(&client).await).await
    }

    /// Every component, and whether it runs.
    pub fn status(&self) -> anyhow::Result<Vec<Status>> {
        Component::ALL
            .into_iter()
            .map(|component| Ok(Status { component, pid: self.pid(component)? }))
            .collect()
    }

    /// The process of a component, as the host numbers it; none if it is not running.
    pub fn pid(&self, component: Component) -> anyhow::Result<Option<u32>> {
        match self.process(component)? {
            Some(process) if process.is_alive()? => Ok(Some(process.pid())),
            _ => Ok(None),
        }
    }

    /// What was started last, by whomever.
    fn process(&self, component: Component) -> anyhow::Result<Option<Recorded>> {
        Ok(self.current_state()?.components.remove(&component))
    }

    fn current_state(&self) -> anyhow::Result<State> {
        let state = State::load(&self.layout)?.context("the cluster was taken down")?;
        ensure!(state.id == self.state.id, "the cluster was taken down, and another one made");
        Ok(state)
    }

    fn nobody_ended(&self) -> anyhow::Result<()> {
        for Status { component, pid } in self.status()? {
            let log = self.layout.log(component);
            ensure!(pid.is_some(), "{component} has ended: see {}", log.display());
        }
        Ok(())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The authority that vouches for the API server, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.layout.pki("ca.crt")
    }

    /// A client that may do everything.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A client that may do what `user` may: the administrator, acting as them.
    pub async fn client_as(&self, user: &str) -> anyhow::Result<Client> {
        let mut config = self.config().await?;
        config.auth_info.impersonate = Some(user.to_owned());
        Ok(Client::try_from(config)?)
    }

    /// The administrator's client, but it shows every answer: the usual one asks again where the API server is busy, and takes a
    /// refused eviction, which has the same status, for that.
    pub async fn client_without_retries(&self) -> anyhow::Result<Client> {
        let mut config = self.config().await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.state.programs.join("kubernetes"));
        command
            .arg("kubectl")
            .env("KUBECONFIG", self.kubeconfig())
            // it keeps what it discovers there
            .env("KUBECACHEDIR", self.layout.config("kubectl"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Helm as the administrator, with nothing of the user's own configuration.
    pub fn helm(&self) -> Command {
        let mut command = Command::new(self.state.programs.join("helm"));
        let own = self.layout.config("helm");
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HELM_CACHE_HOME", own.join("cache"))
            .env("HELM_CONFIG_HOME", own.join("config"))
            .env("HELM_DATA_HOME", own.join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The definitions, as published, of kinds that the chart uses and that are others': the cluster has none of
    /// them until somebody makes them.
    pub fn others_definitions(&self) -> anyhow::Result<Vec<CustomResourceDefinition>> {
        let files = fs::read_dir(self.state.programs.join("definitions"))?;
        files.map(|file| Ok(serde_saphyr::from_str(&fs::read_to_string(file?.path())?)?)).collect()
    }

    /// Where it is: what runs inside has these addresses, and pods reach the host at one of them.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        self.state.addresses.context("the cluster has no addresses")
    }

    /// Who asked the API server for what.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// What a component has said.
    pub fn log(&self, component: Component) -> PathBuf {
        self.layout.log(component)
    }
}

/// Waits for the turn without holding up whoever has it.
async fn wait_for_turn(layout: &Layout) -> anyhow::Result<Turn> {
    let layout = layout.clone();
    tokio::task::spawn_blocking(move || take_turn(&layout)).await?
}

/// The programs of a cluster, built at their first use.
async fn programs() -> anyhow::Result<PathBuf> {
    made_by("cluster-components", &[]).await
}
