//! The images of a worker's pod: the worker's static program and nothing else, and the fixture server with
//! what it needs beside it. Their names have their content in them, so that no test runs an old one.

use crate::{
    binaries,
    cluster::{Cluster, Image, image},
};
use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::LazyLock,
};
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

/// The names of both images in the cluster.
#[derive(Debug, Clone)]
pub struct Images {
    /// The worker's.
    pub worker: String,
    /// The fixture server's, as `/fixture-server`.
    pub fixture: String,
}

/// What `profile: quilt` runs with its launcher, which the fixture has no use for.
const QUILT: &str = "#!/bin/sh\nexec /fixture-server\n";

/// Names for pods that are simulated, where nothing is run.
pub fn of_nothing() -> &'static Images {
    static NOTHING: LazyLock<Images> = LazyLock::new(|| Images {
        worker: "patchbay.dev/worker:simulated".into(),
        fixture: "patchbay.dev/fixture:simulated".into(),
    });
    &NOTHING
}

/// Imports both images, once in a process.
pub async fn import(cluster: &Cluster) -> anyhow::Result<&'static Images> {
    static IMPORTED: OnceCell<Images> = OnceCell::const_new();
    IMPORTED
        .get_or_try_init(async || {
            let worker = worker()?.import(cluster).await.context("the worker's image")?;
            let fixture = import_fixture(cluster).await.context("the fixture's image")?;
            Ok(Images { worker, fixture })
        })
        .await
}

/// An image that can be imported, or written for somebody else to import.
pub struct Made {
    image: Image,
    root: TempDir,
}

impl Made {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.image.name
    }

    /// The same under another name, and with its program at another path as well.
    pub fn published_as(mut self, name: &str, program: Option<&str>) -> anyhow::Result<Self> {
        name.clone_into(&mut self.image.name);
        if let Some(path) = program {
            let root = self.root.path();
            let [entrypoint] = self.image.entrypoint.as_slice() else { bail!("not one program") };
            let [from, to] = [entrypoint, path].map(|it| root.join(it.trim_start_matches('/')));
            fs::create_dir_all(to.parent().context("a program lies in a directory")?)?;
            fs::copy(from, to)?;
        }
        Ok(self)
    }

    /// Writes it as an archive (an OCI layout).
    pub fn write(&self, archive: &Path) -> anyhow::Result<()> {
        image::write(&self.image, self.root.path(), archive)
    }

    /// Imports it, and returns its name.
    pub async fn import(self, cluster: &Cluster) -> anyhow::Result<String> {
        cluster.import_root(&self.image, self.root.path()).await?;
        Ok(self.image.name)
    }
}

/// The worker's image.
pub fn worker() -> anyhow::Result<Made> {
    let program = binaries::static_worker()?;
    let root = tempfile::tempdir()?;
    fs::copy(&program, root.path().join("patchbay-worker"))?;
    let image = Image {
        name: named("worker", std::slice::from_ref(&program))?,
        entrypoint: vec!["/patchbay-worker".into()],
        user: "10002:10002".into(),
        ..Image::default()
    };
    Ok(Made { image, root })
}

/// The image of gateway and operator, with what their program needs beside it.
pub async fn controller() -> anyhow::Result<Made> {
    let root = tempfile::tempdir()?;
    let files = copy_program("patchbay", root.path()).await?;
    let image = Image {
        name: named("controller", &files)?,
        entrypoint: vec!["/patchbay".into()],
        user: "10001:10001".into(),
        ..Image::default()
    };
    Ok(Made { image, root })
}

/// The fixture server's image, with nothing else that can be run.
pub async fn fixture() -> anyhow::Result<Made> {
    fixture_named("fixture-alone").await
}

/// The image of the server that the official conformance suite is asked about.
pub async fn conformance() -> anyhow::Result<Made> {
    server_named("conformance", "conformance-server").await
}

async fn fixture_named(name: &str) -> anyhow::Result<Made> {
    server_named(name, "fixture-server").await
}

async fn server_named(name: &str, program: &str) -> anyhow::Result<Made> {
    let root = tempfile::tempdir()?;
    let files = copy_program(program, root.path()).await?;
    let image = Image {
        name: named(name, &files)?,
        entrypoint: vec![format!("/{program}")],
        // as images often do: the pod says otherwise, and the server sees none of it
        env: vec!["FROM_THE_IMAGE=yes".into()],
        user: String::new(),
    };
    Ok(Made { image, root })
}

/// Imports the image of gateway and operator, once in a process, and returns its name.
pub async fn import_controller(cluster: &Cluster) -> anyhow::Result<String> {
    static IMPORTED: OnceCell<String> = OnceCell::const_new();
    let import = async || controller().await?.import(cluster).await;
    IMPORTED.get_or_try_init(import).await.cloned()
}

async fn import_fixture(cluster: &Cluster) -> anyhow::Result<String> {
    let made = fixture_named("fixture").await?;
    let bin = made.root.path().join("bin");
    fs::create_dir_all(&bin)?;
    fs::copy(cluster.busybox_root().join("bin/busybox"), bin.join("busybox"))?;
    symlink("busybox", bin.join("sh"))?;
    fs::write(bin.join("quilt"), QUILT)?;
    fs::set_permissions(bin.join("quilt"), Permissions::from_mode(0o755))?;
    made.import(cluster).await
}

/// Copies a program of this workspace to the top of a directory, and its libraries to where it looks for them.
/// What was copied.
async fn copy_program(name: &str, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let program = binaries::path(name)?;
    fs::copy(&program, root.join(name))?;
    let mut files = vec![program.clone()];
    for library in libraries(&program).await? {
        let target = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(target.parent().context("a library lies in a directory")?)?;
        fs::copy(&library, target)?;
        files.push(library);
    }
    Ok(files)
}

fn named(what: &str, files: &[PathBuf]) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(file).with_context(|| file.display().to_string())?);
    }
    let content = HEXLOWER.encode(digest(&SHA256, &all).as_ref());
    Ok(format!("patchbay.dev/{what}:{}", &content[..16]))
}

/// The shared libraries of a program of this workspace, its loader among them.
async fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().await.context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd {}", program.display());
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
