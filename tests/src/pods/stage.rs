//! A namespace with everything that a worker needs before it comes, and workers in it, made by the operator's
//! builders from classes that the API server has taken.

use super::{
    authority::Authority,
    images::{self, Images},
    operator::Operator,
};
use crate::cluster::{Strict, from, is_ready, until};
use anyhow::{Context, anyhow, ensure};
use http::Method;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, ContainerStateTerminated, Pod},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::{
    cidr::Cidr,
    class,
    id::{Incarnation, WorkerId},
    link::{ENROL_PATH, Enrolment, STATUS_PATH, WorkerStatus},
    orchestrator::{Endpoint, Offer},
    pin::{Fingerprint, Role},
};
use patchbay_crds::{
    WorkerClass,
    marks::{FINGERPRINT, LINK_PORT},
    validate,
};
use patchbay_gateway::{
    Limits,
    forward::{
        link::{Link, LinkContext},
        pinned::LinkCertificate,
    },
};
use patchbay_operator::{
    Settings,
    build::{self, ClassRef, disruption_budget, network_policy, service_account},
};
use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A namespace that is ready for workers.
pub struct Stage {
    /// The namespace.
    pub place: Strict,
    /// The control plane's authority.
    pub authority: Authority,
    /// The images.
    pub images: &'static Images,
    settings: Settings,
}

/// A class that the API server has taken.
pub struct Class {
    class: class::WorkerClass,
    uid: String,
}

/// A worker's pod.
pub struct PodWorker {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Where its agent listens.
    pub address: SocketAddr,
    /// From the request that made it to the word that it is ready.
    pub took: Duration,
}

impl Stage {
    /// Makes one, whose name begins with `name`, and in it what an operator would.
    pub async fn make(name: &str) -> anyhow::Result<Self> {
        let stage = Self::bare(name).await?;
        let Self { place, settings, .. } = &stage;
        let params = PostParams::default();
        let accounts = Api::namespaced(place.client.clone(), &place.name);
        accounts.create(&params, &service_account::service_account(settings)).await?;
        let budgets = Api::<PodDisruptionBudget>::namespaced(place.client.clone(), &place.name);
        budgets.create(&params, &disruption_budget::disruption_budget(settings)).await?;
        Ok(stage)
    }

    /// Makes one with nothing in it but the control plane's CA, for an operator.
    pub async fn bare(name: &str) -> anyhow::Result<Self> {
        let place = Strict::make(name).await?;
        let images = images::import(&place.cluster).await?;
        Self::of(place, images).await
    }

    /// The same for workers that are simulated.
    pub async fn simulated(name: &str) -> anyhow::Result<Self> {
        Self::of(Strict::make(name).await?, images::of_nothing()).await
    }

    async fn of(place: Strict, images: &'static Images) -> anyhow::Result<Self> {
        ensure_kinds(&place.client).await?;
        let authority = Authority::new()?;
        let mut settings = Settings::new(&place.name, &images.worker);
        let addresses = place.cluster.addresses()?;
        let own = [addresses.pods(), addresses.services(), format!("{}/32", addresses.node())];
        settings.cluster_ranges =
            own.iter().map(|range| Cidr::parse(range)).collect::<Result<_, _>>()?;

        let params = PostParams::default();
        let ca: ConfigMap = from(json!({
            "metadata": { "name": settings.control_plane_ca }, "data": { "ca.crt": authority.pem() },
        }))?;
        let maps = Api::namespaced(place.client.clone(), &place.name);
        maps.create(&params, &ca).await?;
        Ok(Self { place, authority, images, settings })
    }

    /// Makes one, with a worker of a class with these further fields.
    pub async fn with_worker(name: &str, fields: Value) -> anyhow::Result<(Self, PodWorker)> {
        let stage = Self::make(name).await?;
        let class = stage.class("tools", fields).await?;
        let worker = stage.worker(&class).await?;
        Ok((stage, worker))
    }

