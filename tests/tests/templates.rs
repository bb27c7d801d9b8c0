//! Servers that find credentials in files and variables of their own: a fixture that tells what it sees, one from npm and
//! one from `PyPI`, for two users with keys of roles that the gateway assumes for them.

use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::SignedDuration;
use patchbay_core::{
    link::User,
    template::{Template, Values},
};
use patchbay_tests::{
    binaries,
    catalog::world::World as Aws,
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    moto::{Moto, python_environment},
    processes,
    repository::made_by,
    sandbox,
    secrets::Secrets,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

const USERS: [&str; 2] = ["alice", "bob"];
const FILE: &str = "/home/worker/.config/server.json";
/// Short: newer ones are given ten seconds after these were.
const LIFETIME: SignedDuration = SignedDuration::from_secs(40);

/// An AWS with a role for each user.
struct World {
    moto: Moto,
    front: StrictAws,
    aws: Aws,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let moto = Moto::start().await?;
        let aws = moto.set_up(&USERS).await?;
        Ok(Self { front: StrictAws::start(moto.endpoint()).await?, moto, aws })
    }

    /// A class of one worker per user, whose spec is changed, with the users' API keys.
    async fn controller(
        &self,
        class: &str,
        change: impl FnOnce(&mut Value),
    ) -> anyhow::Result<Controller> {
        let [_, keys] = &fixture_documents(class, 2, &USERS, "")?[..] else {
            anyhow::bail!("a class and a provider");
        };
        let roles: Value =
            self.aws.users.iter().map(|user| (user.name.clone(), json!(user.role_arn))).collect();
        let server = binaries::path("fixture-server")?;
        let mut spec = json!({
            "path": format!("/{class}"),
            "image": "registry.example/server:1",
            "command": [server],
            "warm": 2,
            "local": { "readOnlyPaths": [server] },
            "credentials": {
                "source": "assumeRole",
                "assumeRole": {
                    "roleMap": { "roles": roles },
                    "endpoint": self.front.endpoint(),
                    "sessionPolicy": "whenClaimed",
                },
            },
        });
        change(&mut spec);
        let document = json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "WorkerClass",
            "metadata": { "name": class }, "spec": spec,
        });
        let key = &self.aws.registry_key;
        ControllerConfig::new(vec![document.to_string(), keys.clone()])
            .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
            .start()
            .await
    }
}

fn client(controller: &Controller, class: &str, user: &str) -> McpClient {
    McpClient::with_headers(controller.url(class), &[("x-api-key", &api_key(user))])
}

/// The keys in an object, as something to look for.
fn secrets(user: &str, said: &Value) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::default();
    for name in ["secret", "token"] {
        let value = said[name].as_str().with_context(|| format!("no {name} in {said}"))?;
        secrets.add(&format!("{user}'s {name}"), value)?;
    }
    Ok(secrets)
}

/// Fails if one of these is where anybody could look: in a log, an argument, a file of the run, or the environment of a
/// process that is not `theirs`.
async fn nowhere_else(
    controller: &Controller,
    secrets: &Secrets,
    theirs: &str,
) -> anyhow::Result<()> {
    secrets.not_in("the log", &controller.logs())?;
    for process in processes::descendants(controller.pid().context("it runs")?) {
        secrets.not_in("an argument", &process.argv)?;
        if !process.argv.contains(theirs) {
            secrets.not_in(&process.argv, &process.environ)?;
        }
    }
    let found = secrets.below(&[&controller.run_dir()]).await?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_has_files_of_their_own_and_renewed_keys_are_in_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.front.keys_live_for(LIFETIME);
    let template = r#"{"who": "${json:user.subject}", "by": "${json:user.issuer}", "cost": "5$$",
        "id": "${json:aws.accessKeyId}", "secret": "${json:aws.secretAccessKey}",
        "token": "${json:aws.sessionToken}", "end": "${aws.expiration}", "region": "${aws.region}"}"#;
    let ini = "[default]\naws_access_key_id = ${aws.accessKeyId}\n";
    let controller = world.controller("files", |spec| {
        spec["credentials"]["files"] = json!([
            { "path": ".config/server.json", "template": template },
            { "path": ".aws/credentials", "template": ini },
        ]);
    });
    let controller = controller.await?;
    let mut held = Vec::new();
    for user in USERS {
        let client = client(&controller, "files", user);
        let read = async |path: &str| -> anyhow::Result<String> {
            let said = client.call("read_file", json!({ "path": path })).await?;
            Ok(said["text"].as_str().with_context(|| said.to_string())?.to_owned())
        };
        let said: Value = serde_json::from_str(&read(FILE).await?)?;
        ensure!(said["who"] == user && said["cost"] == "5$", "{said}");
        ensure!(said["by"] == "urn:patchbay:api-keys:files-keys", "{said}");
        ensure!(said["id"].as_str().is_some_and(|id| id.starts_with("ASIA")), "{said}");
        let ini = read("/home/worker/.aws/credentials").await?;
        let id = said["id"].as_str().context("no id")?;
        ensure!(ini == format!("[default]\naws_access_key_id = {id}\n"), "{ini}");

        // a call after they are due waits for newer ones, and the file has them
        let renewed = async || {
            let now: Value = serde_json::from_str(&read(FILE).await?)?;
            Ok(now["secret"] != said["secret"] && now["token"] != said["token"])
        };
        controller.eventually("the file has newer keys", renewed).await?;
        let now: Value = serde_json::from_str(&read(FILE).await?)?;
        held.push(secrets(user, &said)?.and(&secrets(user, &now)?));
        // a file is all: the server's environment has no key
        let whoami = client.call("whoami", json!({})).await?;
        held.iter()
            .try_for_each(|secrets| secrets.not_in("its own environment", &whoami.to_string()))?;
    }
    let bob =
        client(&controller, "files", "bob").call("read_file", json!({ "path": FILE })).await?;
    held[0].not_in("bob's file", &bob.to_string())?;
    for secrets in &held {
        nowhere_else(&controller, secrets, "nobody's").await?;
    }
    // nobody lost a worker over it
    for tenant in controller.tenants().await? {
        ensure!(tenant["epoch"] == 1, "{tenant}");
    }
    Ok(())
}

