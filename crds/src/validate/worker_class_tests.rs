//! What a `WorkerClass` may say, and how each mistake is answered.

use super::*;
use patchbay_core::{
    cidr::Cidr,
    class::{ExchangeClient, TokenExchange},
    provider::SecretEntry,
    tools::ToolPolicy,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn minimal() -> Value {
    json!({"image": "registry.example/server:1", "command": ["/usr/bin/server"]})
}

/// The minimal spec with `value` at the JSON pointer `at`, whose parents are made.
fn with(at: &str, value: Value) -> Value {
    let mut spec = minimal();
    let mut place = &mut spec;
    for segment in at.split('/') {
        place = &mut place[segment];
    }
    *place = value;
    spec
}

fn class(spec: Value) -> WorkerClass {
    WorkerClass::new("quilt", serde_json::from_value(spec).unwrap())
}

fn errors(spec: Value) -> Vec<FieldError> {
    validate(&class(spec)).unwrap_err()
}

fn fields(spec: Value) -> Vec<String> {
    errors(spec).into_iter().map(|error| error.field).collect()
}

#[test]
fn the_least_that_can_be_written_is_a_class_with_the_documented_defaults() {
    let mut expected = patchbay_core::fixtures::class("quilt", "/mcp");
    expected.resources.pids = 256;
    expected.tmpfs = class::TmpfsSizes { home: 64 * MIB, tmp: 100 * MIB, run: 10 * MIB };
    assert_eq!(validate(&class(minimal())), Ok(expected));
}

#[test]
fn everything_that_can_be_written_arrives() {
    let spec = json!({
        "path": "/q/mcp",
        "host": "mcp.example.com",
        "image": "registry.example/quilt:1",
        "command": ["/opt/python"],
        "env": {"LOG_LEVEL": "debug", "_x": ""},
        "server": {"port": 9000, "path": "/mcp/", "readyPath": "/healthz"},
        "profile": "quilt",
        "resources": {"memory": "1Gi", "pids": 64},
        "tmpfs": {"home": "1Mi", "tmp": "2Mi", "run": "3Mi"},
        "egress": {"hosts": [
            {"host": "s3.example", "plainHttp": true}, {"host": "::1", "port": 80}
        ]},
        "idleTimeout": "1h30m",
        "maxAge": "12h",
        "drainTimeout": "10m",
        "warm": 1000,
        "limits": {"tenants": 7},
        "credentials": {"source": "catalog", "catalog": {
            "origin": "https://c.example", "registry": "https://r.example:8443",
            "region": "eu-west-1"
        }},
        "local": {"readOnlyPaths": ["/opt/venv"], "command": ["/opt/venv/bin/python"]},
    });
    let class = validate(&class(spec)).unwrap();
    assert_eq!((class.path.as_str(), class.host.as_deref()), ("/q/mcp", Some("mcp.example.com")));
    assert_eq!(class.command, ["/opt/python"]);
    assert_eq!(class.env["LOG_LEVEL"], "debug");
    let class::Transport::Http { port, path, ready_path } = &class.transport else {
        panic!("{:?}", class.transport);
    };
    assert_eq!((*port, path.as_str(), ready_path.as_deref()), (9000, "/mcp/", Some("/healthz")));
    assert_eq!(class.profile, class::Profile::Quilt);
    assert_eq!((class.resources.memory_bytes, class.resources.pids), (1 << 30, 64));
    assert_eq!([class.tmpfs.home, class.tmpfs.tmp, class.tmpfs.run], [1, 2, 3].map(|n| n * MIB));
    let hosts: Vec<_> = class.egress.hosts.iter().map(|h| (h.to_string(), h.plain_http)).collect();
    assert_eq!(hosts, [("s3.example:443".to_owned(), true), ("::1:80".to_owned(), false)]);
    assert_eq!(class.idle.idle_timeout, Duration::from_mins(90));
    assert_eq!(class.idle.max_age, Some(DAY / 2));
    assert_eq!(class.drain, Duration::from_mins(10));
    assert_eq!((class.warm, class.limits.tenants), (1000, Some(7)));
    let class::CredentialSource::Catalog(catalog) = &class.credentials else {
        panic!("{:?}", class.credentials);
    };
    assert_eq!(catalog.registry, "https://r.example:8443");
    assert_eq!(catalog.region, "eu-west-1");
    assert_eq!(class.local_command(), ["/opt/venv/bin/python"]);
    assert_eq!(class.local.read_only_paths, [std::path::Path::new("/opt/venv")]);
}

fn quilt() -> serde_json::Value {
    json!({
        "image": "i", "command": ["/opt/python"], "profile": "quilt",
        "credentials": {"source": "catalog", "catalog": {
            "origin": "https://c.example", "registry": "https://r.example"
        }},
    })
}

#[test]
fn a_quilt_class_is_probed_where_quilt_mcp_says_that_it_is_up() {
    let class = validate(&class(quilt())).unwrap();
    let class::Transport::Http { ready_path, .. } = &class.transport else {
        panic!("{:?}", class.transport);
    };
    assert_eq!(ready_path.as_deref(), Some("/health"));
}

#[test]
fn a_quilt_class_needs_a_python_a_catalog_and_two_names_that_can_be_told_apart() {
    for (pointer, value, field) in [
        ("/command", json!(["/opt/python", "-m", "quilt_mcp"]), "spec.command"),
        ("/credentials", json!({"source": "none"}), "spec.credentials.source"),
        (
            "/credentials/catalog/registry",
            json!("https://c.example:8443"),
            "spec.credentials.catalog.registry",
        ),
    ] {
        let mut spec = quilt();
        *spec.pointer_mut(pointer).unwrap() = value;
        let errors = validate(&class(spec)).unwrap_err();
        assert!(errors.iter().any(|error| error.field == field), "{field}: {errors:?}");
    }
    let mut one_origin = quilt();
    one_origin["credentials"]["catalog"]["registry"] = json!("https://c.example");
    assert!(validate(&class(one_origin)).is_ok());
}

#[test]
fn a_ca_bundle_is_pem_and_not_empty() {
    for bundle in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let mut spec = quilt();
        spec["credentials"]["catalog"]["caBundle"] = json!(bundle);
        let errors = validate(&class(spec)).unwrap_err();
        assert_eq!(errors.len(), 1, "{bundle}: {errors:?}");
        assert_eq!(errors[0].field, "spec.credentials.catalog.caBundle");
    }
}

