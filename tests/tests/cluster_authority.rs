//! The control plane's own authority, on a real API server and with a real worker: published before it signs, taken
//! by workers without a restart, and never overwritten by accident. `make test-cluster`.

#[path = "cluster_authority/roll.rs"]
mod roll;

use anyhow::{Context, anyhow, ensure};
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use patchbay_core::link::ENROL_PATH;
use patchbay_gateway::forward::pinned::GatewayCertificate;
use patchbay_operator::authority::{Certificate, KeepError, Keeper, Names, Terms};
use patchbay_tests::{
    cluster::{from, until},
    evidence::Evidence as _,
    pods::{self, Operator, OperatorProcess, Stage, watched},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, time::Duration};

/// The next root is there after ten seconds, and signs after eleven.
const TERMS: Terms = Terms {
    root: Duration::from_hours(2),
    lead: Duration::from_secs(7190),
    seen_within: Duration::from_secs(1),
    certificate: Duration::from_mins(30),
    renewal: Duration::from_mins(10),
};

struct Authority {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    names: Names,
    keeper: Keeper,
}

impl Authority {
    /// As the chart leaves it: two empty Secrets.
    async fn of(stage: &Stage, terms: Terms) -> anyhow::Result<Self> {
        let client = &stage.place.client;
        let secrets = Api::<Secret>::namespaced(client.clone(), &stage.place.name);
        for name in ["roots", "gateway"] {
            let empty = json!({ "metadata": { "name": name } });
            secrets.create(&PostParams::default(), &from(empty)?).await?;
        }
        let names = Names {
            namespace: stage.place.name.clone(),
            roots: "roots".into(),
            gateway: "gateway".into(),
            bundle: "patchbay-control-plane-ca".into(),
        };
        Ok(Self {
            secrets,
            maps: Api::namespaced(client.clone(), &stage.place.name),
            keeper: Keeper::new(client.clone(), names.clone(), terms),
            names,
        })
    }

    /// What changes with every write.
    async fn versions(&self) -> anyhow::Result<Vec<Option<String>>> {
        let mut versions = Vec::new();
        for secret in [&self.names.roots, &self.names.gateway] {
            versions.push(self.secrets.get(secret).await?.metadata.resource_version);
        }
        versions.push(self.maps.get(&self.names.bundle).await?.metadata.resource_version);
        Ok(versions)
    }

    /// How many roots workers are shown.
    async fn published(&self) -> anyhow::Result<usize> {
        let map = self.maps.get(&self.names.bundle).await?;
        let text = map.data.and_then(|mut data| data.remove("ca.crt")).context("no roots")?;
        Ok(text.matches("BEGIN CERTIFICATE").count())
    }

    /// The certificate that gateways mount, and its key, as the texts of two files.
    async fn gateways_files(&self) -> anyhow::Result<(String, String)> {
        let data = self.secrets.get(&self.names.gateway).await?.data.context("nothing")?;
        let entry = |name: &str| -> anyhow::Result<String> {
            let bytes = &data.get(name).with_context(|| format!("no {name}"))?.0;
            Ok(String::from_utf8(bytes.clone())?)
        };
        Ok((entry("tls.crt")?, entry("tls.key")?))
    }

    /// The same as it is used.
    async fn gateway(&self) -> anyhow::Result<GatewayCertificate> {
        usable(&self.gateways_files().await?)
    }

