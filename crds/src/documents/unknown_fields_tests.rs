//! A field that this release does not know: tolerated in an object of an API server, where a later
//! release may have written it, and refused in a file, where it is a mistake or a secret.

use super::*;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::json;

const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn catalog() -> Value {
    json!({"origin": "https://c.example", "registry": "https://r.example", "caBundle": "PEM"})
}

/// One object of each kind that sets every field. They need not make sense, only have the shape.
fn full(kind: Kind) -> Value {
    let mut asked = catalog();
    asked["region"] = json!("us-east-1");
    asked["audience"] = json!("quilt");
    asked["exchange"] = json!({
        "tokenEndpoint": "https://i.example/token", "audience": "c", "scope": "s",
        "client": {"id": "i", "secretRef": {"name": "n", "key": "k"}},
    });
    let (name, spec) = match kind {
        Kind::WorkerClass => (
            "quilt",
            json!({
                "path": "/mcp", "host": "h.example", "image": "i", "command": ["/c"],
                "env": {"A": "b"}, "transport": "http",
                "server": {"port": 1, "path": "/", "readyPath": "/health"},
                "profile": "generic", "start": "warm",
                "resources": {"memory": "1Gi", "pids": 1},
                "tmpfs": {"home": "1Mi", "tmp": "1Mi", "run": "1Mi"},
                "runtimeClassName": "gvisor", "nodeSelector": {"a": "b"}, "tolerations": [{}],
                "egress": {
                    "hosts": [{"host": "h", "port": 1, "plainHttp": true}], "cidrs": ["10.0.0.0/8"]
                },
                "idleTimeout": "1s", "maxAge": "1s", "drainTimeout": "1s", "forgetAfter": "1s",
                "warm": 1,
                "limits": {"tenants": 1, "requestsPerSecond": 1, "concurrentCalls": 1},
                "credentials": {
                    "source": "catalog", "catalog": asked,
                    "assumeRole": {
                        "role": "r", "roleMap": {"claim": "c", "roles": {"a": "r"}},
                        "roleClaim": {"claim": "c", "roles": ["r"]}, "externalId": "x",
                        "region": "r", "endpoint": "e", "duration": "15m", "tags": {"a": "b"},
                        "sessionPolicy": "required", "claims": {"buckets": "b", "permissions": "p"},
                    },
                    "webIdentity": {"audience": "a"}, "inlineClaims": {"region": "r"},
                    "ambient": {"issuer": "i", "subject": "s", "region": "r"},
                    "files": [{"path": "p", "template": "t"}], "env": {"A": "b"},
                },
                "tools": {
                    "allow": ["a"], "deny": ["b"], "permissions": {"a": ["p"]},
                    "bucketArguments": {"a": ["b"]}, "signedUrls": true, "hideDenied": true,
                },
                "local": {"readOnlyPaths": ["/p"], "command": ["/c"]},
            }),
        ),
        Kind::IdentityProvider => (
            "ways-in",
            json!({
                "classes": ["quilt"], "provisioning": "Preprovisioned",
                "jwt": {
                    "issuer": "i", "audiences": ["a"],
                    "jwks": {
                        "discovery": true, "cluster": true,
                        "url": "https://i.example/jwks", "caBundle": "PEM",
                        "secretRef": {"name": "n", "key": "k"},
                    },
                    "algorithms": ["RS256"], "subjectClaim": "sub", "requiredClaims": {"a": "b"},
                    "authorityClaims": ["role"], "authorizationServer": "https://i.example",
                    "format": "quiltEnhanced", "catalog": catalog(), "keyHeldByServersOnly": true,
                    "permissionCodes": {"a": "b"}, "roleAliases": {"a": "b"},
                    "roles": [{"name": "r", "level": "write", "buckets": ["b"]}],
                    "levels": {"read": ["s3:GetObject"], "write": ["s3:PutObject"], "admin": ["x"]},
                },
                "introspection": {"catalog": catalog()},
                "apiKeys": {"issuer": "urn:x", "keys": [{
                    "id": "k", "subject": "s", "digest": DIGEST,
                    "expiresAt": "2030-01-31T00:00:00Z",
                }]},
            }),
        ),
        Kind::Tenant => (
            "t-go5gbctxrdlmessgoznl",
            json!({
                "identity": {"issuer": "i", "subject": "s", "authority": DIGEST},
                "className": "quilt", "suspended": true,
                "assignment": {
                    "worker": "w", "uid": "u", "epoch": 1, "requestedAt": "2030-01-31T00:00:00Z",
                },
            }),
        ),
    };
    json!({
        "apiVersion": API_VERSION, "kind": kind.name(), "metadata": {"name": name}, "spec": spec,
    })
}

