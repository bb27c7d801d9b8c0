//! What a `WorkerClass` may say. The forms of its texts are in `agreement`.

use crate::{
    objects::{class, quilt_class, with},
    server::Server,
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

#[tokio::test]
async fn what_makes_sense_is_taken() -> anyhow::Result<()> {
    let server = Server::with("class-good").await?;
    let on_bind = with(class("c"), "start", json!("onBind"));
    let files = json!([{ "path": ".config/server.json", "template": "$${aws.region}" }]);
    for object in [
        class("c"),
        quilt_class("c"),
        with(quilt_class("c"), "credentials/catalog/registry", json!("https://c.example")),
        with(class("c"), "transport", json!("stdio")),
        with(on_bind, "credentials", json!({ "env": { "TOKEN": "t" } })),
        with(class("c"), "credentials", json!({ "files": files })),
        with(
            class("c"),
            "credentials",
            with_keys(&json!({ "files": [
            { "path": "a/b", "template": "$$ ${aws.sessionToken}\n${json:user.subject}" },
            { "path": "a/c", "template": "$${aws.region}" },
        ] })),
        ),
        with(quilt_class("c"), "credentials/files", files.clone()),
        with(class("c"), "credentials", assume_role(&json!({ "role": ROLE }))),
        with(class("c"), "credentials", json!({ "source": "inlineClaims" })),
        with(
            class("c"),
            "credentials",
            json!({
                "source": "webIdentity", "assumeRole": { "role": ROLE, "tags": {} },
                "webIdentity": { "audience": "sts.amazonaws.com" },
            }),
        ),
        with(quilt_class("c"), "credentials/source", json!("inlineClaims")),
        with(
            with(quilt_class("c"), "credentials/source", json!("assumeRole")),
            "credentials/assumeRole",
            json!({ "roleMap": { "roles": { "alice": ROLE } } }),
        ),
        with(
            class("c"),
            "credentials",
            assume_role(&json!({
                "roleClaim": { "claim": "role", "roles": ["arn:aws:iam::*:role/quilt-?"] },
                "externalId": "patchbay/1", "region": "eu-west-1",
                "endpoint": "http://127.0.0.2:5000", "duration": "12h",
                "tags": { "cost centre": "biology" }, "sessionPolicy": "whenClaimed",
                "claims": { "buckets": "b", "permissions": "p" },
            })),
        ),
        with(class("c"), "server", json!({ "port": 9000, "readyPath": "/healthz" })),
        with(class("c"), "warm", json!(0)),
        with(class("c"), "env", json!({ "AWS_REGION": "us-east-1", "_x": "" })),
        with(class("c"), "tolerations", json!([{ "key": "k", "operator": "Exists", "x": [1] }])),
        with(class("c"), "tools", json!({ "allow": ["a"], "deny": [] })),
        with(
            class("c"),
            "tools",
            json!({
                "permissions": { "a": ["s3:GetObject"], "b": [] },
                "bucketArguments": { "a": ["from"] }, "signedUrls": true, "hideDenied": false,
            }),
        ),
        with(class("c"), "local", json!({ "readOnlyPaths": ["/opt"], "command": ["/c", ""] })),
        with(
            class("c"),
            "egress",
            json!({ "hosts": [{ "host": "a" }, { "host": "a", "port": 80 }] }),
        ),
    ] {
        let answer = server.try_create("workerclasses", &object).await?;
        ensure!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        answer.object().with_context(|| object.to_string())?;
    }
    Ok(())
}

const ROLE: &str = "arn:aws:iam::123456789012:role/quilt-user";

fn assume_role(said: &Value) -> Value {
    json!({ "source": "assumeRole", "assumeRole": said })
}

/// Credentials of a source of AWS keys, with this besides.
fn with_keys(said: &Value) -> Value {
    let mut credentials = assume_role(&json!({ "role": ROLE }));
    for (name, value) in said.as_object().into_iter().flatten() {
        credentials[name] = value.clone();
    }
    credentials
}

/// Where, what, which field is refused, and in which words.
type Case = (&'static str, Value, &'static str, &'static str);

fn credentials() -> Vec<Case> {
    const CATALOG: &str = "spec.credentials.catalog";
    const FILE: &str = "spec.credentials.files[0].path";
    let catalog = json!({ "origin": "https://c.example", "registry": "https://r.example" });
    let port = json!({ "origin": "https://c.example", "registry": "https://c.example:8443" });
    let with_catalog = |catalog: &Value| json!({ "source": "catalog", "catalog": catalog });
    let mut region = catalog.clone();
    region["region"] = json!("US EAST");
    let exchange = |field: &str, value: Value| {
        let mut exchange = json!({ "tokenEndpoint": "https://i.example/token", "audience": "c" });
        exchange[field] = value;
        let mut catalog = catalog.clone();
        catalog["exchange"] = exchange;
        with_catalog(&catalog)
    };
    let file = |path: &str| json!({ "files": [{ "path": path, "template": "" }] });
    vec![
        (
            "credentials",
            json!({ "source": "ambient" }),
            "spec.credentials.source",
            "`ambient` would",
        ),
        ("credentials", json!({ "source": "catalog" }), CATALOG, "is what `source: catalog` needs"),
        ("credentials", json!({ "catalog": catalog }), CATALOG, "would not be used; set"),
        (
            "credentials",
            json!({ "source": "none", "ambient": { "issuer": "i", "subject": "s" } }),
            "spec.credentials.ambient",
            "would not be used; set",
        ),
        (
            "credentials",
            json!({ "source": "none", "inlineClaims": {} }),
            "spec.credentials.inlineClaims",
            "would not be used; set",
        ),
        (
            "credentials",
            json!({ "source": "inlineClaims", "inlineClaims": { "region": "US" } }),
            "spec.credentials.inlineClaims.region",
            "is not an AWS region",
        ),
        (
            "credentials",
            with_catalog(&port),
            "spec.credentials.catalog.registry",
            "differs from the catalog by its port alone",
        ),
        (
            "credentials",
            with_catalog(&region),
            "spec.credentials.catalog.region",
            "is not an AWS region",
        ),
        (
            "credentials",
            exchange("tokenEndpoint", json!("http://i.example/token")),
            "spec.credentials.catalog.exchange.tokenEndpoint",
            "is not an https URL",
        ),
        (
            "credentials",
            exchange("audience", json!("a b")),
            "spec.credentials.catalog.exchange.audience",
            "is not a name",
        ),
        (
            "credentials",
            exchange("scope", json!("a  b")),
            "spec.credentials.catalog.exchange.scope",
            "is not a list of scopes",
        ),
        (
            "credentials",
            exchange("client", json!({ "id": "a b" })),
            "spec.credentials.catalog.exchange.client.id",
            "is not a name",
        ),
        (
            "credentials",
            exchange("client", json!({ "id": "a", "secretRef": { "name": "A", "key": "k" } })),
            "spec.credentials.catalog.exchange.client.secretRef.name",
            "is not the name of a Secret",
        ),
        (
            "credentials",
            json!({ "env": { "TOKEN": "t" } }),
            "spec.credentials.env",
            "needs `start: onBind`",
        ),
        ("credentials", file("/etc/passwd"), FILE, "is not a path under the home directory"),
        ("credentials", file("../x"), FILE, "is not a path under the home directory"),
        ("credentials", file("a//b"), FILE, "is not a path under the home directory"),
        (
            "credentials",
            json!({ "source": "magic" }),
            "spec.credentials.source",
            "supported values",
        ),
    ]
}

fn templates() -> Vec<Case> {
    const FILES: &str = "spec.credentials.files";
    const TEMPLATE: &str = "spec.credentials.files[0].template";
    let file = |path: &str, template: &str| json!({ "path": path, "template": template });
    let one = |path: &str, template: &str| with_keys(&json!({ "files": [file(path, template)] }));
    let none = json!({ "files": [file("x", "$$${json:aws.region}")] });
    let two = |a: &str, b: &str| json!({ "files": [file(a, ""), file(b, "")] });
    let wrong = [
        (one("x", "$"), TEMPLATE, "is not a template; write `$$` for a dollar"),
        (one("x", "${aws.nothing}"), TEMPLATE, "is not a template"),
        (one("x", "$$${aws.region"), TEMPLATE, "is not a template"),
        (one(".patchbay/x", ""), "spec.credentials.files[0].path", "as Patchbay's own do"),
        (none, FILES, "`source` gives no AWS keys"),
        (two("a", "a"), FILES, "has a file twice"),
        (two("a/b", "a"), FILES, "has a file twice"),
    ];
    wrong.map(|(said, field, words)| ("credentials", said, field, words)).into()
}

/// What is refused of the environment of a class whose server is started at bind.
fn variables() -> Vec<(Value, &'static str)> {
    let reserved = "sets a variable that is reserved; remove it";
    vec![
        (json!({ "PATH": "" }), reserved),
        (json!({ "https_Proxy": "" }), reserved),
        (json!({ "LD_PRELOAD": "" }), reserved),
        (json!({ "AWS_CONTAINER_CREDENTIALS_FULL_URI": "" }), reserved),
        (json!({ "1X": "" }), "none of an environment variable"),
        (json!({ "X": "$x" }), "has a value that is not a template"),
        (json!({ "OF_CLASS": "" }), "has a variable that is in `spec.env` too"),
    ]
}

fn roles() -> Vec<Case> {
    const AT: &str = "spec.credentials.assumeRole";
    const WEB: &str = "spec.credentials.webIdentity";
    let (role, for_aws) = (json!({ "role": ROLE }), json!({ "audience": "sts.amazonaws.com" }));
    let exchanged = |said: &Value| json!({ "source": "webIdentity", "assumeRole": said, "webIdentity": for_aws });
    let with = |name: &str, value: Value| assume_role(&json!({ "role": ROLE, name: value }));
    let wrong = [
        (json!({ "source": "assumeRole" }), AT, "is what `source: assumeRole` and"),
        (
            json!({ "source": "webIdentity", "webIdentity": for_aws }),
            AT,
            "is what `source: assumeRole` and",
        ),
        (
            json!({ "source": "webIdentity", "assumeRole": role }),
            WEB,
            "is what `source: webIdentity` needs",
        ),
        (json!({ "source": "none", "webIdentity": for_aws }), WEB, "would not be used; set"),
        (
            exchanged(&json!({ "role": ROLE, "externalId": "xx" })),
            "spec.credentials.assumeRole.externalId",
            "is not taken where",
        ),
        (
            exchanged(&json!({ "role": ROLE, "tags": { "team": "x" } })),
            "spec.credentials.assumeRole.tags",
            "are not taken where",
        ),
        (json!({ "assumeRole": { "role": ROLE } }), AT, "would not be used"),
        (assume_role(&json!({})), AT, "does not say exactly one way to a user's role"),
        (
            with("roleMap", json!({ "roles": { "a": ROLE } })),
            AT,
            "does not say exactly one way to a user's role",
        ),
        (
            assume_role(&json!({ "roleMap": { "roles": { "a": "b" } } })),
            "spec.credentials.assumeRole.roleMap.roles",
            "leads to what is not the ARN of an IAM role",
        ),
        (
            assume_role(&json!({ "roleClaim": { "claim": "c", "roles": ["*"] } })),
            "spec.credentials.assumeRole.roleClaim.roles",
            "has one that is not the ARN of an IAM role with",
        ),
        (
            with("tags", json!({ "patchbay:tenant": "x" })),
            "spec.credentials.assumeRole.tags",
            "has a key that is reserved",
        ),
        (
            with("tags", json!({ "x": "a|b" })),
            "spec.credentials.assumeRole.tags",
            "has a value that is none of a tag",
        ),
        (
            with("tags", json!({ "": "x" })),
            "spec.credentials.assumeRole.tags",
            "has a key that is none of a tag",
        ),
        (
            with("externalId", json!("a b")),
            "spec.credentials.assumeRole.externalId",
            "is not an external id",
        ),
        (
            with("sessionPolicy", json!("never")),
            "spec.credentials.assumeRole.sessionPolicy",
            "supported values",
        ),
    ];
    wrong.map(|(said, field, words)| ("credentials", said, field, words)).into()
}

fn sizes() -> Vec<Case> {
    let many = |count: usize| (0..count).map(|n| (format!("X{n}"), json!(""))).collect::<Value>();
    let list = |count| json!(vec!["/x"; count]);
    vec![
        ("env", many(101), "spec.env", "Too many"),
        ("env", json!({ "X": "x".repeat(4097) }), "spec.env.X", "Too long"),
        ("command", list(65), "spec.command", "Too many"),
        ("command", json!(["/x", "x".repeat(2049)]), "spec.command[1]", "Too long"),
        ("local", json!({ "readOnlyPaths": list(65) }), "spec.local.readOnlyPaths", "Too many"),
        ("egress", json!({ "cidrs": vec!["::/0"; 257] }), "spec.egress.cidrs", "Too many"),
        ("tolerations", json!(vec![json!({}); 33]), "spec.tolerations", "Too many"),
        ("image", json!("i".repeat(1025)), "spec.image", "Too long"),
        ("tools", json!({ "deny": ["x".repeat(129)] }), "spec.tools.deny[0]", "Too long"),
        ("tools", json!({ "deny": ["a b"] }), "spec.tools.deny[0]", "is not a name; use visible"),
        ("tools", json!({ "allow": [""] }), "spec.tools.allow[0]", "at least 1"),
        (
            "tools",
            json!({ "permissions": { "é": [] } }),
            "spec.tools.permissions",
            "has a name that is none of a tool",
        ),
        (
            "tools",
            json!({ "permissions": { "a": ["b c"] } }),
            "spec.tools.permissions[a][0]",
            "is not a name; use visible",
        ),
        (
            "tools",
            json!({ "bucketArguments": { "a": vec!["x"; 9] } }),
            "spec.tools.bucketArguments.a",
            "Too many",
        ),
        (
            "limits",
            json!({ "requestsPerSecond": 0 }),
            "spec.limits.requestsPerSecond",
            "greater than or equal to 1",
        ),
        ("warm", json!(1001), "spec.warm", "less than or equal to 1000"),
        ("warm", json!(-1), "spec.warm", "greater than or equal to 0"),
        ("limits", json!({ "tenants": 0 }), "spec.limits.tenants", "greater than or equal to 1"),
        ("server", json!({ "port": 65536 }), "spec.server.port", "less than or equal to 65535"),
    ]
}

#[tokio::test]
async fn each_rule_holds() -> anyhow::Result<()> {
    let server = Server::with("class-bad").await?;
    let twice = json!({ "hosts": [{ "host": "a" }, { "host": "a", "port": 443 }] });
    let stdio = json!({ "port": 8000 });
    let mut cases: Vec<Case> = vec![
        ("image", json!(" "), "spec.image", "is empty; name the MCP server's image"),
        ("command", json!([]), "spec.command", "at least 1"),
        ("command", json!(["server"]), "spec.command", "absolute path of a program"),
        ("command", json!(["/s", "a\u{0}b"]), "spec.command", "contains a zero byte"),
        ("env", json!({ "HOME": "/x" }), "spec.env", "sets HOME, which is reserved"),
        ("env", json!({ "https_Proxy": "x" }), "spec.env", "sets a proxy, which is reserved"),
        ("env", json!({ "1X": "x" }), "spec.env", "none of an environment variable"),
        ("egress", twice, "spec.egress.hosts[1]", "Duplicate value"),
        ("path", json!("/.well-known/x"), "spec.path", "the gateway's own metadata"),
        ("forgetAfter", json!("3651d"), "spec.forgetAfter", "is not a duration from 1s to 3650d"),
        ("runtimeClassName", json!(""), "spec.runtimeClassName", "at least 1"),
        ("transport", json!("tcp"), "spec.transport", "supported values"),
    ];
    cases.extend(credentials());
    cases.extend(roles());
    cases.extend(templates());
    cases.extend(sizes());
    for (pointer, value, field, said) in cases {
        let object = with(class("c"), pointer, value);
        let answer = server.try_create("workerclasses", &object).await?;
        answer.ensure_refused(field, said).with_context(|| object["spec"][pointer].to_string())?;
    }
    let on_bind =
        with(with(class("c"), "start", json!("onBind")), "env", json!({ "OF_CLASS": "" }));
    for (env, said) in variables() {
        let object = with(on_bind.clone(), "credentials", json!({ "env": env }));
        let answer = server.try_create("workerclasses", &object).await?;
        answer.ensure_refused("spec.credentials.env", said).with_context(|| env.to_string())?;
    }
    let keyless = with(on_bind, "credentials", json!({ "env": { "X": "${aws.region}" } }));
    let answer = server.try_create("workerclasses", &keyless).await?;
    answer.ensure_refused("spec.credentials.env", "`source` gives no AWS keys")?;
    let own = json!([{ "path": ".local/share/Quilt/auth.json", "template": "" }]);
    let answer = server
        .try_create("workerclasses", &with(quilt_class("c"), "credentials/files", own))
        .await?;
    answer.ensure_refused("spec.credentials.files", "has a path that is quilt3's own")?;
    let listening = with(with(class("c"), "transport", json!("stdio")), "server", stdio);
    let answer = server.try_create("workerclasses", &listening).await?;
    answer.ensure_refused("spec.server", "`transport: stdio` has none; remove it")?;
    let taken = with(class("c"), "server", json!({ "port": 3128 }));
    let answer = server.try_create("workerclasses", &taken).await?;
    answer.ensure_refused("spec.server.port", "is used by the worker itself")?;
    let elsewhere = with(class("c"), "env", json!({ "PORT": "9000" }));
    let answer = server.try_create("workerclasses", &elsewhere).await?;
    answer.ensure_refused("spec.env", "says another port than the server's")?;
    let two = with(quilt_class("c"), "command", json!(["/opt/python", "-m"]));
    let answer = server.try_create("workerclasses", &two).await?;
    answer.ensure_refused("spec.command", "is not one program, as `profile: quilt` needs")?;
    let no_catalog = with(class("c"), "profile", json!("quilt"));
    let answer = server.try_create("workerclasses", &no_catalog).await?;
    answer.ensure_refused("spec.credentials.source", "is not what `profile: quilt` needs")
}

#[tokio::test]
async fn a_change_is_held_to_the_same_rules() -> anyhow::Result<()> {
    let server = Server::with("class-change").await?;
    server.create("workerclasses", &class("c")).await?.object()?;
    let source = json!({ "spec": { "credentials": { "source": "ambient" } } });
    let answer = server.try_patch("workerclasses/c", &source).await?;
    answer.ensure_refused("spec.credentials.source", "`ambient` would give every user")?;
    // unlike a Tenant, all of it can be changed
    let other = json!({ "spec": { "image": "j", "path": "/other", "command": ["/other"] } });
    server.try_patch("workerclasses/c", &other).await?.object().map(drop)
}
