//! Bringing up and taking down, step by step. Whatever is made outside of the cluster's directory is written down
//! first, so that it can be taken down from any step on, by anybody.

use super::{
    Cluster, Component, END_LIMIT, arguments, certificates, cgroups, files,
    layout::{Layout, Plan},
    link, node,
    state::{State, make_private, write_private},
};
use anyhow::{Context, ensure};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

impl Cluster {
    pub(super) async fn make(layout: Layout, programs: PathBuf) -> anyhow::Result<Self> {
        // whatever is made is written down first
        let mut state = State::new(programs);
        state.save(&layout)?;
        for directory in [
            layout.pki(""),
            layout.config("cni"),
            layout.config("registries/_default"),
            layout.logs(),
            layout.etcd(),
            layout.images(),
        ] {
            make_private(&directory)?;
        }
        // what is in there becomes the node's /var/lib, /var/log and temporary files, which any uid may look into
        for directory in ["lib", "log", "tmp"].map(|name| layout.node().join(name)) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        let node = node::make(layout.directory())?;
        state.init = Some(node.process().clone());
        state.save(&layout)?;
        let addresses = link::make(&state.link(), node.process())?;
        state.addresses = Some(addresses);
        state.save(&layout)?;
        let init = node.set_up(&format!("{} {}", addresses.node(), addresses.all()))?;
        cgroups::make(&state.cgroup())?;

        let cluster = Self { layout, state, init: Some(init) };
        cluster.configure()?;
        let (first, then): (Vec<_>, Vec<_>) =
            Component::ALL.into_iter().partition(|component| !component.needs_api());
        for component in first {
            cluster.launch(component)?;
        }
        cluster.import_pause().await?;
        cluster.import_dns().await?;
        cluster.api_ready().await?;
        cluster.create_addons().await?;
        for component in then {
            cluster.ensure_started(component).await?;
        }
        cluster.ready().await?;
        let state = State { is_up: true, ..cluster.current_state()? };
        state.save(&cluster.layout)?;
        Ok(cluster)
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        Ok(Plan {
            layout: self.layout.clone(),
            programs: self.state.programs.clone(),
            addresses: self.addresses()?,
            cgroup: self.state.cgroup(),
        })
    }

    fn configure(&self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let layout = &plan.layout;
        for (name, content) in files::all(&plan) {
            write_private(&layout.config(name), content)?;
        }
        let clients = certificates::make(layout, plan.addresses)?;
        for (path, user) in [
            (layout.kubeconfig(), &clients.administrator),
            (layout.kubeconfig_of(Component::Controllers), &clients.controllers),
            (layout.kubeconfig_of(Component::Scheduler), &clients.scheduler),
            (layout.kubeconfig_of(Component::Kubelet), &clients.kubelet),
            (layout.kubeconfig_of(Component::Proxy), &clients.proxy),
            (layout.kubeconfig_of(Component::Firewall), &clients.firewall),
            (layout.kubeconfig_of(Component::Kwok), &clients.kwok),
        ] {
            let content = files::kubeconfig(plan.addresses, &clients.authority, user);
            write_private(&path, content)?;
        }
        Ok(())
    }

    async fn create_addons(&self) -> anyhow::Result<()> {
        let output =
            self.kubectl().arg("create").arg("-f").arg(self.layout.config(files::ADDONS)).output();
        let output = output.await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl create: {}", complaint.trim());
        Ok(())
    }

    /// Starts a component without waiting for it. What runs is not started twice, if this is done in turn.
    pub(super) fn launch(&self, component: Component) -> anyhow::Result<()> {
        if self.pid(component)?.is_some() {
            return Ok(());
        }
        let (program, arguments) = arguments::command(component, &self.plan()?);
        let init = self.state.init.as_ref().context("there is no node")?;
        let log = self.layout.log(component);
        let temporary = self.layout.node().join("tmp");
        let process = node::start(init, &program, &arguments, path_of(component), &temporary, &log)
            .with_context(|| format!("cannot start {component}"))?;
        let mut state = self.current_state()?;
        state.components.insert(component, process);
        state.save(&self.layout)
    }
}

/// Where a component looks for other programs. Without sbin kubelet finds no iptables, and makes no rules of
/// its own.
const fn path_of(component: Component) -> &'static str {
    match component {
        Component::Proxy | Component::Firewall => "/usr/sbin:/usr/bin:/sbin:/bin",
        _ => "/usr/bin:/bin",
    }
}

/// Ends and removes everything that the state says was made.
pub(super) fn take_down(layout: &Layout) -> anyhow::Result<()> {
    // left by a run that ended before it made anything
    remove(&layout.unfinished_state())?;
    let Some(state) = State::load(layout)? else {
        return Ok(());
    };
    if let Some(init) = &state.init {
        init.kill(END_LIMIT)?;
    }
    link::remove(&state.link())?;
    cgroups::remove(&state.cgroup())?;
    layout.contents().iter().try_for_each(|path| remove(path))
}

/// Removes a file or directory, if it is there.
fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A directory with something else in it is no place for a cluster, whose end would take that away.
pub(super) fn ensure_empty(layout: &Layout) -> anyhow::Result<()> {
    let directory = layout.directory();
    let is_empty = fs::read_dir(directory)?.next().is_none();
    ensure!(is_empty, "there is something else in {}", directory.display());
    Ok(())
}