#[test]
fn each_bad_value_is_named_by_its_field() {
    for (at, value, field) in [
        ("path", json!("/mcp/"), "spec.path"),
        ("path", json!("/.well-known/x"), "spec.path"),
        ("host", json!("Mcp.example"), "spec.host"),
        ("image", json!(" "), "spec.image"),
        ("command", json!([]), "spec.command"),
        ("command", json!(["server"]), "spec.command[0]"),
        ("command", json!(["/s", "a\0b"]), "spec.command[1]"),
        ("env", json!({"1X": "a"}), "spec.env.1X"),
        ("env", json!({"X": "a\0"}), "spec.env.X"),
        ("server/port", json!(0), "spec.server.port"),
        ("server/path", json!("mcp"), "spec.server.path"),
        ("server/readyPath", json!("x"), "spec.server.readyPath"),
        ("resources/memory", json!("63Mi"), "spec.resources.memory"),
        ("resources/memory", json!("2Ti"), "spec.resources.memory"),
        ("resources/pids", json!(0), "spec.resources.pids"),
        ("tmpfs/home", json!("0"), "spec.tmpfs.home"),
        ("tmpfs/tmp", json!("x"), "spec.tmpfs.tmp"),
        ("tmpfs/run", json!("2Ti"), "spec.tmpfs.run"),
        ("egress/hosts", json!([{"host": "*.example"}]), "spec.egress.hosts[0].host"),
        ("egress/hosts", json!([{"host": "a", "port": 0}]), "spec.egress.hosts[0].port"),
        ("egress/hosts", json!([{"host": "a"}, {"host": "a"}]), "spec.egress.hosts[1]"),
        ("egress/cidrs", json!(["10.0.0.0"]), "spec.egress.cidrs[0]"),
        ("runtimeClassName", json!("g visor"), "spec.runtimeClassName"),
        ("tolerations", json!([{"kye": "k"}]), "spec.tolerations[0].kye"),
        ("tolerations", json!([{"key": 1}]), "spec.tolerations[0].key"),
        ("tolerations", json!([{"operator": "Is"}]), "spec.tolerations[0].operator"),
        ("tolerations", json!([{"effect": "No"}]), "spec.tolerations[0].effect"),
        (
            "tolerations",
            json!([{"tolerationSeconds": "1"}]),
            "spec.tolerations[0].tolerationSeconds",
        ),
        ("idleTimeout", json!("0s"), "spec.idleTimeout"),
        ("idleTimeout", json!("31d"), "spec.idleTimeout"),
        ("maxAge", json!("soon"), "spec.maxAge"),
        ("drainTimeout", json!("11m"), "spec.drainTimeout"),
        ("warm", json!(-1), "spec.warm"),
        ("warm", json!(1001), "spec.warm"),
        ("limits/tenants", json!(0), "spec.limits.tenants"),
        ("credentials/source", json!("catalog"), "spec.credentials.catalog"),
        ("local/readOnlyPaths", json!(["opt"]), "spec.local.readOnlyPaths[0]"),
        ("local/readOnlyPaths", json!(["/"]), "spec.local.readOnlyPaths[0]"),
        ("local/readOnlyPaths", json!(["/a/../etc"]), "spec.local.readOnlyPaths[0]"),
        ("local/command", json!([]), "spec.local.command"),
        ("local/command", json!(["python"]), "spec.local.command[0]"),
    ] {
        assert_eq!(fields(with(at, value.clone())), [field], "{at} {value}");
    }
}

