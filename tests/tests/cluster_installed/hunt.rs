//! The search for credentials in everything that an installation leaves behind: its objects, logs, metrics, command
//! lines and environments, and every file of the cluster, which etcd's database and log, the audit log, the kubelet's
//! files and images' layers are among. It turns the places where one is found into a failure. It must not know whose
//! they are.

use super::world::Installation;
use anyhow::ensure;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use patchbay_tests::{
    chart::RELEASE,
    cluster::{default_directory, from, shell_pod},
    http::Http,
    pods::stage::phase,
    processes,
    secrets::{Found, Secrets},
};
use serde_json::json;
use std::{collections::BTreeSet, fs, path::Path};
use tokio::process::Command;

/// Everything of a release that is an object of its namespace.
const KINDS: &str = "pods,tenants,workerclasses,identityproviders,configmaps,secrets,services,endpointslices,\
                     serviceaccounts,leases,deployments,replicasets,networkpolicies,poddisruptionbudgets,events";

/// What is looked for, and what was kept of things that do not stay.
pub(crate) struct Hunt {
    secrets: Secrets,
    kept: tempfile::TempDir,
    count: usize,
}

impl Hunt {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { secrets: Secrets::default(), kept: tempfile::tempdir()?, count: 0 })
    }

    /// Adds a secret in every form.
    pub(crate) fn add(&mut self, what: &str, secret: &str) -> anyhow::Result<()> {
        self.secrets.add(what, secret)
    }

    /// Keeps what the installation shows now. The pods of which it has the logs.
    pub(crate) async fn keep(&mut self, at: &Installation) -> anyhow::Result<BTreeSet<String>> {
        let place = &at.installed.release.place;
        self.count += 1;
        let directory = self.kept.path().join(self.count.to_string());
        fs::create_dir(&directory)?;
        let write = |name: &str, text: String| fs::write(directory.join(name), text);
        write("objects", place.kubectl(&["get", KINDS, "--output", "yaml"]).await?)?;
        // what Helm keeps is compressed
        write("release", place.helm(&["get", "all", RELEASE]).await?)?;
        for replica in &at.replicas {
            let url = format!("http://{}:9090/metrics", replica.address);
            write(
                &format!("metrics {}", replica.pod),
                Http::default().get(&url, &[]).await?.text(),
            )?;
        }
        let processes = processes::all().into_iter();
        let told: Vec<_> = processes.map(|it| format!("{}\n{}\n", it.argv, it.environ)).collect();
        write("processes", told.concat())?;

        let mut with_logs = BTreeSet::new();
        for pod in place.pods().list(&ListParams::default()).await? {
            let name = pod.name_any();
            let logs = place.kubectl(&["logs", &name, "--all-containers", "--prefix"]).await;
            match logs {
                Ok(text) => {
                    write(&format!("log {name}"), text)?;
                    with_logs.insert(name);
                }
                // it comes or goes; what it has said so far is among the node's files
                Err(error) => {
                    let now = place.pods().get_opt(&name).await?;
                    let is_steady = now.is_some_and(|pod| has_begun(&pod));
                    ensure!(!is_steady, "{error:#}");
                }
            }
        }
        Ok(with_logs)
    }

    /// Whether a pod's log that was kept last has this in it.
    pub(crate) fn has_kept(&self, pod: &str, text: &str) -> anyhow::Result<bool> {
        let path = self.kept.path().join(self.count.to_string()).join(format!("log {pod}"));
        Ok(fs::read_to_string(path)?.contains(text))
    }

    /// Looks everywhere, and fails if anything is found, or if what has to be found is not.
    pub(crate) async fn end(mut self, at: &Installation) -> anyhow::Result<()> {
        let place = &at.installed.release.place;
        ensure!(self.secrets.count() > 0, "nothing to look for");
        let [object, line] = ["object", "line"].map(|kind| format!("marker-{kind}-{}", random()));
        let marker: ConfigMap = from(json!({
            "metadata": { "name": format!("marker-{}", random()) }, "data": { "marker": object },
        }))?;
        let named = marker.name_any();
        let maps = Api::<ConfigMap>::namespaced(place.client.clone(), &place.name);
        maps.create(&PostParams::default(), &marker).await?;
        // no object has the line as a whole
        let (head, tail) = line.split_at(line.len() / 2);
        let pod = shell_pod("marker", &format!("printf '%s%s\\n' '{head}' '{tail}'"));
        let said = place.create(pod, |pod: &Pod| ["Succeeded", "Failed"].contains(&phase(pod)));
        ensure!(phase(&said.await?) == "Succeeded");
        let logs = self.keep(at).await?;
        ensure!(logs.contains("marker"), "{logs:?}");

        let cluster = default_directory()?;
        let of_pods = cluster.join("node/log/pods");
        ensure_nothing_is_compressed(&of_pods, &place.name).await?;
        let kept = self.kept.path();
        let markers = Secrets::new(&[("object", &object), ("line", &line), ("name", &named)])?;
        let all = self.secrets.and(&markers);
        let begun = tokio::time::Instant::now();
        let found = all.below(&[&cluster, kept]).await?;
        println!("{} forms, looked for everywhere in {:?}", all.count(), begun.elapsed());

        let is_in = |what: &str, directory: &Path| {
            found.iter().any(|it| it.what == what && it.file.starts_with(directory))
        };
        for (what, directory) in [
            ("object", cluster.join("etcd/member/snap/db")),
            ("object", cluster.join("etcd/member/wal")),
            ("object", kept.to_path_buf()),
            ("name", cluster.join("logs/audit.log")),
            ("line", of_pods),
            ("line", kept.to_path_buf()),
        ] {
            ensure!(is_in(what, &directory), "not found: {what} in {}", directory.display());
        }
        let is_marker = |it: &Found| ["object", "line", "name"].contains(&it.what.as_str());
        let secrets: Vec<_> = found.iter().filter(|it| !is_marker(it)).collect();
        ensure!(secrets.is_empty(), "credentials were left behind: {secrets:#?}");
        Ok(())
    }
}

/// Logs that have grown too long are put aside and compressed, and nothing would be found in them.
async fn ensure_nothing_is_compressed(logs: &Path, namespace: &str) -> anyhow::Result<()> {
    let of_namespace = format!("{}/{namespace}_*", logs.display());
    let mut find = Command::new("find");
    find.arg(logs).args(["-path", &of_namespace, "-name", "*.gz"]);
    // pods come and go meanwhile, which it complains of
    let found = String::from_utf8(find.output().await?.stdout)?;
    ensure!(found.is_empty(), "compressed: {found}");
    Ok(())
}

/// Whether every container of a pod has been started.
fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let mut states = statuses.into_iter().flatten().map(|status| status.state.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && states.all(|state| state.is_some_and(|state| state.waiting.is_none()))
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
