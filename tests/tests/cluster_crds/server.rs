//! The API server, asked in its own language: what it answers, with status, warnings and causes.

use anyhow::{Context, ensure};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use patchbay_crds::schema;
use patchbay_tests::cluster::{Cluster, default_directory, until};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";

/// What the API server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

impl Answer {
    /// What was read or written.
    pub(crate) fn object(self) -> anyhow::Result<Value> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.body["message"]);
        Ok(self.body)
    }

    /// Every cause of a refusal: its field, and what is said of it.
    pub(crate) fn causes(&self) -> Vec<(&str, &str)> {
        let causes = self.body["details"]["causes"].as_array();
        causes
            .into_iter()
            .flatten()
            .map(|cause| {
                let text = |name: &str| cause[name].as_str().unwrap_or_default();
                (text("field"), text("message"))
            })
            .collect()
    }

    /// Checks that it is a refusal of `field`, whose words contain `said`.
    pub(crate) fn ensure_refused(&self, field: &str, said: &str) -> anyhow::Result<()> {
        ensure!(self.status == StatusCode::UNPROCESSABLE_ENTITY, "{}: {}", self.status, self.body);
        let causes = self.causes();
        let is_it = |cause: &(&str, &str)| cause.0 == field && cause.1.contains(said);
        ensure!(causes.iter().any(is_it), "no `{said}` about {field} in {causes:#?}");
        Ok(())
    }
}

/// A namespace of a test's own, on a server that has the definitions.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    client: Client,
    pub(crate) namespace: String,
}

impl Server {
    pub(crate) async fn with(name: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::up(&default_directory()?).await?;
        let client = cluster.client().await?;
        let namespace = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let server = Self { cluster, client, namespace };
        server.install().await?;
        let namespace = json!({ "metadata": { "name": server.namespace } });
        server.send(Method::POST, "/api/v1/namespaces", JSON, &namespace).await?.object()?;
        Ok(server)
    }

    /// Applies the definitions, once in this process.
    async fn install(&self) -> anyhow::Result<()> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let install = async || -> anyhow::Result<()> {
            for definition in patchbay_crds::all() {
                let name = definition.metadata.name.clone().context("a name")?;
                let yaml = schema::render(&definition)?;
                self.apply(&format!("{DEFINITIONS}/{name}"), &yaml).await?.object()?;
                until(&format!("{name} is established"), async || {
                    Ok(self.get(&format!("{DEFINITIONS}/{name}")).await?.object()?["status"]
                        ["conditions"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|each| each["type"] == "Established" && each["status"] == "True"))
                })
                .await?;
            }
            Ok(())
        };
        INSTALLED.get_or_try_init(install).await.map(drop)
    }

    /// Server-side apply of a YAML text.
    pub(crate) async fn apply(&self, path: &str, yaml: &str) -> anyhow::Result<Answer> {
        let path = format!("{path}?fieldManager=suite&force=true");
        self.send_text(Method::PATCH, &path, APPLY, JSON, yaml.to_owned()).await
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.get_as(path, JSON).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> anyhow::Result<Answer> {
        self.send_text(Method::GET, path, JSON, accept, String::new()).await
    }

    /// The path of a kind's objects, given its plural name, or of one of them.
    pub(crate) fn path(&self, objects: &str) -> String {
        format!("/apis/patchbay.dev/v1alpha1/namespaces/{}/{objects}", self.namespace)
    }

    pub(crate) async fn create(&self, plural: &str, object: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, &self.path(plural), JSON, object).await
    }

    /// Creates an object, but for keeping it.
    pub(crate) async fn try_create(&self, plural: &str, object: &Value) -> anyhow::Result<Answer> {
        let path = format!("{}?dryRun=All", self.path(plural));
        self.send(Method::POST, &path, JSON, object).await
    }

    /// Merges `patch` into `object`, a plural name and a name.
    pub(crate) async fn patch(&self, object: &str, patch: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PATCH, &self.path(object), MERGE, patch).await
    }

    /// Merges `patch` into `object`, but for keeping what comes of it.
    pub(crate) async fn try_patch(&self, object: &str, patch: &Value) -> anyhow::Result<Answer> {
        let tried = format!("{}?dryRun=All", self.path(object));
        self.send(Method::PATCH, &tried, MERGE, patch).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        self.send_text(method, path, content, JSON, body.to_string()).await
    }

    async fn send_text(
        &self,
        method: Method,
        path: &str,
        content: &str,
        accept: &str,
        body: String,
    ) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .header("accept", accept)
            .body(Body::from(body.into_bytes()))?;
        let (head, body) = self.client.send(request).await?.into_parts();
        let warnings = head.headers.get_all("warning").iter();
        let warnings = warnings.map(|text| Ok(text.to_str()?.to_owned()));
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: head.status,
            warnings: warnings.collect::<anyhow::Result<_>>()?,
            body: serde_json::from_slice(&body)?,
        })
    }
}
