//! `patchbay why`: what has become of a user, told from the objects of a cluster, or what a credential would get. It reads,
//! with the rights of whoever asks, changes nothing, and shows the credential to nobody. Doc comments on arguments are
//! what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

mod credential;
mod story;
mod verdict;

use crate::cluster;
use anyhow::Context;
use clap::Args;
use credential::Asked;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::ListParams};
use patchbay_core::tenant::TenantName;
use patchbay_crds::{Tenant, WorkerClass};
use std::{path::PathBuf, process::ExitCode};
use story::Seen;

/// More Events than a cluster keeps of one object.
const EVENTS: u32 = 500;

/// Where users are that no cluster knows.
const ON_ONE_MACHINE: &str = "the users of `patchbay local` are in no cluster: on its machine \
                              http://127.0.0.1:9090/tenants (--admin-listen) shows each one's phase, worker and why the \
                              last one left, its log what was refused and why, and `patchbay why --token-file FILE \
                              --file PATH` what a credential would get";

/// Arguments of `patchbay why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The user's Tenant in a cluster, such as t-go5gbctxrdlmessgoznl. `patchbay tenant` prints its name, and so do the
    /// logs of gateways. Users of `patchbay local` are in none: http://127.0.0.1:9090/tenants shows them.
    #[arg(value_name = "TENANT", value_parser = name, required_unless_present = "token_file")]
    tenant: Option<TenantName>,
    /// In the place of a tenant: file with a token or API key, or - for standard input. What it would get is told for each
    /// class, without using it: no catalog is asked, and nobody is signed in.
    #[arg(long, value_name = "FILE", conflicts_with = "tenant")]
    token_file: Option<PathBuf>,
    /// Judge the token by these YAML documents (WorkerClass, IdentityProvider), in the place of a cluster's.
    #[arg(short = 'f', long = "file", value_name = "PATH", requires = "token_file")]
    files: Vec<PathBuf>,
    /// With --file: directory of the Secrets that providers name, as of `patchbay local`.
    #[arg(long, value_name = "DIR", requires = "files")]
    provider_secrets: Option<PathBuf>,
    /// Tell of this class alone.
    #[arg(long, value_name = "NAME", requires = "token_file")]
    class: Option<String>,
    /// The installation's namespace [default: the one of the kubeconfig].
    #[arg(short, long, value_name = "NAME", env = "PATCHBAY_NAMESPACE")]
    namespace: Option<String>,
}

fn name(text: &str) -> Result<TenantName, String> {
    TenantName::parse(text).map_err(|error| error.to_string())
}

/// Tells the tenant's story, or what a credential would get. Fails if there is no such tenant, or if no class takes the
/// credential.
pub(crate) fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let WhyArgs { tenant, token_file, files, provider_secrets, class, namespace } = args;
        let now = Timestamp::now();
        match (tenant, token_file) {
            (Some(tenant), _) => {
                print!("{}", story::tell(&look(tenant, namespace).await?, now));
                Ok(ExitCode::SUCCESS)
            }
            (None, Some(token)) => {
                let asked = Asked { token, files, provider_secrets, class, namespace };
                let verdicts = credential::examine(asked, now).await?;
                print!("{}", verdict::tell(&verdicts, now));
                let is_any_good = verdicts.iter().any(verdict::Verdict::is_good);
                Ok(if is_any_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            (None, None) => anyhow::bail!("name a tenant, or a file with a token"),
        }
    })
}

async fn look(name: TenantName, namespace: Option<String>) -> anyhow::Result<Seen> {
    let (namespace, client) = cluster::connect(namespace).await.context(ON_ONE_MACHINE)?;
    let tenants = Api::<Tenant>::namespaced(client.clone(), &namespace);
    let tenant = tenants.get_opt(name.as_str()).await.with_context(|| {
        format!("cannot read the tenants of namespace {namespace}; {ON_ONE_MACHINE}")
    })?;
    let tenant = tenant.with_context(|| {
        format!(
            "there is no tenant {name} in namespace {namespace}: nobody came under that identity yet, or it was deleted; \
             `kubectl get tenants -n {namespace}` lists who did; {ON_ONE_MACHINE}"
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
