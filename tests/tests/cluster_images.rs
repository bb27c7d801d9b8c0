//! The images: what they are made of, that they run as nobody, and that the static controller finds its way in a
//! root that holds nothing else. `make test-cluster`.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use patchbay_tests::{
    cluster::{Strict, shell_pod},
    pods::{roots, stage::phase},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// The names of what an image's bill of materials lists of a kind.
fn listed(made: &Path, kind: &str) -> anyhow::Result<BTreeSet<String>> {
    let bill: Value = serde_json::from_slice(&fs::read(made.join("sbom.cdx.json"))?)?;
    ensure!(bill["bomFormat"] == "CycloneDX", "{bill}");
    let prefix = format!("pkg:{kind}/");
    let components = bill["components"].as_array().context("no components")?;
    let purls = components.iter().filter_map(|each| each["purl"].as_str());
    let of_kind = purls.filter_map(|purl| purl.strip_prefix(&prefix)?.split_once('@'));
    Ok(of_kind.map(|(name, _)| name.to_owned()).collect())
}

#[tokio::test]
async fn the_controller_is_one_file_that_looks_names_up_and_runs_as_nobody() -> anyhow::Result<()> {
    let place = Strict::make("controller").await?;
    let image = roots::controller(&place.cluster).await?;
    let made = roots::image_root("controller").await?;
    let files: Vec<_> = fs::read_dir(made.join("rootfs"))?
        .map(|file| Ok(file?.file_name()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(files == ["patchbay"], "{files:?}");
    let crates = listed(&made, "cargo")?;
    ensure!(crates.contains("rustls") && crates.contains("patchbay-gateway"), "{crates:?}");
    ensure!(!crates.contains("patchbay-tests") && !crates.contains("proptest"), "{crates:?}");

    // what it says of a name that there is, and of one that there is not
    let host = place.cluster.addresses()?.host();
    let known = place.name_outside("known", host).await?;
    let mut said = Vec::new();
    for name in [known, format!("unknown.{}.svc", place.name)] {
        let mut pod = shell_pod("contact", "");
        let main = pod["spec"]["containers"][0].as_object_mut().context("an object")?;
        main.remove("command");
        main.insert("image".to_owned(), json!(image));
        // a closed port
        let url = format!("--url=http://{name}:9/mcp");
        main.insert("args".to_owned(), json!(["contact", url, "--token-file=/token/token"]));
        let context = pod["spec"]["securityContext"].as_object_mut().context("an object")?;
        context.remove("runAsUser");
        context.remove("runAsGroup");
        pod["metadata"]["name"] = json!(name.split('.').next());
        let pod =
            place.create(pod, |pod: &Pod| ["Succeeded", "Failed"].contains(&phase(pod))).await?;
        ensure!(phase(&pod) == "Failed", "nobody is there");
        said.push(place.kubectl(&["logs", pod.metadata.name.as_deref().context("a name")?]).await?);
    }
    ensure!(said[0].contains("Connection refused"), "a name that there is: {said:?}");
    ensure!(said[1].contains("Name or service not known"), "a name that nothing has: {said:?}");
    place.end().await
}

#[tokio::test]
async fn the_worker_is_one_file_with_nothing_of_the_control_plane_in_it() -> anyhow::Result<()> {
    let made = roots::image_root("worker").await?;
    let files: Vec<_> = fs::read_dir(made.join("rootfs"))?
        .map(|file| Ok(file?.file_name()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(files == ["patchbay-worker"], "{files:?}");
    let crates = listed(&made, "cargo")?;
    ensure!(crates.contains("rustls") && crates.contains("patchbay-core"), "{crates:?}");
    for absent in ["kube", "patchbay-gateway", "patchbay-tests", "proptest"] {
        ensure!(!crates.contains(absent), "{absent}: {crates:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_quilt_image_holds_is_what_the_lock_and_debian_say() -> anyhow::Result<()> {
    let made = roots::image_root("quilt").await?;
    let lock = fs::read_to_string(
        patchbay_tests::repository::repository().join("images/quilt/requirements.txt"),
    )?;
    let locked: BTreeSet<_> = lock
        .lines()
        .filter(|line| !line.starts_with([' ', '#']))
        .filter_map(|line| line.split_once("=="))
        .map(|(name, _)| name.to_owned())
        .collect();
    ensure!(locked.contains("quilt-mcp"), "{locked:?}");
    ensure!(listed(&made, "pypi")? == locked);
    let debian = listed(&made, "deb/debian")?;
    ensure!(debian.contains("libc6") && debian.contains("python3.11-minimal"), "{debian:?}");
    for absent in ["bin/sh", "usr/bin/apt-get", "opt/quilt-venv/bin/pip", "usr/bin/dpkg"] {
        ensure!(!made.join("rootfs").join(absent).exists(), "{absent}");
    }
    Ok(())
}
