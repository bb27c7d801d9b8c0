//! A namespace with a running operator, and the gateways' part in it.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::{
    id::{ClassName, Incarnation, WorkerId},
    orchestrator::{Endpoint, Offer},
    pin::{Fingerprint, Role},
    tenant::{Authority, TenantKey},
};
use patchbay_crds::{
    Tenant, WorkerClass,
    condition::{Condition, ConditionStatus},
    marks::{BOUND, FINGERPRINT, FIRST_CONTACT, LINK_PORT, PROVISIONED_BY, TRUE},
    tenant::TenantAssignment,
};
use patchbay_gateway::{
    Limits,
    forward::{
        link::{Link, LinkContext},
        pinned::LinkCertificate,
    },
};
use patchbay_tests::{
    cluster::is_ready,
    evidence::Evidence as _,
    pods::{OperatorProcess, Stage, watched},
};
use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc};

/// The workers of a class, in the words of `kubectl get -l`.
pub(crate) fn of(class: &str) -> String {
    format!("patchbay.dev/class={class}")
}

/// A namespace with an operator.
pub(crate) struct World {
    pub(crate) stage: Stage,
    pub(crate) operator: OperatorProcess,
}

impl World {
    pub(crate) async fn make(name: &str) -> anyhow::Result<Self> {
        let stage = Stage::bare(name).await?;
        let operator = OperatorProcess::start(&stage)?;
        Ok(Self { stage, operator })
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.stage.place.pods()
    }

    pub(crate) fn tenants(&self) -> Api<Tenant> {
        Api::namespaced(self.stage.place.client.clone(), &self.stage.place.name)
    }

    pub(crate) fn classes(&self) -> Api<WorkerClass> {
        Api::namespaced(self.stage.place.client.clone(), &self.stage.place.name)
    }

    /// Changes a class's spec.
    pub(crate) async fn change(&self, class: &str, spec: Value) -> anyhow::Result<WorkerClass> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(self.classes().patch(class, &PatchParams::default(), &patch).await?)
    }

    /// Waits until a class has this many workers that a gateway may claim, and no other anonymous one.
    pub(crate) async fn warm(&self, class: &str, count: usize) -> anyhow::Result<Vec<Arc<Pod>>> {
        let what = format!("{class} has {count} warm workers");
        let labels = format!("{},!{BOUND}", of(class));
        let all = watched::all(self.pods(), &labels, &what, |pods| {
            pods.len() == count && pods.iter().all(|pod| is_warm(pod))
        });
        all.await.with_logs(|| self.operator.text())
    }

    /// Waits for a condition of a class.
    pub(crate) async fn condition(
        &self,
        class: &str,
        is_so: impl Fn(&Condition) -> bool,
    ) -> anyhow::Result<WorkerClass> {
        let found = watched::one(self.classes(), class, "its condition", |class| {
            let status = class.and_then(|class| class.status.as_ref());
            status.is_some_and(|status| status.conditions.iter().any(&is_so))
        });
        found.await.with_logs(|| self.operator.text())?.context("it is gone")
    }

    /// Waits until `is_so` of a tenant.
    pub(crate) async fn tenant(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Tenant) -> bool,
    ) -> anyhow::Result<Tenant> {
        let found = watched::one(self.tenants(), name, what, |it| it.is_some_and(&is_so));
        found.await.with_logs(|| self.operator.text())?.context("it is gone")
    }

    /// Waits until a pod is no more.
    pub(crate) async fn gone(&self, pod: &str) -> anyhow::Result<()> {
        let gone = watched::one(self.pods(), pod, "it is gone", |pod| pod.is_none());
        gone.await.with_logs(|| self.operator.text())?;
        Ok(())
    }

    /// Makes the tenant of a user as a gateway does at a first contact that found no worker, or this one.
    pub(crate) async fn contact(
        &self,
        class: &str,
        user: &str,
        worker: Option<&Pod>,
    ) -> anyhow::Result<Tenant> {
        let mut tenant = tenant(class, user, true)?;
        tenant.spec.assignment = Some(TenantAssignment {
            worker: worker.map(ResourceExt::name_any).unwrap_or_default(),
            uid: worker.and_then(ResourceExt::uid).unwrap_or_default(),
            epoch: 1,
            requested_at: Some(Timestamp::now()),
        });
        Ok(self.tenants().create(&PostParams::default(), &tenant).await?)
    }

    /// Makes the tenant of a user who has not called, or whose last call is forgotten.
    pub(crate) async fn provision(
        &self,
        class: &str,
        user: &str,
        by_contact: bool,
    ) -> anyhow::Result<Tenant> {
        let tenant = tenant(class, user, by_contact)?;
        Ok(self.tenants().create(&PostParams::default(), &tenant).await?)
    }

    /// A gateway's link to a worker that is enrolled.
    pub(crate) fn link(&self, pod: &Pod) -> anyhow::Result<Link> {
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let certificate = self.stage.authority.certificate(Role::Gateway)?;
        let certificate = Arc::new(LinkCertificate::new(certificate, &crypto)?);
        let context = LinkContext {
            crypto,
            certificate,
            sessions: Arc::default(),
            limits: Limits::default(),
        };
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let address = SocketAddr::new(ip.context("no address")?.parse()?, LINK_PORT);
        let fingerprint = pod.annotations().get(FINGERPRINT).context("no fingerprint")?;
        let offer = Offer {
            worker: WorkerId::parse(pod.name_any())?,
            incarnation: Incarnation::parse(pod.uid().context("no UID")?)?,
            endpoint: Endpoint::Tcp(address),
            fingerprint: Fingerprint::parse(fingerprint)?,
        };
        Ok(Link::new(&offer, &context)?)
    }

    /// Ends the operator in order, and the namespace.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        ensure!(
            !self.operator.has_logged(|line| line["level"] == "ERROR"),
            "{}",
            self.operator.text()
        );
        self.operator.terminate().await?;
        self.stage.place.end().await
    }
}

/// The tenant of a user, as it is made.
pub(crate) fn tenant(class: &str, user: &str, by_contact: bool) -> anyhow::Result<Tenant> {
    let mut tenant = Tenant::for_key(&TenantKey {
        issuer: "https://issuer.example".into(),
        subject: user.into(),
        class: ClassName::parse(class)?,
        authority: Authority::unrestricted(),
    });
    let mark = [(PROVISIONED_BY.to_owned(), FIRST_CONTACT.to_owned())];
    tenant.metadata.labels = by_contact.then(|| mark.into());
    Ok(tenant)
}

/// Whether a gateway may claim it.
pub(crate) fn is_warm(pod: &Pod) -> bool {
    pod.annotations().contains_key(FINGERPRINT)
        && pod.metadata.deletion_timestamp.is_none()
        && is_ready(pod)
}

pub(crate) fn is_marked_bound(pod: &Pod) -> bool {
    pod.labels().get(BOUND).is_some_and(|value| value == TRUE)
}

/// Whether a condition is `type_` with this status and reason.
pub(crate) fn is(
    condition: &Condition,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
) -> bool {
    condition.type_ == type_ && condition.status == status && condition.reason == reason
}
