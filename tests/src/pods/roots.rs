//! Images of root file systems that `scripts/image-root` makes, as operators of a cluster get them from a
//! registry: the controller's, and the quilt worker's MCP server. Their names have their content in them.

use crate::{
    cluster::{Cluster, Image, image},
    repository::made_by,
};
use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// The interpreter of the quilt worker's image, which is its class's command.
pub const QUILT_PYTHON: &str = "/opt/quilt-venv/bin/python";

/// Imports the image of quilt-mcp, once in a process, and returns its name.
pub async fn quilt(cluster: &Cluster) -> anyhow::Result<String> {
    static IMPORTED: OnceCell<String> = OnceCell::const_new();
    let image = Image {
        entrypoint: vec![QUILT_PYTHON.to_owned()],
        user: "10001:10001".to_owned(),
        ..Image::default()
    };
    IMPORTED.get_or_try_init(|| import(cluster, "quilt", image)).await.cloned()
}

/// Imports the image of gateway and operator, the static program alone, once in a process, and returns its name.
pub async fn controller(cluster: &Cluster) -> anyhow::Result<String> {
    static IMPORTED: OnceCell<String> = OnceCell::const_new();
    let image = Image {
        entrypoint: vec!["/patchbay".to_owned()],
        user: "10001:10001".to_owned(),
        ..Image::default()
    };
    IMPORTED.get_or_try_init(|| import(cluster, "controller", image)).await.cloned()
}

/// Where the root file system of an image is, with its bill of materials beside it.
pub async fn image_root(name: &str) -> anyhow::Result<PathBuf> {
    made_by("image-root", &[name]).await
}

async fn import(cluster: &Cluster, name: &str, image: Image) -> anyhow::Result<String> {
    let made = image_root(name).await?;
    // the last part of its path is NAME-KEY
    let key = made.file_name().and_then(|name| name.to_str()).context("a plain name")?;
    let tag = key.rsplit_once('-').with_context(|| key.to_owned())?.1;
    let image = Image { name: format!("patchbay.dev/{name}:{tag}"), ..image };
    cluster.import_archive(&image.name, &archive(&image, &made)?).await?;
    Ok(image.name)
}

/// The archive of an image, beside its root file system: hundreds of MB, written once and not for every cluster.
fn archive(image: &Image, made: &Path) -> anyhow::Result<PathBuf> {
    let configuration = digest(&SHA256, format!("{image:?}").as_bytes());
    let path = made.join(format!("{}.tar", &HEXLOWER.encode(configuration.as_ref())[..16]));
    if !path.exists() {
        let unfinished = tempfile::NamedTempFile::new_in(made)?;
        image::write(image, &made.join("rootfs"), unfinished.path())?;
        unfinished.persist(&path)?;
    }
    Ok(path)
}
