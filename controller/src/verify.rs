//! `patchbay verify`: what an installation needs of its cluster, seen from a pod in it; `helm test` runs it.
//!
//! Network policies are only as good as the cluster's network plugin, and some plugins enforce none. So a pod that
//! may reach the gateway's port for users, and not its admin port, tries both. What it finds becomes a condition of
//! every class, where whoever reads about isolation sees it. This module must not know how policies are enforced.

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use patchbay_crds::{
    WorkerClass,
    condition::{Condition, ConditionStatus},
};
use serde_json::json;
use std::{net::SocketAddr, process::ExitCode, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, interval, timeout},
};

/// The condition of a class that says whether the cluster enforces network policies.
const NETWORK_POLICY_ENFORCED: &str = "NetworkPolicyEnforced";
/// Who writes that condition.
const FIELD_MANAGER: &str = "patchbay-verify";
/// What a namespace says about the pods that it takes.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// How long a connection may take to be made. One that a policy forbids is usually never answered.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a new pod may be without a network, or its names.
const SETTLE: Duration = Duration::from_mins(1);

/// Arguments of `patchbay verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The installation's namespace.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_NAMESPACE")]
    namespace: String,
    /// A name that leads to the gateways' pods themselves.
    #[arg(long, value_name = "HOST")]
    gateway: String,
    /// Their port for users, which a network policy opens to this pod.
    #[arg(long, value_name = "PORT")]
    open: u16,
    /// Their admin port, which it does not.
    #[arg(long, value_name = "PORT")]
    closed: u16,
}

/// Says what holds, and what to do where something does not. Fails if anything does not.
pub(crate) fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::try_default().await.context("not in a pod with a service account")?;
        let VerifyArgs { namespace, gateway, open, closed } = args;
        let namespaces = Api::<Namespace>::all(client.clone());
        let findings = [
            pod_security(&namespaces.get(&namespace).await.context("cannot read the namespace")?),
            network_policy(&reach(&gateway, open, closed).await),
        ];
        let network = &findings[1];
        let classes = Api::<WorkerClass>::namespaced(client, &namespace);
        report(&classes, network).await.context("cannot say so in the classes")?;
        for finding in &findings {
            println!("{}", finding.line());
        }
        let all_hold = findings.iter().all(|finding| finding.holds == Some(true));
        Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Something that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// None where it could not be seen.
    holds: Option<bool>,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn line(&self) -> String {
        let mark = match self.holds {
            Some(true) => "ok     ",
            Some(false) => "FAIL   ",
            None => "UNKNOWN",
        };
        format!("{mark}  {}", self.message)
    }

    /// As a condition that replaces `known`.
    fn condition(
        &self,
        known: Option<&Condition>,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let status = match self.holds {
            Some(true) => ConditionStatus::True,
            Some(false) => ConditionStatus::False,
            None => ConditionStatus::Unknown,
        };
        let since = known.filter(|known| known.status == status);
        Condition {
            type_: NETWORK_POLICY_ENFORCED.into(),
            status,
            reason: self.reason.into(),
            message: self.message.clone(),
            last_transition_time: since.map_or(now, |known| known.last_transition_time),
            observed_generation: generation,
        }
    }
}

/// Whether a namespace takes no pod that has rights on its node.
fn pod_security(namespace: &Namespace) -> Finding {
    let level = namespace.labels().get(POD_SECURITY).map_or("nothing", String::as_str);
    let name = namespace.name_any();
    if level == "restricted" {
        let message = format!("namespace {name} enforces Pod Security `restricted`");
        return Finding { holds: Some(true), reason: "Restricted", message };
    }
    let message = format!(
        "namespace {name} enforces {level} of Pod Security; run: kubectl label --overwrite namespace {name} \
         {POD_SECURITY}=restricted"
    );
    Finding { holds: Some(false), reason: "NotRestricted", message }
}

/// What a pod that is let in at one port reached.
#[derive(Debug)]
struct Reached {
    /// The port that it is let in at, or why not.
    open: Result<(), String>,
    /// The other port, or why not.
    closed: Result<(), String>,
}

fn network_policy(reached: &Reached) -> Finding {
    match (&reached.open, &reached.closed) {
        (Ok(()), Err(_)) => Finding {
            holds: Some(true),
            reason: "ForbiddenPortUnreachable",
            message: "the cluster enforces NetworkPolicies: a port that one forbids was not reached".into(),
        },
        (_, Ok(())) => Finding {
            holds: Some(false),
            reason: "ForbiddenPortReached",
            message: "the cluster does not enforce NetworkPolicies: a port that one forbids was reached; \
                      workers reach what their class does not list. Use a network plugin that enforces them"
                .into(),
        },
        // then the other's silence means nothing
        (Err(why), Err(_)) => Finding {
            holds: None,
            reason: "GatewayUnreachable",
            message: format!("no gateway was reached, so nothing is known of NetworkPolicies: {why}"),
        },
    }
}

