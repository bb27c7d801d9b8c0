//! That an API server and the reader of files refuse the same texts, of the same fields.

use crate::{
    objects::{class, jwt_provider, quilt_class, with},
    server::Server,
};
use anyhow::{Context, ensure};
use patchbay_crds::{
    IdentityProvider, WorkerClass,
    validate::{FieldError, identity_provider, worker_class},
};
use serde_json::{Value, json};

fn class_errors(object: Value) -> anyhow::Result<Vec<FieldError>> {
    let class: WorkerClass = serde_json::from_value(object)?;
    Ok(worker_class::validate(&class).err().unwrap_or_default())
}

fn provider_errors(object: Value) -> anyhow::Result<Vec<FieldError>> {
    let provider: IdentityProvider = serde_json::from_value(object)?;
    Ok(identity_provider::validate(&provider).err().unwrap_or_default())
}

const HOSTS: [&str; 24] = [
    "a",
    "localhost",
    "mcp.example.com",
    "x-1.y",
    "1a.example",
    "0a",
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "A",
    "a_b",
    "-a",
    "a-",
    "a:1",
    "a/b",
    "a b",
    "é",
    "127.1",
    "2130706433",
    "0x7f",
    "a.0x7f",
    "*.example.com",
];

const AUTHORITIES: [&str; 24] = [
    "a.example",
    "a.example:8443",
    "127.0.0.2:9000",
    "[::1]",
    "[::1]:8443",
    "",
    "A.example",
    "u@a.example",
    "a.example:",
    "a.example:443",
    "a.example:0",
    "a.example:08443",
    "a.example:+1",
    "a.example:65535",
    "a.example:65536",
    "a.example:99999",
    "::1",
    "[::1",
    "[::1]8443",
    "[::1]:",
    "[a.example]",
    "*.example",
    "127.1",
    "256.0.0.1",
];

const PATHS: [&str; 26] = [
    "/mcp",
    "/a/b",
    "/.hidden",
    "/.well-known-not",
    "/a.b/c~d",
    "/a:b;c=d,e@f&g$h!i'j(k)*+",
    "",
    "mcp",
    "/",
    "/mcp/",
    "/a//b",
    "/a?b",
    "/a#b",
    "/a%2f",
    "/a b",
    "/é",
    "/a/../b",
    "/.",
    "/..",
    "/a/.",
    "/a\\b",
    "/.well-known",
    "/.well-known/x",
    "/a\nb",
    "/...",
    "/a\"b<c>d|e^f`g{h}",
];

const DURATIONS: [&str; 24] = [
    "0s",
    "1s",
    "30s",
    "15m",
    "1h30m",
    "2d",
    "1d1h1m1s",
    "90m",
    "30d",
    "31d",
    "30d1s",
    "720h",
    "365d",
    "366d",
    "10m",
    "601s",
    "",
    "15",
    "1m1h",
    "1m1m",
    "-1s",
    "1.5h",
    "500ms",
    "9999999999s",
];

const QUANTITIES: [&str; 24] = [
    "0", "7", "4095", "4096", "4Ki", "1k", "512Mi", "64Mi", "63Mi", "67108863", "2G", "1Ti",
    "1025Gi", "1.5Gi", "15Ei", "", "Mi", "-1Mi", "1 Mi", "1mi", "1MB", "1e9", ".5Gi", "100m",
];

const RANGES: [&str; 16] = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "fd00::/8",
    "10.1.2.3/32",
    "",
    "10.0.0.0",
    "10.0.0.0/33",
    "10.0.0/8",
    "256.0.0.0/8",
    "::/129",
    "a/8",
    "::/",
    "::/+8",
    "::/08",
    "10.0.0.0/8 ",
];

const ROLES: [&str; 16] = [
    "arn:aws:iam::123456789012:role/r",
    "arn:aws-cn:iam::123456789012:role/team/r-1_x",
    "arn:aws-us-gov:iam::123456789012:role/a+=,.@b",
    "arn:aws:iam::123456789012:role//r",
    "",
    "role/r",
    "arn:aws:iam::12345678901:role/r",
    "arn:aws:iam::123456789012:role/",
    "arn:aws:iam::123456789012:role/r/",
    "arn:aws:iam::123456789012:user/r",
    "arn:aws:iam:us-east-1:123456789012:role/r",
    "arn:aws-:iam::123456789012:role/r",
    "arn:awsx:iam::123456789012:role/r",
    "arn:aws:iam::123456789012:role/*",
    "arn:aws:iam::123456789012:role/a:role/b",
    "arn:aws:iam::123456789012:role/r\n",
];

const ENDPOINTS: [&str; 12] = [
    "https://sts.example",
    "https://127.0.0.2:9000",
    "http://127.0.0.1:5000",
    "http://127.1.2.3",
    "http://127.0.0.1:443",
    "http://127.0.0.1.example",
    "http://127.1",
    "http://127.0.0.01",
    "http://sts.example",
    "http://128.0.0.1",
    "http://127.0.0.1/",
    "https://sts.example/",
];

const TEMPLATES: [&str; 16] = [
    "",
    "plain {text}\n",
    "$$",
    "$${x}",
    "${aws.accessKeyId}${json:aws.secretAccessKey}\n${aws.sessionToken}",
    "${aws.expiration} ${aws.region} ${user.issuer} ${json:user.subject}",
    "$",
    "$$$",
    "$x",
    "${",
    "${}",
    "${aws.region",
    "${ aws.region}",
    "${awsxregion}",
    "${yaml:aws.region}",
    "${json:json:aws.region}",
];