#[test]
fn origins_of_a_catalog_are_checked() {
    let catalog =
        json!({"origin": "https://C.example", "registry": "http://r", "region": "US EAST"});
    let spec = with("credentials", json!({"source": "catalog", "catalog": catalog}));
    assert_eq!(
        fields(spec),
        ["origin", "registry", "region"].map(|f| format!("spec.credentials.catalog.{f}"))
    );
}

#[test]
fn a_catalog_that_would_not_be_used_is_refused() {
    let catalog = json!({"origin": "https://c.example", "registry": "https://r.example"});
    let spec = with("credentials/catalog", catalog);
    assert_eq!(fields(spec), ["spec.credentials.catalog"]);
}

#[test]
fn the_environment_carries_no_credential_and_no_proxy() {
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "QUILT_API_KEY",
        "HOME",
        "HTTP_PROXY",
        "https_proxy",
        "No_Proxy",
        "all_proxy",
    ] {
        let errors = errors(with("env", json!({name: "x"})));
        assert_eq!(errors.len(), 1, "{name}");
        assert!(errors[0].problem.contains("is reserved"), "{}", errors[0]);
    }
    assert!(validate(&class(with("env", json!({"AWS_REGION": "us-east-1"})))).is_ok());
}

fn exchanging(change: impl FnOnce(&mut Value)) -> Value {
    let mut exchange = json!({
        "tokenEndpoint": "https://i.example/token", "audience": "urn:quilt", "scope": "a b",
        "client": {"id": "patchbay", "secretRef": {"name": "login", "key": "client"}},
    });
    change(&mut exchange);
    let catalog = json!({
        "origin": "https://c.example", "registry": "https://r.example", "exchange": exchange,
    });
    with("credentials", json!({"source": "catalog", "catalog": catalog}))
}

#[test]
fn what_is_said_of_an_exchange_of_tokens_arrives() {
    let class = validate(&class(exchanging(|_| ()))).unwrap();
    let exchange = class.credentials.catalog().unwrap().exchange.clone().unwrap();
    let secret = SecretEntry { name: "login".into(), key: "client".into() };
    let expected = TokenExchange {
        token_endpoint: "https://i.example/token".into(),
        audience: "urn:quilt".into(),
        scope: Some("a b".into()),
        client: Some(ExchangeClient { id: "patchbay".into(), secret: Some(secret) }),
    };
    assert_eq!(*exchange, expected);
}

#[test]
fn what_is_wrong_with_an_exchange_of_tokens_is_told_by_field() {
    for (field, value) in [
        ("tokenEndpoint", "http://i.example/token"),
        ("tokenEndpoint", "https://i.example/token?a=b"),
        ("audience", ""),
        ("audience", "a b"),
        ("scope", "a  b"),
        ("scope", " a"),
        ("scope", ""),
    ] {
        let errors = errors(exchanging(|it| it[field] = value.into()));
        assert_eq!(errors.len(), 1, "{field} {value:?}: {errors:?}");
        assert_eq!(errors[0].field, format!("spec.credentials.catalog.exchange.{field}"));
    }
    let errors = errors(exchanging(|it| {
        it["client"] = json!({"id": "a b", "secretRef": {"name": "A", "key": ".."}});
    }));
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
    let at = |field: &str| format!("spec.credentials.catalog.exchange.client.{field}");
    assert_eq!(fields, [at("id"), at("secretRef.name"), at("secretRef.key")]);
}