    /// What the operator of this namespace is told.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Creates a class of the fixture server with these further fields.
    pub async fn declare(&self, name: &str, fields: Value) -> anyhow::Result<WorkerClass> {
        let mut spec = json!({
            "image": self.images.fixture,
            "command": ["/fixture-server"],
            "server": { "readyPath": "/healthz" },
            "resources": { "memory": "128Mi" },
            "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
        });
        let fields = fields.as_object().context("fields are an object")?;
        spec.as_object_mut().context("an object")?.extend(fields.clone());
        let classes = Api::<WorkerClass>::namespaced(self.place.client.clone(), &self.place.name);
        let object = WorkerClass::new(name, serde_json::from_value(spec)?);
        Ok(classes.create(&PostParams::default(), &object).await?)
    }

    /// The same, and what all its workers share.
    pub async fn class(&self, name: &str, fields: Value) -> anyhow::Result<Class> {
        let object = self.declare(name, fields).await?;
        let class = validate::worker_class::validate(&object).map_err(|errors| {
            anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let class = Class { class, uid: object.uid().context("no UID")? };
        let policies =
            Api::<NetworkPolicy>::namespaced(self.place.client.clone(), &self.place.name);
        let policy = network_policy::network_policy(class.as_ref(), &self.settings);
        policies.create(&PostParams::default(), &policy).await?;
        Ok(class)
    }

    /// Creates a worker and returns it once it is ready.
    pub async fn worker(&self, class: &Class) -> anyhow::Result<PodWorker> {
        self.changed_worker(class, |_| ()).await
    }

    /// Creates a worker and records its key: gateways take it from then on.
    pub async fn warm_worker(&self, class: &Class) -> anyhow::Result<PodWorker> {
        let worker = self.worker(class).await?;
        let (_, fingerprint) = self.enrol(&worker).await?;
        let annotations = json!({ FINGERPRINT: fingerprint.to_string() });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        self.place.pods().patch(&worker.name, &PatchParams::default(), &patch).await?;
        Ok(worker)
    }

    /// The same of a pod that the test has changed.
    pub async fn changed_worker(
        &self,
        class: &Class,
        change: impl FnOnce(&mut Pod),
    ) -> anyhow::Result<PodWorker> {
        let mut worker = build::worker(class.as_ref(), &self.settings)?;
        change(&mut worker.pod);
        let params = PostParams::default();
        let maps = Api::<ConfigMap>::namespaced(self.place.client.clone(), &self.place.name);
        match maps.create(&params, &worker.boot).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            result => drop(result?),
        }
        let begun = Instant::now();
        let name = self.place.pods().create(&params, &worker.pod).await?.name_any();
        let pod = self
            .until(&name, "it is ready or has ended", |pod| {
                is_ready(pod) || ["Failed", "Succeeded"].contains(&phase(pod))
            })
            .await?;
        let took = begun.elapsed();
        if !is_ready(&pod) {
            let logs = self.logs(&name).await?;
            anyhow::bail!("{name} has ended: {:?}\n{logs}", pod.status);
        }
        let address = address(&pod)?;
        Ok(PodWorker { uid: pod.uid().context("no UID")?, name, address, took })
    }

    /// Waits until `is_so` of a pod.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Pod) -> bool,
    ) -> anyhow::Result<Pod> {
        let mut last = None;
        let waited = until(&format!("{name}: {what}"), async || {
            let pod = self.place.pods().get(name).await?;
            let is_so = is_so(&pod);
            last = Some(pod);
            Ok(is_so)
        })
        .await;
        waited
            .with_context(|| format!("{:?}", last.as_ref().and_then(|pod| pod.status.as_ref())))?;
        last.context("never seen")
    }

    /// What all containers of a pod have said.
    pub async fn logs(&self, name: &str) -> anyhow::Result<String> {
        self.place.kubectl(&["logs", name, "--all-containers", "--prefix"]).await
    }

