//! `patchbay why`: what has become of a user, told from the objects of a cluster. It reads, with the rights of whoever
//! asks, and changes nothing. Doc comments on arguments are what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

mod story;

use crate::cluster;
use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::ListParams};
use patchbay_core::tenant::TenantName;
use patchbay_crds::{Tenant, WorkerClass};
use std::process::ExitCode;
use story::Seen;

/// More Events than a cluster keeps of one object.
const EVENTS: u32 = 500;

/// Arguments of `patchbay why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The user's Tenant, such as t-go5gbctxrdlmessgoznl. `patchbay tenant` prints its name, and so do the logs of
    /// gateways.
    #[arg(value_name = "TENANT", value_parser = name)]
    tenant: TenantName,
    /// The installation's namespace [default: the one of the kubeconfig].
    #[arg(short, long, value_name = "NAME", env = "PATCHBAY_NAMESPACE")]
    namespace: Option<String>,
}

fn name(text: &str) -> Result<TenantName, String> {
    TenantName::parse(text).map_err(|error| error.to_string())
}

/// Tells the tenant's story. Fails if there is no such tenant.
pub(crate) fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(look(args))?;
    print!("{}", story::tell(&seen, Timestamp::now()));
    Ok(ExitCode::SUCCESS)
}

async fn look(WhyArgs { tenant: name, namespace }: WhyArgs) -> anyhow::Result<Seen> {
    let (namespace, client) = cluster::connect(namespace).await?;
    let tenants = Api::<Tenant>::namespaced(client.clone(), &namespace);
    let tenant = tenants.get_opt(name.as_str()).await.context("cannot read tenants")?;
    let tenant = tenant.with_context(|| {
        format!(
            "there is no tenant {name} in namespace {namespace}: nobody came under that identity yet, or it was deleted; \
             `kubectl get tenants -n {namespace}` lists who did"
        )
    })?;
    let class = Api::<WorkerClass>::namespaced(client.clone(), &namespace);
    let class = class.get_opt(&tenant.spec.class_name).await.context("cannot read classes")?;
    let worker = tenant.spec.assignment.as_ref().map(|assignment| &assignment.worker);
    let worker = match worker.filter(|worker| !worker.is_empty()) {
        Some(worker) => {
            let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
            pods.get_opt(worker).await.context("cannot read pods")?
        }
        None => None,
    };
    let of_it = format!("involvedObject.kind=Tenant,involvedObject.name={name}");
    let asked = ListParams::default().fields(&of_it).limit(EVENTS);
    let events = Api::<Event>::namespaced(client, &namespace);
    let events = events.list(&asked).await.context("cannot read events")?.items;
    Ok(Seen { tenant, class, worker, events })
}