#[test]
fn a_server_that_speaks_on_its_standard_streams_has_no_port() {
    let class = validate(&class(with("transport", json!("stdio")))).unwrap();
    assert_eq!(class.transport, class::Transport::Stdio);
    let mut listening = with("transport", json!("stdio"));
    listening["server"] = json!({ "port": 8000 });
    let errors = validate(&self::class(listening)).unwrap_err();
    assert_eq!(errors[0].field, "spec.server");
}

#[test]
fn a_server_listens_where_it_is_told_and_not_where_its_worker_does() {
    for port in TAKEN_PORTS {
        let errors = validate(&class(with("server", json!({ "port": port })))).unwrap_err();
        assert_eq!(errors[0].field, "spec.server.port");
        assert!(errors[0].to_string().contains("is used by the worker itself"), "{}", errors[0]);
    }
    assert!(validate(&class(with("env", json!({ "PORT": "8000" })))).is_ok());
    let errors = validate(&class(with("env", json!({ "PORT": "9000" })))).unwrap_err();
    assert_eq!(errors[0].field, "spec.env.PORT");
}

fn assuming() -> Value {
    json!({"source": "assumeRole", "assumeRole": {"role": "arn:aws:iam::123456789012:role/r"}})
}

#[test]
fn templates_arrive_and_each_mistake_is_named_where_it_is() {
    let mut spec = with("credentials", assuming());
    spec["start"] = json!("onBind");
    spec["credentials"]["files"] = json!([{
        "path": ".aws/credentials", "template": "[default]\naws_access_key_id = ${aws.accessKeyId}\n"
    }]);
    spec["credentials"]["env"] = json!({"WHO": "${json:user.subject} for $$5"});
    let valid = validate(&class(spec.clone())).unwrap();
    assert_eq!(valid.start, class::Start::OnBind);
    assert_eq!(valid.templates.files[0].path, ".aws/credentials");
    assert_eq!(valid.templates.env.len(), 1);

    let file = |path: &str, template: &str| json!([{"path": path, "template": template}]);
    for (at, value, field, problem) in [
        ("/credentials/files", file("../x", ""), "spec.credentials.files[0].path", "is not a path"),
        (
            "/credentials/files",
            file(".patchbay/x", ""),
            "spec.credentials.files[0].path",
            "Patchbay's",
        ),
        (
            "/credentials/files",
            file("x", "$HOME"),
            "spec.credentials.files[0].template",
            "begins no",
        ),
        (
            "/credentials/files",
            file("x", "${no}"),
            "spec.credentials.files[0].template",
            "there is not",
        ),
        ("/credentials/env", json!({"X": "a\0"}), "spec.credentials.env.X", "zero byte"),
        ("/credentials/env", json!({"PATH": ""}), "spec.credentials.env.PATH", "is reserved"),
        (
            "/credentials/env",
            json!({"LD_PRELOAD": ""}),
            "spec.credentials.env.LD_PRELOAD",
            "is reserved",
        ),
        (
            "/credentials/env",
            json!({"http_proxy": ""}),
            "spec.credentials.env.http_proxy",
            "is reserved",
        ),
        ("/credentials/env", json!({"1": ""}), "spec.credentials.env.1", "is not the name"),
        ("/start", json!("warm"), "spec.credentials.env", "needs `start: onBind`"),
        ("/credentials/source", json!("none"), "spec.credentials.files[0].template", "no AWS keys"),
    ] {
        let mut spec = spec.clone();
        *spec.pointer_mut(at).unwrap() = value;
        let errors = errors(spec);
        let is_named = |error: &FieldError| error.field == field && error.problem.contains(problem);
        assert!(errors.iter().any(is_named), "{field}: {errors:#?}");
    }
    let mut twice = spec.clone();
    twice["env"] = json!({"WHO": "everybody"});
    assert_eq!(fields(twice), ["spec.credentials.env.WHO"]);
}