    /// An operator's connection to a worker.
    pub async fn operator(&self, worker: &PodWorker) -> anyhow::Result<Operator> {
        Operator::dial(worker.address, &self.authority, Role::Operator).await
    }

    /// Enrols a worker, as far as its own words go: what it shows, and its key.
    pub async fn enrol(&self, worker: &PodWorker) -> anyhow::Result<(Enrolment, Fingerprint)> {
        let operator = self.operator(worker).await?;
        let (status, body) = operator.ask(Method::GET, ENROL_PATH).await?;
        ensure!(status == 200, "{status}: {body}");
        Ok((serde_json::from_value(body)?, operator.connection.fingerprint))
    }

    /// Where a worker is in its life.
    pub async fn status(&self, worker: &PodWorker) -> anyhow::Result<WorkerStatus> {
        self.status_at(worker.address).await
    }

    /// The same of a worker that somebody else made.
    pub async fn status_of(&self, pod: &Pod) -> anyhow::Result<WorkerStatus> {
        self.status_at(address(pod)?).await
    }

    async fn status_at(&self, address: SocketAddr) -> anyhow::Result<WorkerStatus> {
        let operator = Operator::dial(address, &self.authority, Role::Operator).await?;
        let (status, body) = operator.ask(Method::GET, STATUS_PATH).await?;
        ensure!(status == 200, "{status}: {body}");
        Ok(serde_json::from_value(body)?)
    }

    /// A gateway's link to a worker of this key.
    pub fn link(&self, worker: &PodWorker, fingerprint: Fingerprint) -> anyhow::Result<Link> {
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let certificate = self.authority.certificate(Role::Gateway)?;
        let certificate = Arc::new(LinkCertificate::new(certificate, &crypto)?);
        let context = LinkContext {
            crypto,
            certificate,
            sessions: Arc::default(),
            limits: Limits::default(),
        };
        let offer = Offer {
            worker: WorkerId::parse(&worker.name)?,
            incarnation: Incarnation::parse(&worker.uid)?,
            endpoint: Endpoint::Tcp(worker.address),
            fingerprint,
        };
        Ok(Link::new(&offer, &context)?)
    }

    /// A gateway's link to a worker that was enrolled.
    pub async fn gateway(&self, worker: &PodWorker) -> anyhow::Result<Link> {
        let (_, fingerprint) = self.enrol(worker).await?;
        self.link(worker, fingerprint)
    }
}

impl Class {
    fn as_ref(&self) -> ClassRef<'_> {
        ClassRef { class: &self.class, uid: &self.uid }
    }
}

/// Where a pod's agent listens.
pub fn address(pod: &Pod) -> anyhow::Result<SocketAddr> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    Ok(SocketAddr::new(ip.context("no address")?.parse()?, LINK_PORT))
}

/// A pod's phase.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// How a container of a pod has ended, if it has.
pub fn ended<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    status.state.as_ref()?.terminated.as_ref()
}

/// Patchbay's kinds are the whole cluster's: whichever test is first makes them.
pub async fn ensure_kinds(client: &Client) -> anyhow::Result<()> {
    ensure_defined(client, patchbay_crds::all()).await
}

/// The same of any kinds.
pub async fn ensure_defined(
    client: &Client,
    definitions: impl IntoIterator<Item = CustomResourceDefinition>,
) -> anyhow::Result<()> {
    let kinds = Api::<CustomResourceDefinition>::all(client.clone());
    for kind in definitions {
        match kinds.create(&PostParams::default(), &kind).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            result => drop(result?),
        }
        until("the API server serves the kind", async || {
            let conditions = kinds.get(&kind.name_any()).await?.status.and_then(|it| it.conditions);
            let mut conditions = conditions.into_iter().flatten();
            Ok(conditions.any(|each| each.type_ == "Established" && each.status == "True"))
        })
        .await?;
    }
    Ok(())
}
