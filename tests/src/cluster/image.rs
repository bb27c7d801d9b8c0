//! From a directory to a container image: an OCI layout in one archive, as `ctr images import` reads it. The
//! same directory gives the same image. It must not know what is in it.

use anyhow::{Context, bail};
use aws_lc_rs::digest::{self, SHA256};
use data_encoding::HEXLOWER;
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, Seek as _, Write},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};
use tar::{Builder, EntryType, Header};

/// An image: its name, and what is run in its containers.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// With a registry's name in front (`patchbay.dev/fixture:1`), which is never asked.
    pub name: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `uid` or `uid:gid`; root if empty.
    pub user: String,
}

/// What busybox is to be called as, in [`busybox_root`].
const APPLETS: [&str; 16] = [
    "cat", "chmod", "echo", "env", "false", "id", "ls", "mkdir", "mount", "nc", "ping", "sh",
    "sleep", "touch", "true", "wget",
];

/// Makes a root file system of one program, a static busybox.
pub fn busybox_root(busybox: &Path, root: &Path) -> anyhow::Result<()> {
    let bin = root.join("bin");
    fs::create_dir_all(&bin)?;
    fs::copy(busybox, bin.join("busybox")).context("cannot copy busybox")?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    Ok(())
}

/// Writes the image whose only layer is the directory `root`, all of it owned by root.
pub fn write(image: &Image, root: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut layer = Hashed::new(tempfile::tempfile()?);
    let mut builder = Builder::new(&mut layer);
    for path in paths_below(root)? {
        append(&mut builder, root, &path).with_context(|| path.display().to_string())?;
    }
    builder.finish()?;
    drop(builder);
    let (mut layer, size, layer_digest) = layer.finish();

    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": image.entrypoint, "Env": image.env, "User": image.user },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = serde_json::to_vec(&config)?;
    let kind = |name: &str| format!("application/vnd.oci.image.{name}");
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": kind("manifest.v1+json"),
        "config": {
            "mediaType": kind("config.v1+json"), "digest": digest_of(&config), "size": config.len(),
        },
        "layers": [{ "mediaType": kind("layer.v1.tar"), "digest": layer_digest, "size": size }],
    }))?;
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": kind("manifest.v1+json"),
            "digest": digest_of(&manifest),
            "size": manifest.len(),
            "annotations": { "io.containerd.image.name": image.name },
        }],
    }))?;

    let mut out = Builder::new(File::create(archive)?);
    let mut add = |path: &str, size: u64, content: &mut dyn io::Read| {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(size);
        out.append_data(&mut header, path, content)
    };
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    add("oci-layout", layout.len() as u64, &mut layout.as_slice())?;
    add("index.json", index.len() as u64, &mut index.as_slice())?;
    for blob in [&manifest, &config] {
        add(&blob_path(&digest_of(blob)), blob.len() as u64, &mut blob.as_slice())?;
    }
    layer.rewind()?;
    add(&blob_path(&layer_digest), size, &mut layer)?;
    out.into_inner()?.flush()?;
    Ok(())
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn digest_of(bytes: &[u8]) -> String {
    show(digest::digest(&SHA256, bytes).as_ref())
}

fn show(digest: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(digest))
}

/// Everything below a directory, in order, so that a directory comes before what is in it.
fn paths_below(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn append(builder: &mut Builder<impl Write>, root: &Path, path: &Path) -> anyhow::Result<()> {
    let name = path.strip_prefix(root)?;
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_dir() {
        builder.append_data(&mut header(EntryType::Directory, mode), name, io::empty())?;
    } else if metadata.is_symlink() {
        builder.append_link(&mut header(EntryType::Symlink, mode), name, fs::read_link(path)?)?;
    } else if metadata.is_file() {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(metadata.len());
        builder.append_data(&mut header, name, File::open(path)?)?;
    } else {
        bail!("neither file, directory nor symbolic link");
    }
    Ok(())
}

/// Of root's, and of no time, so that the same content is the same image.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// A file whose digest is known when it is written.
struct Hashed {
    file: File,
    size: u64,
    digest: digest::Context,
}

impl Hashed {
    fn new(file: File) -> Self {
        Self { file, size: 0, digest: digest::Context::new(&SHA256) }
    }

    fn finish(self) -> (File, u64, String) {
        (self.file, self.size, show(self.digest.finish().as_ref()))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::{collections::BTreeMap, io::Read as _};

    fn entries(archive: impl io::Read) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                content = target.to_str().unwrap().into();
            }
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            (name, (entry.header().mode().unwrap(), content))
        });
        entries.collect()
    }

    fn json(entries: &BTreeMap<String, (u32, Vec<u8>)>, name: &str) -> Value {
        serde_json::from_slice(&entries[name].1).unwrap()
    }

    #[test]
    fn an_image_leads_from_its_name_to_the_files_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::write(folder.path().join("busybox"), "a program").unwrap();
        fs::set_permissions(folder.path().join("busybox"), fs::Permissions::from_mode(0o755))
            .unwrap();
        busybox_root(&folder.path().join("busybox"), &root).unwrap();
        let image = Image {
            name: "patchbay.dev/example:1".to_owned(),
            entrypoint: vec!["/bin/sh".to_owned()],
            user: "1000".to_owned(),
            ..Image::default()
        };
        let write = |name: &str| {
            write(&image, &root, &folder.path().join(name)).unwrap();
            fs::read(folder.path().join(name)).unwrap()
        };
        let archive = write("one.tar");
        assert_eq!(archive, write("two.tar"), "the same directory, the same image");

        let blobs = entries(archive.as_slice());
        let manifest = json(&blobs, "index.json")["manifests"][0].clone();
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], image.name);
        let follow = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let blob = &blobs[&blob_path(digest)].1;
            assert_eq!(digest_of(blob), digest);
            assert_eq!(descriptor["size"], blob.len());
            blob.clone()
        };
        let manifest: Value = serde_json::from_slice(&follow(&manifest)).unwrap();
        let config: Value = serde_json::from_slice(&follow(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "1000");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = entries(follow(&manifest["layers"][0]).as_slice());
        assert_eq!(layer["bin/busybox"], (0o755, b"a program".to_vec()));
        assert_eq!(layer["bin/sh"].1, b"busybox");
        assert!(layer.contains_key("bin/") || layer.contains_key("bin"));
    }
}