const FILES: [&str; 14] = [
    "a",
    ".aws/credentials",
    "a/b.c-d_e+f@g/...",
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "a/..",
    "../a",
    "a b",
    "é",
    ".patchbay",
    "a/.patchbay-x",
];

/// Each text at a place of an object, and the field that it is.
fn texts(object: &Value, pointer: &str, texts: &[&str]) -> Vec<(Value, String)> {
    let field = pointer.split('/').fold("spec".to_owned(), |field, segment| {
        match segment.parse::<usize>() {
            Ok(index) => format!("{field}[{index}]"),
            Err(_) => format!("{field}.{segment}"),
        }
    });
    let with = |text: &&str| (with(object.clone(), pointer, json!(text)), field.clone());
    texts.iter().map(with).collect()
}

#[tokio::test]
async fn an_api_server_refuses_the_texts_of_a_class_that_the_reader_of_files_refuses()
-> anyhow::Result<()> {
    let server = Server::with("agreement").await?;
    let listening = with(class("c"), "server", json!({}));
    let with_host = with(class("c"), "egress", json!({ "hosts": [{ "host": "a" }] }));
    let with_range = with(class("c"), "egress", json!({ "cidrs": ["::/0"] }));
    let local = json!({ "readOnlyPaths": ["/a"], "command": ["/a"] });
    let with_local = with(class("c"), "local", local);
    let addresses =
        [HOSTS.as_slice(), &["10.0.0.1", "::1", "fd00::1", "[::1]", "FD00::1"]].concat();
    let origins: Vec<String> = AUTHORITIES.iter().map(|text| format!("https://{text}")).collect();
    let mut origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    origins.extend(["http://a.example", "HTTPS://a.example", "https://a.example/", ""]);
    let role = json!({ "source": "assumeRole", "assumeRole": { "role": ROLES[0] } });
    let with_role = with(class("c"), "credentials", role);
    let file = json!([{ "path": "x", "template": "" }]);
    let with_file = with(with_role.clone(), "credentials/files", file);
    let cases = [
        texts(&with_role, "credentials/assumeRole/role", &ROLES),
        texts(&with_role, "credentials/assumeRole/endpoint", &ENDPOINTS),
        texts(&with_role, "credentials/assumeRole/region", &["us-east-1", "US", "", "us east"]),
        texts(&with_role, "credentials/assumeRole/duration", &DURATIONS),
        texts(&with_file, "credentials/files/0/template", &TEMPLATES),
        texts(&with_file, "credentials/files/0/path", &FILES),
        texts(&class("c"), "path", &PATHS),
        texts(&listening, "server/path", &PATHS),
        texts(&listening, "server/readyPath", &PATHS),
        texts(&with_local, "local/readOnlyPaths/0", &PATHS),
        texts(&class("c"), "host", &HOSTS),
        texts(&with_host, "egress/hosts/0/host", &addresses),
        texts(&with_range, "egress/cidrs/0", &RANGES),
        texts(&quilt_class("c"), "credentials/catalog/registry", &origins),
        texts(&class("c"), "idleTimeout", &DURATIONS),
        texts(&class("c"), "maxAge", &DURATIONS),
        texts(&class("c"), "drainTimeout", &DURATIONS),
        texts(&with(class("c"), "resources", json!({})), "resources/memory", &QUANTITIES),
        texts(&with(class("c"), "tmpfs", json!({})), "tmpfs/run", &QUANTITIES),
    ];
    for (object, field) in cases.concat() {
        let answer = server.try_create("workerclasses", &object).await?;
        agree(&answer, &class_errors(object.clone())?, &field)
            .with_context(|| object.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn an_api_server_refuses_the_urls_of_a_provider_that_the_reader_of_files_refuses()
-> anyhow::Result<()> {
    let server = Server::with("agreement").await?;
    let mut urls: Vec<String> =
        AUTHORITIES.iter().map(|text| format!("https://{text}/k")).collect();
    let others = [
        "",
        "https://i.example",
        "https://i.example/",
        "http://i.example/k",
        "https:///k",
        "https://i.example/k?a",
        "https://i.example/k#a",
        "https://i.example/a b",
        "https://i.example/.well-known/jwks.json",
        "https://i.example:443",
        "https://i.example/a%20b",
    ];
    urls.extend(others.map(str::to_owned));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let cases = [
        texts(&jwt_provider("p"), "jwt/jwks/url", &urls),
        texts(&jwt_provider("p"), "jwt/authorizationServer", &urls),
    ];
    for (object, field) in cases.concat() {
        let answer = server.try_create("identityproviders", &object).await?;
        let errors = provider_errors(object.clone())?;
        agree(&answer, &errors, &field).with_context(|| object.to_string())?;
    }
    Ok(())
}

fn agree(answer: &crate::server::Answer, errors: &[FieldError], field: &str) -> anyhow::Result<()> {
    ensure!(answer.status.is_success() == errors.is_empty(), "{answer:?}\n{errors:?}");
    let causes = answer.causes();
    ensure!(causes.iter().all(|(of, _)| *of == field), "{causes:?}");
    ensure!(errors.iter().all(|error| error.field == field), "{errors:?}");
    Ok(())
}
