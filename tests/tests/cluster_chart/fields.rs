//! Values that become a field of an object as they are, each alone.

use crate::chart::{Rendered, render};
use anyhow::ensure;
use serde_json::{Value, json};

/// A value, and the field that it becomes: of which object, where in it, and as what.
struct Field {
    values: Value,
    object: (&'static str, &'static str),
    pointer: &'static str,
    expected: Value,
}

const fn field(
    values: Value,
    object: (&'static str, &'static str),
    pointer: &'static str,
    expected: Value,
) -> Field {
    Field { values, object, pointer, expected }
}

impl Field {
    /// What is in its place.
    fn found<'r>(&self, rendered: &'r Rendered) -> Option<&'r Value> {
        let (kind, name) = self.object;
        rendered.object(kind, name).ok()?.pointer(self.pointer)
    }
}

fn fields() -> Vec<Field> {
    let service = ("Service", "patchbay-gateway");
    let gateway = ("Deployment", "patchbay-gateway");
    let operator = ("Deployment", "patchbay-operator");
    let note = json!({ "example.com/note": "a" });
    let noted = "/metadata/annotations/example.com~1note";
    let of_service = |what: Value| json!({ "gateway": { "service": what } });
    let route = |more: Value| {
        let mut values = more;
        values["httpRoute"]["enabled"] = json!(true);
        values["httpRoute"]["parentRefs"] = json!([{ "name": "public" }]);
        values
    };
    let certificates = |name: &str, value: &str| json!({ "controlPlane": { "certManager": { "enabled": true, (name): value } } });
    let ingress = json!({ "enabled": true, "host": "mcp.example.com", "annotations": note });
    let providers = json!({ "cidrs": ["203.0.113.0/24"], "ports": [8443] });
    let amounts = json!({ "requests": { "cpu": "3" }, "limits": { "memory": "5Gi" } });
    let (requested, limit) = (
        "/spec/template/spec/containers/0/resources/requests/cpu",
        "/spec/template/spec/containers/0/resources/limits/memory",
    );
    let mut all = vec![
        field(
            of_service(json!({ "type": "LoadBalancer" })),
            service,
            "/spec/type",
            json!("LoadBalancer"),
        ),
        field(of_service(json!({ "port": 9443 })), service, "/spec/ports/0/port", json!(9443)),
        field(
            route(of_service(json!({ "port": 9443 }))),
            ("HTTPRoute", "patchbay"),
            "/spec/rules/0/backendRefs/0/port",
            json!(9443),
        ),
        field(of_service(json!({ "annotations": note })), service, noted, json!("a")),
        field(
            json!({ "cluster": { "domain": "corp.example" } }),
            gateway,
            "/spec/template/spec/containers/0/args/7",
            json!("--allowed-host=patchbay-gateway.patchbay-system.svc.corp.example"),
        ),
        field(json!({ "ingress": ingress }), ("Ingress", "patchbay"), noted, json!("a")),
        field(
            route(json!({ "httpRoute": { "annotations": note } })),
            ("HTTPRoute", "patchbay"),
            noted,
            json!("a"),
        ),
        field(
            certificates("caDuration", "50000h"),
            ("Certificate", "patchbay-control-plane-ca"),
            "/spec/duration",
            json!("50000h"),
        ),
        field(
            json!({ "networkPolicy": { "providers": providers } }),
            ("NetworkPolicy", "patchbay-gateway"),
            "/spec/egress/3",
            json!({
                "to": [{ "ipBlock": { "cidr": "203.0.113.0/24" } }],
                "ports": [{ "protocol": "TCP", "port": 8443 }],
            }),
        ),
    ];
    for (part, deployment) in [("gateway", gateway), ("operator", operator)] {
        let own = |what: &str, value: Value| json!({ (part): { (what): value } });
        let certificate = ("Certificate", deployment.1);
        all.extend([
            field(own("replicas", json!(5)), deployment, "/spec/replicas", json!(5)),
            field(own("resources", amounts.clone()), deployment, requested, json!("3")),
            field(own("resources", amounts.clone()), deployment, limit, json!("5Gi")),
            field(certificates("duration", "500h"), certificate, "/spec/duration", json!("500h")),
            field(
                certificates("renewBefore", "50h"),
                certificate,
                "/spec/renewBefore",
                json!("50h"),
            ),
        ]);
    }
    all
}

#[tokio::test]
async fn each_value_is_the_field_that_it_is_for() -> anyhow::Result<()> {
    let plain = render(json!({})).await?;
    for field in fields() {
        let Field { values, object, pointer, expected } = &field;
        let before = field.found(&plain);
        ensure!(before != Some(expected), "{object:?} has {pointer} = {expected} anyhow");
        let rendered = render(values.clone()).await?;
        let found = field.found(&rendered);
        ensure!(found == Some(expected), "{values}: {object:?} has {pointer} = {found:?}");
    }
    Ok(())
}
