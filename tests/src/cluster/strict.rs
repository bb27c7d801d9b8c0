//! A namespace of a test's own, which enforces the strictest Pod Security profile. It must not know what runs
//! in it.

use super::{Cluster, addons::DOMAIN, default_directory, files::PAUSE_IMAGE, until};
use anyhow::ensure;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tokio::process::Command;

/// An object from its manifest.
pub fn from<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// A pod with everything that takes rights away, running a shell script. It may write to `/state`, and has a
/// token for the audience `patchbay`.
pub fn shell_pod(name: &str, script: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "volumes": [
                { "name": "state", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
                { "name": "token", "projected": { "sources": [{ "serviceAccountToken": {
                    "path": "token", "audience": "patchbay", "expirationSeconds": 600,
                }}]}},
            ],
            "containers": [{
                "name": "main",
                "image": PAUSE_IMAGE,
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "securityContext": {
                    "readOnlyRootFilesystem": true,
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
                "resources": { "limits": { "memory": "32Mi" } },
                "volumeMounts": [
                    { "name": "state", "mountPath": "/state" },
                    { "name": "token", "mountPath": "/token" },
                ],
            }],
        },
    })
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|each| each.type_ == "Ready" && each.status == "True")
}

/// A namespace that enforces `restricted`.
pub struct Strict {
    /// The cluster that it is in.
    pub cluster: Cluster,
    /// A client that may do everything.
    pub client: Client,
    /// Its name.
    pub name: String,
}

impl Strict {
    /// Makes one, whose name begins with `name`.
    pub async fn make(name: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::up(&default_directory()?).await?;
        let client = cluster.client().await?;
        let name = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.create(&PostParams::default(), &from(namespace)?).await?;
        Ok(Self { cluster, client, name })
    }

    /// Its pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates a pod and waits until `is_so` of it.
    pub async fn create(&self, pod: Value, is_so: impl Fn(&Pod) -> bool) -> anyhow::Result<Pod> {
        let pod = self.pods().create(&PostParams::default(), &from(pod)?).await?;
        let name = pod.name_any();
        let mut last = pod;
        until(&format!("what {name} comes to"), async || {
            last = self.pods().get(&name).await?;
            Ok(is_so(&last))
        })
        .await?;
        Ok(last)
    }

    /// Runs kubectl to its end.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run("kubectl", self.cluster.kubectl(), arguments).await
    }

    /// Runs Helm to its end.
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run("helm", self.cluster.helm(), arguments).await
    }

    async fn run(
        &self,
        name: &str,
        mut command: Command,
        arguments: &[&str],
    ) -> anyhow::Result<String> {
        let output = command.args(["--namespace", &self.name]).args(arguments).output().await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {}: {complaint}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Gives an address that is no pod's a name in this namespace, and returns it in full.
    pub async fn name_outside(&self, name: &str, address: Ipv4Addr) -> anyhow::Result<String> {
        let service = json!({ "metadata": { "name": name }, "spec": { "clusterIP": "None" } });
        let services = Api::<Service>::namespaced(self.client.clone(), &self.name);
        services.create(&PostParams::default(), &from(service)?).await?;
        let slice = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [address] }],
        });
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), &self.name);
        slices.create(&PostParams::default(), &from(slice)?).await?;
        Ok(format!("{name}.{}.svc.{DOMAIN}", self.name))
    }

    /// Takes the namespace away; what is left ends with the cluster.
    pub async fn end(self) -> anyhow::Result<()> {
        let namespaces = Api::<Namespace>::all(self.client);
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}