#[test]
fn files_that_meet_and_quilt3s_own_are_refused() {
    let files = |paths: [&str; 2]| json!(paths.map(|path| json!({"path": path, "template": ""})));
    for paths in [["a", "a"], ["a", "a/b"], ["a/b", "a"]] {
        assert_eq!(
            fields(with("credentials/files", files(paths))),
            ["spec.credentials.files[1].path"]
        );
    }
    assert!(validate(&class(with("credentials/files", files(["a/b", "a/c"])))).is_ok());
    for path in [".local", ".local/share/Quilt", ".local/share/Quilt/auth.json"] {
        let mut spec = quilt();
        spec["credentials"]["files"] = files(["a", path]);
        assert_eq!(fields(spec), ["spec.credentials.files[1].path"], "{path}");
    }
}

#[test]
fn a_template_that_may_be_a_secret_is_not_quoted() {
    let value = json!([{"path": "x", "template": "pasted-$hunter2"}]);
    let errors = errors(with("credentials/files", value));
    assert!(!errors[0].to_string().contains("hunter2"), "{}", errors[0]);
}

#[test]
fn what_is_said_of_tools_arrives() {
    let nothing_said = validate(&class(minimal())).unwrap();
    assert_eq!(nothing_said.tools, None);
    assert!(nothing_said.per_tenant.is_none());
    let mut spec = with(
        "tools",
        json!({
            "allow": ["a", "b"], "deny": ["c"], "permissions": {"a": ["s3:GetObject"], "b": []},
            "bucketArguments": {"a": ["from"]}, "signedUrls": true,
        }),
    );
    spec["limits"] = json!({"requestsPerSecond": 5, "concurrentCalls": 2});
    let class = validate(&class(spec)).unwrap();
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let expected = ToolPolicy {
        allow: Some(set(&["a", "b"])),
        deny: set(&["c"]),
        permissions: [("a".to_owned(), set(&["s3:GetObject"])), ("b".to_owned(), set(&[]))].into(),
        bucket_arguments: [("a".to_owned(), set(&["from"]))].into(),
        signed_urls: true,
        hide_denied: true,
    };
    assert_eq!(class.tools, Some(expected));
    let limits = class::TenantLimits { requests_per_second: Some(5), concurrent_calls: Some(2) };
    assert_eq!(class.per_tenant, limits);
}

#[test]
fn what_is_no_name_of_a_tool_is_refused() {
    for (at, value, field) in [
        ("tools/allow", json!(["a b"]), "spec.tools.allow[0]"),
        ("tools/deny", json!(["a", ""]), "spec.tools.deny[1]"),
        ("tools/deny", json!(["x".repeat(129)]), "spec.tools.deny[0]"),
        ("tools/permissions", json!({"é": []}), "spec.tools.permissions"),
        ("tools/permissions", json!({"a": ["s3:GetObject "]}), "spec.tools.permissions.a[0]"),
        ("tools/bucketArguments", json!({"a": ["\n"]}), "spec.tools.bucketArguments.a[0]"),
        ("limits/requestsPerSecond", json!(0), "spec.limits.requestsPerSecond"),
        ("limits/concurrentCalls", json!(0), "spec.limits.concurrentCalls"),
    ] {
        assert_eq!(fields(with(at, value)), [field]);
    }
}

#[test]
fn what_only_clusters_use_arrives() {
    let mut spec = minimal();
    spec["runtimeClassName"] = json!("gvisor");
    spec["nodeSelector"] = json!({"disk": "ssd"});
    spec["tolerations"] = json!([
        {"key": "k", "operator": "Exists"},
        {"key": "l", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60},
    ]);
    spec["egress"] = json!({"cidrs": ["10.1.2.3/8"]});
    let class = validate(&class(spec)).unwrap();
    assert_eq!(class.egress.cidrs, [Cidr::parse("10.0.0.0/8").unwrap()]);
    let text = |text: &str| Some(text.to_owned());
    let expected = class::Scheduling {
        runtime: text("gvisor"),
        nodes: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
        tolerations: vec![
            class::Toleration { key: text("k"), operator: text("Exists"), ..Default::default() },
            class::Toleration {
                key: text("l"),
                value: text("v"),
                effect: text("NoExecute"),
                seconds: Some(60),
                ..Default::default()
            },
        ],
    };
    assert_eq!(class.scheduling, expected);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut spec = with("warm", json!(-1));
    spec["path"] = json!("mcp");
    spec["idleTimeout"] = json!("x");
    let mut wrong = class(spec);
    wrong.metadata.name = Some("Bad".into());
    let fields: Vec<_> = validate(&wrong).unwrap_err().into_iter().map(|e| e.field).collect();
    assert_eq!(fields, ["metadata.name", "spec.path", "spec.idleTimeout", "spec.warm"]);
}
