//! The chart and the programs: that these know what the chart tells them, and start with the rights that it gives.

use crate::{chart::render, server::Release};
use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use patchbay_core::pin::Role;
use patchbay_tests::{
    binaries,
    cluster::{Cluster, default_directory, until},
    pods::{Authority, images::import_controller},
};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::process::Command;

#[tokio::test]
async fn the_programs_know_every_flag_that_the_chart_uses() -> anyhow::Result<()> {
    let mut flags = BTreeSet::new();
    for values in
        [crate::defaults::everything(), crate::defaults::everything_and_others(), json!({})]
    {
        for pod in render(values).await?.pods()? {
            let arguments = pod.spec.containers[0].args.clone().context("no arguments")?;
            let (command, arguments) = arguments.split_first().context("no command")?;
            for argument in arguments {
                let flag = argument.split('=').next().unwrap_or(argument);
                flags.insert((command.clone(), flag.to_owned()));
            }
        }
    }
    let commands: BTreeSet<_> = flags.iter().map(|(command, _)| command.clone()).collect();
    ensure!(commands.len() == 4, "{commands:?}");
    let mut unknown = BTreeSet::new();
    for command in commands {
        let output =
            Command::new(binaries::path("patchbay")?).args([&command, "--help"]).output().await?;
        let help = String::from_utf8(output.stdout)?;
        let words: BTreeSet<_> = help.split_whitespace().collect();
        let of_it = flags.iter().filter(|(of, _)| *of == command).map(|(_, flag)| flag.as_str());
        unknown.extend(of_it.filter(|flag| !words.contains(flag)).map(str::to_owned));
    }
    ensure!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn gateways_are_ready_once_their_certificate_is_there() -> anyhow::Result<()> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let image = import_controller(&cluster).await?;
    let (repository, tag) = image.split_once(':').context("no tag")?;
    let image = json!({ "repository": repository, "tag": tag, "pullPolicy": "Never" });
    let release = Release::install("gateways", json!({ "image": image })).await?;

    // as the operator does, with the operator's rights
    let (certificate, key) = Authority::new()?.files(Role::Gateway)?;
    let secrets =
        Api::<Secret>::namespaced(release.client_of("operator").await?, &release.place.name);
    let filled = Patch::Merge(json!({ "stringData": { "tls.crt": certificate, "tls.key": key } }));
    secrets.patch("patchbay-gateway-link", &PatchParams::default(), &filled).await?;

    let deployments =
        Api::<Deployment>::namespaced(release.place.client.clone(), &release.place.name);
    let ready = until("both gateways are ready", async || {
        let status = deployments.get("patchbay-gateway").await?.status;
        Ok(status.and_then(|status| status.ready_replicas) == Some(2))
    })
    .await;
    if ready.is_err() {
        let logs = ["logs", "--selector=app.kubernetes.io/component=gateway"];
        let logs = release.place.kubectl(&logs).await.unwrap_or_default();
        return ready.context(logs);
    }
    release.end().await
}
