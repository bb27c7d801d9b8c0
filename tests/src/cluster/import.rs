//! Images into a cluster: containerd is handed an archive, and no registry is asked.

use super::{
    Cluster, addons, files,
    image::{self, Image},
    ready,
    state::make_private,
};
use anyhow::{Context, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

impl Cluster {
    /// Makes an image of the directory `root` and imports it.
    pub async fn import_root(&self, image: &Image, root: &Path) -> anyhow::Result<()> {
        make_private(&self.layout.images())?;
        let archive = tempfile::Builder::new().suffix(".tar").tempfile_in(self.layout.images())?;
        image::write(image, root, archive.path())?;
        self.import_archive(&image.name, archive.path()).await
    }

    /// Imports the image `name` from an archive (an OCI layout, or what `docker save` writes), and waits until
    /// pods can use it.
    pub async fn import_archive(&self, name: &str, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("a plain path")?;
        self.ctr(&["images", "import", archive]).await?;
        let filter = format!("name=={name}");
        ready::until("kubelet's view of containerd has the image", async || {
            // containerd tells itself by an event, and then says so by this label
            let listed = self.ctr(&["images", "list", &filter]).await?;
            Ok(listed.contains("io.cri-containerd.image=managed"))
        })
        .await
    }

    pub(super) async fn import_pause(&self) -> anyhow::Result<()> {
        let socket = self.containerd_socket()?;
        ready::until("containerd listens", async || Ok(socket.exists())).await?;
        let root = self.layout.images().join("busybox");
        image::busybox_root(&self.state.programs.join("busybox"), &root)?;
        let entrypoint = ["/bin/busybox", "sleep", "2147483647"].map(str::to_owned).into();
        let name = files::PAUSE_IMAGE.to_owned();
        self.import_root(&Image { name, entrypoint, ..Image::default() }, &root).await
    }

    pub(super) async fn import_dns(&self) -> anyhow::Result<()> {
        let root = tempfile::tempdir_in(self.layout.images())?;
        fs::copy(self.state.programs.join("coredns"), root.path().join("coredns"))?;
        self.import_root(&addons::dns_image(), root.path()).await
    }

    /// A root file system with a shell and a few small programs, to make images of.
    pub fn busybox_root(&self) -> PathBuf {
        self.layout.images().join("busybox")
    }

    /// The node has a /run of its own, which the host sees through its first process.
    fn containerd_socket(&self) -> anyhow::Result<PathBuf> {
        let init = self.state.init.as_ref().context("there is no node")?;
        Ok(format!("/proc/{}/root/run/containerd/containerd.sock", init.pid()).into())
    }

    async fn ctr(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(self.state.programs.join("ctr"))
            .arg("--address")
            .arg(self.containerd_socket()?)
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {}: {}", arguments.join(" "), complaint.trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}