/// The pointers of all objects in `value` that have fields of their own, or what of them is
/// missing.
fn objects(schema: &JSONSchemaProps, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(properties) = &schema.properties {
        found.push(at.to_owned());
        for (name, property) in properties {
            let value = value.get(name).unwrap_or_else(|| panic!("{at} has no {name}"));
            objects(property, value, &format!("{at}/{name}"), found);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        objects(items, &value[0], &format!("{at}/0"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        assert!(values.properties.is_none(), "{at}: a map of objects");
    }
}

fn decoded(kind: Kind, object: Value) -> Result<(), serde_json::Error> {
    match kind {
        Kind::WorkerClass => serde_json::from_value::<WorkerClass>(object).map(drop),
        Kind::IdentityProvider => serde_json::from_value::<IdentityProvider>(object).map(drop),
        Kind::Tenant => serde_json::from_value::<Tenant>(object).map(drop),
    }
}

/// JSON is YAML.
fn read(object: &Value) -> Vec<(Option<String>, String)> {
    match parse(&object.to_string(), Path::new("x.yaml")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|e| (e.field.clone(), e.to_string())).collect(),
    }
}

#[test]
fn it_is_tolerated_from_an_api_server_and_refused_in_a_file_wherever_it_is() {
    let mut places = 0;
    for kind in Kind::ALL {
        let full = full(kind);
        assert_eq!(read(&full), []);
        let definition = kind.definition();
        let root = definition.spec.versions[0].schema.as_ref().unwrap();
        let root = root.open_api_v3_schema.as_ref().unwrap();
        let spec = &root.properties.as_ref().unwrap()["spec"];
        let mut found = Vec::new();
        objects(spec, &full["spec"], "/spec", &mut found);
        for pointer in found {
            let mut object = full.clone();
            object.pointer_mut(&pointer).unwrap()["fieldOfLater"] = json!("pb_k_hunter2");
            let errors = read(&object);
            assert_eq!(errors.len(), 1, "{pointer}: {errors:?}");
            let expected = format!("{}.fieldOfLater", pointer[1..].replace("/0", "[0]"));
            let expected = expected.replace('/', ".");
            let (field, said) = &errors[0];
            assert_eq!(field.as_deref(), Some(expected.as_str()));
            assert!(said.contains("unknown field"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
            decoded(kind, object).unwrap_or_else(|error| panic!("{pointer}: {error}"));
            places += 1;
        }
    }
    assert!(places > 20, "only {places} objects were found");
}

#[test]
fn it_is_tolerated_in_a_status_and_its_conditions() {
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Fine", "message": "",
        "lastTransitionTime": "2030-01-31T00:00:00Z", "fieldOfLater": 1,
    });
    for kind in Kind::ALL {
        let mut object = full(kind);
        object["status"] = json!({"conditions": [condition], "fieldOfLater": {}});
        decoded(kind, object).unwrap();
    }
}

#[test]
fn a_secret_beside_a_digest_is_refused_with_its_field_and_without_itself() {
    let mut object = full(Kind::IdentityProvider);
    object["spec"]["apiKeys"]["keys"][0]["key"] = json!("pb_k_hunter2");
    let errors = read(&object);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].0.as_deref(), Some("spec.apiKeys.keys[0].key"));
    assert!(
        errors[0].1.ends_with("use one of `digest`, `expiresAt`, `id`, `subject`"),
        "{errors:?}"
    );
    assert!(!errors[0].1.contains("hunter2"), "{errors:?}");
}