/// What the server from npm says of its own environment.
async fn environment(client: &McpClient) -> anyhow::Result<Value> {
    client.initialize().await?.call("get-env", json!({})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_from_npm_has_its_users_values_in_its_environment_alone() -> anyhow::Result<()> {
    const SERVER: &str = "@modelcontextprotocol/server-everything";
    let world = World::start().await?;
    world.front.keys_live_for(LIFETIME);
    let packages = made_by("node-env", &["everything"]).await?;
    let node = std::fs::canonicalize(packages.join("node"))?;
    let program = packages.join(format!("node_modules/{SERVER}/dist/index.js"));
    let controller = world.controller("everything", |spec| {
        spec["command"] = json!([node, program, "streamableHttp"]);
        spec["local"]["readOnlyPaths"] = json!([packages, node]);
        spec["resources"] = json!({ "memory": "1Gi" });
        spec["start"] = json!("onBind");
        spec["credentials"]["env"] = json!({
            "AWS_ACCESS_KEY_ID": "${aws.accessKeyId}",
            "AWS_SECRET_ACCESS_KEY": "${aws.secretAccessKey}",
            "AWS_SESSION_TOKEN": "${aws.sessionToken}",
            "GREETING": "hello ${json:user.subject}",
        });
    });
    let controller = controller.await?;
    ensure!(controller.logs().contains("CredentialsInEnvironment"), "{}", controller.logs());
    ensure!(!controller.logs().contains("Starting Streamable HTTP server"), "it runs already");
    let told = |env: &Value| json!({ "secret": env["AWS_SECRET_ACCESS_KEY"], "token": env["AWS_SESSION_TOKEN"] });
    let mut held = Vec::new();
    let mut seen = Vec::new();
    for user in USERS {
        let env = environment(&client(&controller, "everything", user)).await?;
        ensure!(env["GREETING"] == format!("hello {user}"), "{env}");
        held.push(secrets(user, &told(&env))?);
        seen.push(env);
    }
    held[0].not_in("bob's environment", &seen[1].to_string())?;
    for secrets in &held {
        nowhere_else(&controller, secrets, SERVER).await?;
    }

    // its keys cannot be renewed where they are: its worker leaves before they end, and the next one has newer ones
    let alice = client(&controller, "everything", "alice");
    let renewed = async || {
        // a session that its worker's end takes with it is no failure of what is awaited
        let env = environment(&alice).await.unwrap_or_default();
        Ok(env["AWS_SESSION_TOKEN"].is_string()
            && env["AWS_SESSION_TOKEN"] != seen[0]["AWS_SESSION_TOKEN"])
    };
    controller.eventually("another worker has newer keys", renewed).await?;
    ensure!(controller.logs().contains("CredentialsEnd"), "{}", controller.logs());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_from_pypi_acts_as_its_user_by_a_file() -> anyhow::Result<()> {
    let world = World::start().await?;
    let python = python_environment("iam").await?;
    let aws: http::Uri = world.moto.endpoint().parse()?;
    let start = "import os\n\
                 from awslabs.iam_mcp_server.server import mcp\n\
                 mcp.run('streamable-http', port=int(os.environ['PORT']))";
    let profile = "[patchbay]\n\
                   aws_access_key_id = ${aws.accessKeyId}\n\
                   aws_secret_access_key = ${aws.secretAccessKey}\n\
                   aws_session_token = ${aws.sessionToken}\n";
    let controller = world.controller("iam", |spec| {
        spec["command"] = json!([python.join("bin/python"), "-c", start]);
        spec["local"]["readOnlyPaths"] = json!([python]);
        // a profile that is in that file alone: no other way of the SDK's leads to keys
        spec["env"] = json!({
            "AWS_PROFILE": "patchbay",
            "AWS_ENDPOINT_URL": world.moto.endpoint().trim_end_matches('/'),
        });
        spec["egress"] =
            json!({ "hosts": [{ "host": aws.host(), "port": aws.port_u16(), "plainHttp": true }] });
        spec["credentials"]["files"] = json!([{ "path": ".aws/credentials", "template": profile }]);
    });
    let controller = controller.await?;
    // none of them may list users: AWS says who asked, and the server says that in its log
    let refused = |user: &str| {
        let who = format!("role-{user}/");
        let logs = controller.logs();
        logs.lines().any(|line| line.contains(&who) && line.contains("iam:ListUsers"))
    };
    for (user, later) in [("alice", Some("bob")), ("bob", None)] {
        // it takes an argument that was meant for itself
        let arguments = json!({ "ctx": { "content": [] } });
        client(&controller, "iam", user).modern_call("list_users", arguments).await?;
        controller.eventually("AWS refuses the user by name", async || Ok(refused(user))).await?;
        ensure!(later.is_none_or(|later| !refused(later)), "{}", controller.logs());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_from_pypi_acts_as_its_user_by_keys_that_its_sdk_finds_and_gets_newer_ones()
-> anyhow::Result<()> {
    const START: &str = "import os\n\
                         from awslabs.iam_mcp_server.server import mcp\n\
                         mcp.run('streamable-http', port=int(os.environ['PORT']))";
    let world = World::start().await?;
    world.front.keys_live_for(LIFETIME);
    let python = python_environment("iam").await?;
    let aws: http::Uri = world.front.endpoint().parse()?;
    let controller = world.controller("iam", |spec| {
        spec["command"] = json!([python.join("bin/python"), "-c", START]);
        spec["local"]["readOnlyPaths"] = json!([python]);
        // nothing of keys: no file, and no name of a profile
        spec["env"] = json!({ "AWS_ENDPOINT_URL": world.front.endpoint() });
        spec["egress"] =
            json!({ "hosts": [{ "host": aws.host(), "port": aws.port_u16(), "plainHttp": true }] });
    });
    let controller = controller.await?;
    // which roles' keys signed a request to list users, which none of them may
    let asked = || -> Vec<String> {
        let calls = world.front.calls().into_iter();
        calls.filter(|call| call.action == "iam:ListUsers").map(|call| call.role).collect()
    };
    for user in USERS {
        let client = client(&controller, "iam", user);
        let before = asked().len();
        let list = async || {
            let arguments = json!({ "ctx": { "content": [] } });
            client.modern_call("list_users", arguments).await
        };
        list().await?;
        let by = asked();
        ensure!(by.len() > before, "nobody asked: {}", controller.logs());
        let is_theirs = by[before..].iter().all(|role| role.ends_with(&format!("/role-{user}")));
        ensure!(is_theirs, "{by:?}");

        // newer keys are used once they are there, and none is used that has ended
        let sessions = || {
            let sessions = world.front.sessions().into_iter();
            sessions.filter(|session| session.name.starts_with(&format!("mcp-{user}-"))).count()
        };
        let renewed = async || {
            list().await?;
            Ok(sessions() >= 2)
        };
        controller.eventually("there are newer keys", renewed).await?;
        let before = asked().len();
        list().await?;
        ensure!(asked().len() > before, "the newer keys are not used: {}", controller.logs());
    }
    ensure!(!world.front.refused().iter().any(|it| it == "expired"), "{:?}", world.front.refused());

    // where they came from: an address in the environment, and no key there or in a file
    let servers = processes::descendants(controller.pid().context("it runs")?);
    let servers: Vec<_> = servers.iter().filter(|it| it.argv.contains("-c import os")).collect();
    for server in &servers {
        let environ = &server.environ;
        if !environ.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:") {
            // bubblewrap's own process, which has what its parent gave it
            continue;
        }
        ensure!(
            !environ.contains("AWS_ACCESS_KEY_ID") && !environ.contains("AWS_PROFILE"),
            "{environ}"
        );
        let home = sandbox::names_in(server.pid, sandbox::HOME)?;
        ensure!(!home.iter().any(|name| name.starts_with(".aws")), "{home:?}");
    }
    let with_address = servers.iter().filter(|it| it.environ.contains("AWS_CONTAINER_"));
    ensure!(with_address.count() >= USERS.len(), "{servers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contacts_of_one_user_wait_for_one_server_that_is_slow_to_start() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let server = binaries::path("fixture-server")?;
    let controller = world.controller("slow", |spec| {
        let start = format!("echo starting; sleep 2; exec {}", server.display());
        spec["command"] = json!(["/bin/sh", "-c", start]);
        spec["start"] = json!("onBind");
        // shorter than the start, which is no idleness
        spec["idleTimeout"] = json!("1s");
    });
    let controller = controller.await?;
    let alice = client(&controller, "slow", "alice");
    let calls = (0..6).map(|_| alice.call("echo", json!({ "text": "hello" })));
    for said in futures_util::future::try_join_all(calls).await? {
        ensure!(said == json!({ "text": "hello" }), "{said}");
    }
    let logs = controller.logs();
    ensure!(logs.matches("\"message\":\"starting\"").count() == 1, "{logs}");
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["epoch"] == 1, "{tenants:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_start_for_its_user_is_a_clear_answer_and_costs_one_worker()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let controller = world.controller("broken", |spec| {
        spec["command"] = json!(["/bin/sh", "-c", "echo no such key >&2; exit 3"]);
        spec["start"] = json!("onBind");
    });
    let controller = controller.await?;
    let answer = client(&controller, "broken", "alice").modern_call("echo", json!({})).await?;
    ensure!(
        answer.status == StatusCode::SERVICE_UNAVAILABLE,
        "{} {}",
        answer.status,
        answer.text()
    );
    ensure!(answer.reason().as_deref() == Some("server_did_not_start"), "{}", answer.text());
    let is_told = async || Ok(controller.logs().contains("the MCP server ended with exit code 3"));
    controller.eventually("the worker says why it left", is_told).await?;
    let logs = controller.logs();
    ensure!(logs.matches("no such key").count() == 1, "{logs}");
    // and the pool is filled again
    controller.wait_ready().await
}

#[tokio::test]
async fn what_templates_cannot_say_is_refused_at_start_with_field_and_fix() -> anyhow::Result<()> {
    for (fields, said) in [
        (
            "  credentials: { env: { TOKEN: \"${user.subject}\" } }\n",
            "spec.credentials.env: needs `start: onBind`",
        ),
        (
            "  credentials: { files: [{ path: x, template: \"${aws.region}\" }] }\n",
            "spec.credentials.files[0].template: has `aws.region`, and `source` gives no AWS keys",
        ),
        (
            "  credentials: { files: [{ path: x, template: \"${catalog.token}\" }] }\n",
            "spec.credentials.files[0].template: has a placeholder that there is not, at character 1; write `$$`",
        ),
        (
            "  start: onBind\n  credentials: { env: { LD_PRELOAD: x } }\n",
            "spec.credentials.env.LD_PRELOAD: `LD_PRELOAD` is reserved; remove it",
        ),
    ] {
        let refusal =
            ControllerConfig::new(fixture_documents("tools", 1, &USERS, fields)?).refusal().await?;
        ensure!(refusal.contains(said), "{refusal}");
    }
    Ok(())
}

#[test]
fn a_reader_of_yaml_reads_exactly_the_value_that_stands_in_double_quotes() -> anyhow::Result<()> {
    let template = Template::parse("who: \"${json:user.subject}\"\nnext: 1\n")?;
    for subject in [
        "a\"b\\c",
        "a\nb: c\n- d",
        "a\u{85}b",
        "a\u{2028}b",
        "# x",
        "\u{7f}\t\0",
        "{{é}}",
        "",
        "$x ${y}",
    ] {
        let user = User { issuer: "i".into(), subject: subject.into() };
        let text = template.render(Values { user: Some(&user), aws: None }, 1000)?;
        let read: Value = serde_saphyr::from_str(text.expose_secret())?;
        ensure!(read == json!({ "who": subject, "next": 1 }), "{subject:?} became {read}");
    }
    Ok(())
}
