//! alice's and bob's queries with the real `quilt-mcp`: each runs with the keys of whoever asked, from the catalog or of
//! an assumed role, in front of a strict AWS that answers a query with who asked it.

use anyhow::{Context, ensure};
use patchbay_tests::{
    catalog::tls::TestCa,
    controller::ControllerConfig,
    moto::python_environment,
    own_network,
    quilt::{CLASS, Era, QuiltWorld, Report, call, read, sdk_calls},
    strict_aws::AwsCall,
    tls_front::TlsFront,
};
use serde_json::{Value, json};

/// What Athena wants of whoever runs a query.
const QUERYING: [&str; 5] = [
    "athena:GetQueryExecution",
    "athena:GetQueryResults",
    "athena:GetWorkGroup",
    "athena:ListWorkGroups",
    "athena:StartQueryExecution",
];

/// Every tool of Athena's, Glue's and tabulator's that goes to AWS, and what each of them must say.
fn queries(bucket: &str, role: &str) -> Vec<(Value, String)> {
    let select = json!({ "query": "SELECT owner, value FROM measurements" });
    let of_bucket = json!({ "bucket_name": bucket, "query": "SELECT owner FROM measurements" });
    let table = json!({ "database": bucket, "table": "measurements" });
    let said = |text: &str| text.to_owned();
    vec![
        (call("athena_query_execute", select.clone()), said(role)),
        (call("athena_tables_list", json!({ "database": bucket })), said("measurements")),
        (call("athena_table_schema", table), said(r#""name":"owner""#)),
        (call("tabulator_list_buckets", json!({})), said(role)),
        (call("tabulator_query_execute", select), said(role)),
        (call("tabulator_bucket_query", of_bucket), said(role)),
        (read("athena://databases"), said(role)),
        (read("athena://workgroups"), said("quilt-queries")),
        (read("athena://query/history"), said("query_history")),
        (read("tabulator://buckets"), said(role)),
        // asks Glue for what its role may not list
        (call("discover_permissions", json!({})), said("user_identity")),
    ]
}

/// How many of [`queries`] start one.
const STARTED: usize = 8;

async fn ask(url: &str, token: &str, calls: &[Value]) -> anyhow::Result<Report> {
    let bearer = format!("Bearer {token}");
    sdk_calls(url, ("Authorization", &bearer), Era::Modern, calls).await
}

/// A user's queries say what they must, and nothing of the other's.
async fn use_it(url: &str, token: &str, own: &str, other: &str) -> anyhow::Result<()> {
    let asked = queries(&format!("b-{own}"), &format!("role-{own}"));
    let calls: Vec<Value> = asked.iter().map(|(call, _)| call.clone()).collect();
    let report = ask(url, token, &calls).await?;
    for ((call, expected), said) in asked.iter().zip(report.said()) {
        ensure!(said.contains(expected.as_str()), "{own}: {call} says no {expected}: {said}");
        ensure!(!said.contains(&format!("role-{other}")), "{own}: {call} is {other}'s: {said}");
    }
    Ok(())
}

/// How often each of these actions was asked for with keys of a user's role, all of them passed.
fn count(calls: &[AwsCall], user: &str, action: &str) -> usize {
    let role = format!("/role-{user}");
    calls.iter().filter(|it| it.role.ends_with(&role) && it.action == action && it.passed).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_of_the_catalog_each_users_queries_run_as_that_user() -> anyhow::Result<()> {
    let (world, aws) = QuiltWorld::start_strict().await?;
    let controller = world.controller(2).await?;
    let url = controller.url(CLASS);
    let (alice, bob) = (world.token("alice")?, world.token("bob")?);
    tokio::try_join!(use_it(url, &alice, "alice", "bob"), use_it(url, &bob, "bob", "alice"))?;
    let calls = aws.calls();
    for user in ["alice", "bob"] {
        let started = count(&calls, user, "athena:StartQueryExecution");
        ensure!(started == STARTED, "{user} started {started}: {calls:?}");
        ensure!(count(&calls, user, "athena:GetQueryResults") >= STARTED, "{user}: {calls:?}");
        ensure!(count(&calls, user, "athena:ListQueryExecutions") == 1, "{user}: {calls:?}");
        ensure!(count(&calls, user, "glue:GetDatabases") > 0, "{user}: {calls:?}");
    }
    Ok(())
}

fn token(world: &QuiltWorld, user: &str, permissions: &[&str]) -> anyhow::Result<String> {
    let buckets = [format!("b-{user}")];
    world.token_saying(user, &json!({ "buckets": buckets, "permissions": permissions }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_of_an_assumed_role_claims_deny_queries_that_the_role_allows()
-> anyhow::Result<()> {
    let (world, aws) = QuiltWorld::start_strict().await?;
    let controller = world.controller_of_roles(2, &aws, &json!({})).await?;
    let url = controller.url(CLASS);
    let all = [&QUERYING[..], &["athena:ListQueryExecutions", "glue:GetDatabases"]].concat();
    let alice = token(&world, "alice", &all)?;
    // bob may look at his objects, and at no more
    let bob = token(&world, "bob", &["s3:GetObject", "s3:ListBucket"])?;
    let asked = queries("b-bob", "role-bob");
    let calls: Vec<Value> = asked.iter().map(|(call, _)| call.clone()).collect();
    let ((), of_bob) =
        tokio::try_join!(use_it(url, &alice, "alice", "bob"), ask(url, &bob, &calls))?;
    for ((call, expected), said) in asked.iter().zip(of_bob.said()) {
        if expected == "role-bob" {
            ensure!(!said.contains("role-bob"), "{call} gave: {said}");
            ensure!(said.contains("AccessDenied"), "{call} does not say why: {said}");
        }
    }

    let calls = aws.calls();
    let started = count(&calls, "alice", "athena:StartQueryExecution");
    ensure!(started == STARTED, "alice started {started}: {calls:?}");
    let is_query =
        |it: &&AwsCall| it.action.starts_with("athena:") || it.action.starts_with("glue:");
    let of_bob: Vec<_> =
        calls.iter().filter(|it| it.role.ends_with("/role-bob")).filter(is_query).collect();
    ensure!(of_bob.iter().any(|it| it.action == "athena:StartQueryExecution"), "{of_bob:?}");
    ensure!(of_bob.iter().any(|it| it.action == "glue:GetDatabases"), "{of_bob:?}");
    ensure!(of_bob.iter().all(|it| !it.passed), "bob's passed: {of_bob:?}");

    // his role does allow it: a token that grants it is another worker, with other keys
    let bob = token(&world, "bob", &QUERYING)?;
    let query = json!({ "query": "SELECT owner FROM measurements" });
    let report = ask(url, &bob, &[call("athena_query_execute", query)]).await?;
    ensure!(report.said()[0].contains("role-bob"), "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_endpoint_is_named_athenas_own_has_to_be_listed() -> anyhow::Result<()> {
    let (world, aws) = QuiltWorld::start_strict().await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    class["spec"]["env"] = json!({ "AWS_ENDPOINT_URL_S3": aws.endpoint() });
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let calls = [
        call("bucket_object_text", json!({ "s3_uri": "s3://b-alice/notes/alice.txt" })),
        call("athena_query_execute", json!({ "query": "SELECT owner FROM measurements" })),
    ];
    let report = ask(controller.url(CLASS), &world.token("alice")?, &calls).await?;
    let [note, query] = &report.said()[..] else { anyhow::bail!("{report:?}") };
    ensure!(note.contains("only alice may read"), "{note}");
    ensure!(query.contains("Failed to connect to proxy"), "{query}");
    // an SDK does not say whom it was refused, and so the log does
    let is_refusal = |line: &str| {
        line.contains("refused an outbound request")
            && line.contains("athena.us-east-1.amazonaws.com")
    };
    let told = async || Ok(controller.logs().lines().any(is_refusal));
    controller.eventually("the log says which host is not listed", told).await?;
    ensure!(!aws.calls().iter().any(|it| it.action.starts_with("athena:")), "{:?}", aws.calls());
    Ok(())
}

const ATHENA: &str = "athena.us-east-1.amazonaws.com";

/// As it is with AWS itself: no endpoint is named, and the class lists Athena's own host. In a network in which that host is
/// a strict AWS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn athenas_own_host_is_reached_by_its_name_through_a_tunnel_where_it_is_listed()
-> anyhow::Result<()> {
    for environment in ["quilt", "moto"] {
        // nothing can be installed in there
        python_environment(environment).await?;
    }
    let this = "athenas_own_host_is_reached_by_its_name_through_a_tunnel_where_it_is_listed";
    if !own_network::is_inside(this, &[ATHENA]).await? {
        return Ok(());
    }
    let (world, aws) = QuiltWorld::start_strict().await?;
    let ca = TestCa::generate()?;
    let front = TlsFront::open_as(ATHENA, own_network::at(443), &ca).await?;
    front.lead_to(aws.endpoint().trim_start_matches("http://").trim_end_matches('/').parse()?);
    let trusted = tempfile::NamedTempFile::new()?;
    std::fs::write(trusted.path(), ca.pem())?;

    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let spec = &mut class["spec"];
    spec["env"] = json!({ "AWS_ENDPOINT_URL_S3": aws.endpoint(), "AWS_CA_BUNDLE": trusted.path() });
    spec["egress"]["hosts"].as_array_mut().context("hosts")?.push(json!({ "host": ATHENA }));
    let shown = spec["local"]["readOnlyPaths"].as_array_mut().context("paths")?;
    shown.push(json!(trusted.path()));
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let query = json!({ "query": "SELECT owner FROM measurements" });
    let asked = [call("athena_query_execute", query)];
    let report = ask(controller.url(CLASS), &world.token("alice")?, &asked).await?;
    ensure!(report.said()[0].contains("role-alice"), "{report:?}\n{}", controller.logs());
    let calls = aws.calls();
    ensure!(count(&calls, "alice", "athena:StartQueryExecution") == 1, "{calls:?}");
    Ok(())
}
