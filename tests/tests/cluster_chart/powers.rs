//! The switches of what the programs may do, and by which keys: rights, Secrets, kinds and admission policies.

use crate::chart::render;
use anyhow::{Context, bail, ensure};
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule, Role},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::json;

#[tokio::test]
async fn the_gateway_may_get_the_secrets_that_are_listed_and_no_other() -> anyhow::Result<()> {
    let rules = async |values| {
        let role: Role = render(values).await?.one("patchbay-gateway")?;
        let of_secrets =
            |rule: &PolicyRule| rule.resources.iter().flatten().any(|it| it == "secrets");
        anyhow::Ok(role.rules.into_iter().flatten().filter(of_secrets).collect::<Vec<_>>())
    };
    ensure!(rules(json!({})).await?.is_empty());
    let listed =
        rules(json!({ "gateway": { "providerSecrets": ["staff-keys", "quilt"] } })).await?;
    let [rule] = listed.as_slice() else { anyhow::bail!("{listed:?}") };
    ensure!(rule.verbs == ["get"], "{rule:?}");
    let names = rule.resource_names.as_deref();
    ensure!(names == Some(&["staff-keys".to_owned(), "quilt".to_owned()][..]), "{rule:?}");
    Ok(())
}

#[tokio::test]
async fn the_kinds_stay_when_the_release_goes_and_can_be_left_to_somebody_else()
-> anyhow::Result<()> {
    let rendered = render(json!({})).await?;
    let names = rendered.names("CustomResourceDefinition");
    let known: Vec<_> =
        patchbay_crds::all().into_iter().filter_map(|it| it.metadata.name).collect();
    ensure!(names.len() == known.len() && known.iter().all(|it| names.contains(it)), "{names:?}");
    for kind in patchbay_crds::all() {
        let name = kind.metadata.name.as_deref().context("a name")?;
        let made: CustomResourceDefinition = rendered.one(name)?;
        ensure!(made.spec == kind.spec, "{name} is not what it is in crds/yaml");
        let annotations = made.metadata.annotations.context("no annotations")?;
        ensure!(annotations["helm.sh/resource-policy"] == "keep", "{name}");
    }
    let without = render(json!({ "crds": { "install": false } })).await?;
    ensure!(without.names("CustomResourceDefinition").is_empty());
    Ok(())
}

#[tokio::test]
async fn rights_can_be_left_to_somebody_else() -> anyhow::Result<()> {
    let rendered = render(json!({ "rbac": { "create": false } })).await?;
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        ensure!(rendered.names(kind).is_empty(), "{kind}");
    }
    ensure!(rendered.names("ServiceAccount").len() == 3, "pods are somebody all the same");
    Ok(())
}

#[tokio::test]
async fn nodes_are_watched_only_where_that_is_allowed() -> anyhow::Result<()> {
    let about_nodes = async |values| {
        let role: ClusterRole = render(values).await?.one("patchbay-operator.patchbay-system")?;
        let mut resources = role.rules.into_iter().flatten().filter_map(|rule| rule.resources);
        anyhow::Ok(resources.any(|resources| resources.contains(&"nodes".to_owned())))
    };
    ensure!(about_nodes(json!({})).await?);
    ensure!(!about_nodes(json!({ "operator": { "watchNodes": false } })).await?);
    Ok(())
}

#[tokio::test]
async fn cert_manager_takes_the_place_of_the_secrets_and_of_the_right_to_them() -> anyhow::Result<()>
{
    let values = json!({ "controlPlane": { "certManager": { "enabled": true } } });
    let rendered = render(values).await?;
    // sessions are none of its business
    ensure!(rendered.names("Secret") == ["patchbay-session-keys"]);
    ensure!(rendered.names("Issuer") == ["patchbay-control-plane", "patchbay-self-signed"]);
    let operator = rendered.arguments("patchbay-operator")?;
    let secrets: Vec<_> = operator.iter().filter(|it| it.contains("secret")).collect();
    ensure!(secrets == ["--session-secret=patchbay-session-keys"], "{operator:?}");
    for flag in [
        "--link-cert=/etc/patchbay/link/tls.crt",
        "--link-key=/etc/patchbay/link/tls.key",
        "--link-ca=/etc/patchbay/link/ca.crt",
    ] {
        ensure!(operator.contains(&flag.to_owned()), "{operator:?}");
    }
    let role: Role = rendered.one("patchbay-operator")?;
    let of_secrets = |rule: &PolicyRule| {
        rule.resources.as_ref().is_some_and(|it| it.contains(&"secrets".to_owned()))
    };
    let rules: Vec<_> = role.rules.into_iter().flatten().filter(of_secrets).collect();
    let [about_secrets] = &rules[..] else { bail!("{rules:?}") };
    ensure!(about_secrets.resource_names == Some(vec!["patchbay-session-keys".to_owned()]));
    for part in ["gateway", "operator"] {
        let certificate = rendered.object("Certificate", &format!("patchbay-{part}"))?;
        let volumes = rendered.pod_spec(&format!("patchbay-{part}"))?.volumes.context("none")?;
        let mounted = volumes[0].secret.as_ref().and_then(|it| it.secret_name.clone());
        ensure!(certificate["spec"]["secretName"].as_str() == mounted.as_deref(), "{part}");
    }

    let issuer =
        json!({ "name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io" });
    let values =
        json!({ "controlPlane": { "certManager": { "enabled": true, "issuerRef": issuer } } });
    let rendered = render(values).await?;
    ensure!(rendered.names("Issuer").is_empty());
    ensure!(rendered.names("Certificate") == ["patchbay-gateway", "patchbay-operator"]);
    let certificate = rendered.object("Certificate", "patchbay-gateway")?;
    ensure!(certificate["spec"]["issuerRef"] == issuer);
    Ok(())
}

#[tokio::test]
async fn admission_policies_can_be_left_out() -> anyhow::Result<()> {
    for (enabled, count) in [(true, 2), (false, 0)] {
        let rendered = render(json!({ "admissionPolicies": { "enabled": enabled } })).await?;
        ensure!(rendered.names("ValidatingAdmissionPolicy").len() == count);
        ensure!(rendered.names("ValidatingAdmissionPolicyBinding").len() == count);
    }
    Ok(())
}