    async fn write(&self, secret: &str, data: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "data": data }));
        self.secrets.patch(secret, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

fn usable((certificate, key): &(String, String)) -> anyhow::Result<GatewayCertificate> {
    let chain = CertificateDer::from_pem_slice(certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    Ok(GatewayCertificate {
        chain: vec![chain.map_err(|error| anyhow!(error))?],
        key: key.map_err(|error| anyhow!(error))?,
    })
}

/// A certificate and its key, as the texts of two files.
fn files(certificate: &Certificate) -> (String, String) {
    (certificate.certificate.clone(), certificate.key.expose_secret().to_owned())
}

fn held(certificate: &Certificate) -> anyhow::Result<GatewayCertificate> {
    usable(&files(certificate))
}

/// What a worker answers to whoever asks it to enrol with this certificate.
async fn enrolling(
    worker: SocketAddr,
    certificate: &GatewayCertificate,
) -> anyhow::Result<StatusCode> {
    let certificate =
        GatewayCertificate { chain: certificate.chain.clone(), key: certificate.key.clone_key() };
    let client = Operator::dial_with(worker, certificate).await?;
    Ok(client.ask(Method::GET, ENROL_PATH).await?.0)
}

/// Has the node read what a pod mounts: it does when it looks at the pod, and it looks when the pod changes.
async fn look(stage: &Stage, pod: &str) -> anyhow::Result<()> {
    let now = Timestamp::now().to_string();
    let touch = Patch::Merge(json!({ "metadata": { "annotations": { "test": now } } }));
    stage.place.pods().patch(pod, &PatchParams::default(), &touch).await?;
    Ok(())
}

#[tokio::test]
async fn a_root_gives_way_to_the_next_under_a_living_worker() -> anyhow::Result<()> {
    let stage = Stage::make("authority").await?;
    let mut authority = Authority::of(&stage, TERMS).await?;
    let begun = Timestamp::now();
    let first = authority.keeper.pass(begun).await?;
    // the stage's own root was published by hand: it is retired, and may be shown for a while
    ensure!(authority.published().await? == 2);
    let class = stage.class("tools", json!({})).await?;
    let worker = stage.worker(&class).await?;
    let operators = held(&first.operator)?;
    ensure!(enrolling(worker.address, &operators).await? == StatusCode::OK);
    let gateways = authority.gateway().await?;
    ensure!(enrolling(worker.address, &gateways).await? == StatusCode::FORBIDDEN);

    // nothing is due, so nothing is written
    let before = authority.versions().await?;
    let same = authority.keeper.pass(begun).await?;
    ensure!(authority.versions().await? == before);
    ensure!(same.operator.certificate == first.operator.certificate);

    let later = |seconds| begun + Duration::from_secs(seconds);
    let introduced = authority.keeper.pass(later(10)).await?;
    ensure!(authority.published().await? == 3);
    ensure!(introduced.operator.issuer == first.operator.issuer, "it signs too early");
    let promoted = authority.keeper.pass(later(11)).await?;
    ensure!(promoted.operator.issuer != first.operator.issuer);
    ensure!(
        enrolling(worker.address, &operators).await? == StatusCode::OK,
        "the old one still holds"
    );

    look(&stage, &worker.name).await?;
    let operators = held(&promoted.operator)?;
    until("the worker trusts the new root", async || {
        Ok(enrolling(worker.address, &operators).await? == StatusCode::OK)
    })
    .await?;
    ensure!(enrolling(worker.address, &authority.gateway().await?).await? == StatusCode::FORBIDDEN);
    stage.place.end().await
}

#[tokio::test]
async fn what_was_emptied_is_made_anew_and_what_is_spoilt_is_left_alone() -> anyhow::Result<()> {
    let stage = Stage::make("spoilt").await?;
    let mut authority = Authority::of(&stage, TERMS).await?;
    let begun = Timestamp::now();
    let first = authority.keeper.pass(begun).await?;

    // another leader goes on with what is there
    let client = stage.place.client.clone();
    let mut other = Keeper::new(client, authority.names.clone(), TERMS);
    let before = authority.versions().await?;
    let its = other.pass(begun).await?;
    ensure!(its.operator.issuer == first.operator.issuer && authority.versions().await? == before);

    authority.write("gateway", json!({ "tls.crt": null, "tls.key": null })).await?;
    authority.keeper.pass(begun).await?;
    authority.gateway().await?;

    let spoilt = ByteString(b"{\"current\":".to_vec());
    authority.write("roots", json!({ "authority.json": spoilt })).await?;
    let before = authority.versions().await?;
    let refused = authority.keeper.pass(begun).await;
    ensure!(matches!(refused, Err(KeepError::Unreadable(_))), "{refused:?}");
    ensure!(authority.versions().await? == before);

    authority.write("roots", json!({ "authority.json": null })).await?;
    let anew = authority.keeper.pass(begun).await?;
    ensure!(anew.operator.issuer != first.operator.issuer);
    stage.place.end().await
}

#[tokio::test]
async fn roots_that_somebody_else_keeps_in_a_file_are_published_and_follow_each_other()
-> anyhow::Result<()> {
    let stage = Stage::simulated("followed").await?;
    let place = &stage.place;
    let maps = || Api::<ConfigMap>::namespaced(place.client.clone(), &place.name);
    let name = &stage.settings().control_plane_ca;
    // as with cert-manager: nothing is published yet, and a mounted file has the root
    maps().delete(name, &DeleteParams::default()).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ca.crt");
    let exchange = |content: &str| {
        let next = directory.path().join("next");
        fs::write(&next, content).and_then(|()| fs::rename(&next, &file))
    };
    let published = async |what: &str, roots: &[&str]| {
        let found = watched::one(maps(), name, what, |map| {
            let text = map.and_then(|map| map.data.as_ref()?.get("ca.crt"));
            text.is_some_and(|text| {
                text.matches("BEGIN CERTIFICATE").count() == roots.len()
                    && roots.iter().all(|root| text.contains(root.trim()))
            })
        });
        found.await.map(drop)
    };
    let (first, second) = (stage.authority.pem(), pods::Authority::new()?.pem());
    exchange(&first)?;
    let path = file.to_str().context("a plain path")?;
    let operator = OperatorProcess::start_with(&stage, &stage.authority, &["--link-ca", path])?;
    operator.leads().await?;
    published("the root of the file", &[&first]).await.with_logs(|| operator.text())?;

    // what is of no use is told of, and changes nothing
    exchange("no certificate")?;
    let told = |line: &Value| line.to_string().contains("--link-ca holds no certificate");
    operator.logged("that it takes none", told).await?;
    published("the root that there was", &[&first]).await?;

    // whoever was given a certificate by the old root may show it for a while
    exchange(&second)?;
    let both = published("the new root and the old one", &[&second, &first]).await;
    both.with_logs(|| operator.text())?;
    operator.terminate().await?;
    stage.place.end().await
}
