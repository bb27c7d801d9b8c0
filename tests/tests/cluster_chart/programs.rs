//! The chart and the programs: that these know what the chart tells them, and start with the rights that it gives.

use crate::chart::render;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use patchbay_crds::{Tenant, WorkerClass, condition::ConditionStatus};
use patchbay_tests::{
    binaries,
    chart::{self, RELEASE, Release},
    cluster::{Cluster, Strict, default_directory, from},
    installation,
    pods::{
        Authority,
        images::{self, import_controller},
        watched,
    },
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

/// What clients call the gateway: a name that leads nowhere here.
const PUBLIC: &str = "mcp.example.com";

/// Makes a Secret with a certificate for that name, and with whom to trust for it.
async fn make_certificate(place: &Strict, name: &str) -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let (certificate, key) = authority.server(PUBLIC)?;
    let secret: Secret = from(json!({
        "metadata": { "name": name }, "type": "kubernetes.io/tls",
        "stringData": { "ca.crt": authority.pem(), "tls.crt": certificate, "tls.key": key },
    }))?;
    let secrets = Api::namespaced(place.client.clone(), &place.name);
    secrets.create(&PostParams::default(), &secret).await.map(drop)?;
    Ok(())
}

#[tokio::test]
async fn an_installation_serves_a_user_of_the_cluster_and_says_what_the_cluster_enforces()
-> anyhow::Result<()> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let images = images::import(&cluster).await?;
    let notes = installation::class(images, "/notes", json!({}))?;
    let mut values = chart::values(&cluster, &import_controller(&cluster).await?, &images.worker)?;
    values["classes"] = json!({ "notes": notes });
    let issuer = cluster.addresses()?.api_url();
    values["clusterUsers"] = json!({ "enabled": true, "classes": ["notes"], "issuer": issuer });
    values["gateway"] = json!({
        "publicUrl": format!("https://{PUBLIC}"),
        "tls": { "secretName": "web", "hasAuthority": true },
    });
    let place = Strict::make("whole").await?;
    make_certificate(&place, "web").await?;
    // the operator makes the authority, with it the gateway's certificate, and then a worker
    let release = Release::install_in(place, values).await?;
    release.ready().await?;
    let classes =
        || Api::<WorkerClass>::namespaced(release.place.client.clone(), &release.place.name);
    let warm = watched::one(classes(), "notes", "a worker is warm", |class| {
        class.and_then(|class| class.status.as_ref()).is_some_and(|status| status.warm > 0)
    });
    if let Err(error) = warm.await {
        return Err(error.context(release.told().await?));
    }
    let said = match release.place.helm(&["test", RELEASE, "--logs"]).await {
        Ok(said) => said,
        Err(error) => return Err(error.context(release.told().await?)),
    };
    ensure!(said.contains("the cluster enforces NetworkPolicies"), "{said}");
    // somebody was let in: that is a tenant of the account that the test ran as
    let tenants = Api::<Tenant>::namespaced(release.place.client.clone(), &release.place.name);
    let subjects: Vec<_> = tenants
        .list(&ListParams::default())
        .await?
        .into_iter()
        .map(|tenant| tenant.spec.identity.subject)
        .collect();
    ensure!(subjects == [release.user("contact-test")], "{subjects:?}");
    let class = classes().get("notes").await?;
    let conditions = class.status.map(|status| status.conditions).unwrap_or_default();
    for wanted in ["Ready", "NetworkPolicyEnforced"] {
        let condition = conditions.iter().find(|it| it.type_ == wanted).context(wanted)?;
        ensure!(condition.status == ConditionStatus::True, "{condition:?}");
    }
    release.end().await
}
