//! What a kubelet does for a worker and kwok does not: it gives it the token of its pod, and tells how it ended.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::link::Farewell;
use patchbay_operator::build::service_account;
use secrecy::SecretString;
use serde_json::{Value, json};

/// The pods of a namespace.
#[derive(Clone)]
pub(super) struct Pods {
    pub(super) api: Api<Pod>,
    accounts: Api<ServiceAccount>,
}

impl Pods {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            accounts: Api::namespaced(client.clone(), namespace),
        }
    }

    /// A token that says which pod this is, good for nothing else.
    pub(super) async fn token(&self, pod: &Pod) -> anyhow::Result<SecretString> {
        let request: TokenRequest = serde_json::from_value(json!({ "spec": {
            "audiences": ["patchbay"],
            "expirationSeconds": 600,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
            },
        }}))?;
        let (account, params) = (service_account::NAME, PostParams::default());
        let made = self.accounts.create_token_request(account, &params, &request).await?;
        Ok(made.status.context("no token")?.token.into())
    }

    /// The pod ends well, with these last words of its agent.
    pub(super) async fn end(&self, pod: &Pod, farewell: &Farewell) -> anyhow::Result<()> {
        let status = pod.status.clone().unwrap_or_default();
        let now = Timestamp::now().to_string();
        let mut containers = serde_json::to_value(status.container_statuses)?;
        for container in containers.as_array_mut().into_iter().flatten() {
            let is_agent = container["name"] == "agent";
            let message = is_agent.then(|| json!(farewell).to_string());
            container["ready"] = false.into();
            container["started"] = false.into();
            container["state"] = json!({ "terminated": {
                "exitCode": 0, "reason": "Completed", "finishedAt": now, "message": message,
            }});
        }
        let mut conditions = serde_json::to_value(status.conditions)?;
        for condition in conditions.as_array_mut().into_iter().flatten() {
            if ["Ready", "ContainersReady"].contains(&condition["type"].as_str().unwrap_or("")) {
                condition["status"] = "False".into();
                condition["lastTransitionTime"] = now.clone().into();
            }
        }
        let change: Value = json!({ "metadata": { "uid": pod.uid() }, "status": {
            "phase": "Succeeded", "containerStatuses": containers, "conditions": conditions,
        }});
        let (name, params) = (pod.name_any(), PatchParams::default());
        self.api.patch_status(&name, &params, &Patch::Merge(change)).await?;
        Ok(())
    }
}