/// Tries both ports of one gateway.
async fn reach(gateway: &str, open: u16, closed: u16) -> Reached {
    let end = Instant::now() + SETTLE;
    let mut turns = interval(Duration::from_secs(1));
    loop {
        turns.tick().await;
        match connect_by_name(gateway, open).await {
            Ok(address) => {
                let closed = connect(SocketAddr::new(address.ip(), closed)).await;
                return Reached { open: Ok(()), closed };
            }
            Err(_) if Instant::now() < end => {}
            Err(why) => return Reached { open: Err(why.clone()), closed: Err(why) },
        }
    }
}

async fn connect_by_name(host: &str, port: u16) -> Result<SocketAddr, String> {
    let addresses = timeout(CONNECT, lookup_host((host, port))).await;
    let mut addresses = addresses
        .map_err(|_| format!("{host} was not looked up in time"))?
        .map_err(|error| format!("{host} is not found: {error}"))?;
    let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
    connect(address).await.map(|()| address)
}

async fn connect(address: SocketAddr) -> Result<(), String> {
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} did not answer")),
    }
}

/// Says it in every class. Server-side apply of this one condition: the others are the operator's.
async fn report(classes: &Api<WorkerClass>, network: &Finding) -> kube::Result<()> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for class in classes.list(&ListParams::default()).await? {
        let conditions = class.status.as_ref().map(|status| status.conditions.as_slice());
        let known =
            conditions.unwrap_or_default().iter().find(|it| it.type_ == NETWORK_POLICY_ENFORCED);
        let condition = network.condition(known, class.metadata.generation, Timestamp::now());
        let status = json!({
            "apiVersion": patchbay_crds::API_VERSION,
            "kind": "WorkerClass",
            "status": { "conditions": [condition] },
        });
        classes.patch_status(&class.name_any(), &params, &Patch::Apply(&status)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    fn reached(open: bool, closed: bool) -> Reached {
        let or = |is: bool| is.then_some(()).ok_or_else(|| "no answer".to_owned());
        Reached { open: or(open), closed: or(closed) }
    }

    #[test]
    fn a_forbidden_port_that_is_not_reached_proves_something_only_beside_one_that_is() {
        assert_eq!(network_policy(&reached(true, false)).holds, Some(true));
        assert_eq!(network_policy(&reached(true, true)).holds, Some(false));
        assert_eq!(network_policy(&reached(false, true)).holds, Some(false));
        let unknown = network_policy(&reached(false, false));
        assert_eq!(unknown.holds, None);
        assert!(unknown.line().ends_with("no answer"), "{}", unknown.line());
    }

    #[test]
    fn a_namespace_that_enforces_less_is_told_what_to_do() {
        let namespace = |labels: serde_json::Value| {
            let object = json!({ "metadata": { "name": "mcp", "labels": labels } });
            serde_json::from_value::<Namespace>(object).unwrap()
        };
        let restricted = namespace(json!({ POD_SECURITY: "restricted" }));
        assert_eq!(pod_security(&restricted).holds, Some(true));
        for labels in [json!({}), json!({ POD_SECURITY: "baseline" }), json!(null)] {
            let finding = pod_security(&namespace(labels));
            assert_eq!(finding.holds, Some(false));
            let fix = "kubectl label --overwrite namespace mcp pod-security.kubernetes.io/enforce=restricted";
            assert!(finding.line().ends_with(fix), "{}", finding.line());
        }
    }

    #[test]
    fn a_finding_that_is_merely_repeated_keeps_its_time() {
        let [early, late] = [1, 2].map(|second| Timestamp::from_second(second).unwrap());
        let enforced = network_policy(&reached(true, false));
        let first = enforced.condition(None, Some(1), early);
        assert_eq!((first.status, first.last_transition_time), (ConditionStatus::True, early));
        let again = enforced.condition(Some(&first), Some(2), late);
        assert_eq!((again.last_transition_time, again.observed_generation), (early, Some(2)));
        let other = network_policy(&reached(true, true)).condition(Some(&first), Some(2), late);
        assert_eq!((other.status, other.last_transition_time), (ConditionStatus::False, late));
    }

    #[tokio::test]
    async fn both_ports_are_tried_at_one_address() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let free = other.local_addr().unwrap().port();
        let both = reach("127.0.0.1", open, free).await;
        assert!(both.open.is_ok() && both.closed.is_ok(), "{both:?}");
        drop(other);
        let one = reach("127.0.0.1", open, free).await;
        assert!(one.open.is_ok() && one.closed.is_err(), "{one:?}");
    }
}
