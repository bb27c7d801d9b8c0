//! Users of `quilt-mcp` whose credentials have other sources than a catalog's own word, through both replicas of the gateway: AWS
//! keys of roles that the gateway assumes, of their own tokens and out of them, tokens for Patchbay alone, and credentials that
//! are replaced while they call. What must come of it is what must on one machine, by the same code.

use super::{
    quilt::{CLASS, values},
    world::Installation,
};
use anyhow::{Context, ensure};
use data_encoding::BASE64;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use patchbay_tests::{
    authorization_server::{self as login, AuthorizationServer},
    cluster::{Strict, from},
    pods::{containers, roots},
    quilt::{
        QuiltWorld, exchanged, keys, rolls,
        stateless::DATA,
        two_catalogs::{self, OTHER_REGION},
    },
    sandbox::HOME,
    secrets::Secrets,
    served::Served,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The provider of the catalog's tokens, beside the chart's own, which asks the catalog.
const TOKENS: &str = "quilt-tokens";
/// The class and the provider of another catalog.
const OTHER: &str = "quilt-eu";
/// The provider of tokens for Patchbay alone.
const STAFF: &str = "staff";
/// The Secret with the gateway's own keys of AWS, by the names of the variables that SDKs read.
const OWN_KEYS: &str = "gateway-aws";
/// Where a class may name an STS without TLS: the gateway's own loopback.
const STS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4566);
/// Whatever could be told of a request to AWS is told.
const LOG: &str = "info,aws_smithy_runtime=trace,aws_config=trace,aws_sdk_sts=trace";

/// A catalog and an AWS that pods reach by names of a namespace in which Patchbay will be.
struct Scene {
    place: Strict,
    world: QuiltWorld,
    aws: StrictAws,
}

impl Scene {
    async fn make(name: &str) -> anyhow::Result<Self> {
        let place = Strict::make(name).await?;
        let host = place.cluster.addresses()?.host();
        let names = [
            place.name_outside("catalog", host).await?,
            place.name_outside("registry", host).await?,
        ];
        let (world, aws) = QuiltWorld::start_strict_at(host, names).await?;
        Ok(Self { place, world, aws })
    }

    /// The chart's values: the catalog's users and their tokens, whose authority is what these claims say, so many warm workers
    /// whose users' credentials are these, and gateways that hold keys of AWS by which every role may be assumed.
    async fn values(
        &self,
        warm: u32,
        authority: &[&str],
        credentials: Value,
    ) -> anyhow::Result<Value> {
        let Self { place, world, aws } = self;
        let key = &world.aws.registry_key;
        let own = [
            ("AWS_ACCESS_KEY_ID", key.access_key_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret()),
        ];
        self.secret(OWN_KEYS, json!({ "stringData": Value::from_iter(own) })).await?;
        let of_secret = |(name, _): (&str, &str)| {
            let source = json!({ "secretKeyRef": { "name": OWN_KEYS, "key": name } });
            json!({ "name": name, "valueFrom": source })
        };
        let mut env: Vec<Value> = own.map(of_secret).into();
        env.push(json!({ "name": "AWS_ENDPOINT_URL", "value": aws.endpoint() }));

        let image = roots::quilt(&place.cluster).await?;
        let mut values = values(&image, world)?;
        values["log"] = json!(LOG);
        values["quilt"]["warm"] = json!(warm);
        values["quilt"]["extraSpec"]["credentials"] = credentials;
        values["providers"] = json!({ TOKENS: world.tokens(authority) });
        values["gateway"] = json!({ "extraEnv": env });
        let_ask(&mut values, aws.endpoint())?;
        Ok(values)
    }

    /// Makes a Secret of the namespace.
    async fn secret(&self, name: &str, mut secret: Value) -> anyhow::Result<()> {
        secret["metadata"] = json!({ "name": name });
        let secret: Secret = from(secret)?;
        let secrets = Api::namespaced(self.place.client.clone(), &self.place.name);
        secrets.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Installs Patchbay, and waits for its warm workers.
    async fn install(self, values: Value) -> anyhow::Result<(Installation, QuiltWorld, StrictAws)> {
        let warm = values["quilt"]["warm"].as_u64().and_then(|warm| warm.try_into().ok());
        let at = Installation::make(self.place, values).await?;
        at.warm(CLASS, warm.context("no number")?).await?;
        Ok((at, self.world, self.aws))
    }
}

/// Lets gateways ask at this URL, which network policies keep them from otherwise.
fn let_ask(values: &mut Value, url: &str) -> anyhow::Result<()> {
    let ports = &mut values["networkPolicy"]["providers"]["ports"];
    let port = url.parse::<http::Uri>()?.port_u16().context("no port")?;
    ports.as_array_mut().context("no ports")?.push(json!(port));
    Ok(())
}

/// How many tenants have a worker. Who comes while none is free is written down as waiting, and may be refused after it.
async fn tenants(at: &Installation) -> anyhow::Result<usize> {
    let all = at.tenants().list(&ListParams::default()).await?;
    let assignments = all.items.iter().filter_map(|tenant| tenant.spec.assignment.as_ref());
    Ok(assignments.filter(|assignment| !assignment.worker.is_empty()).count())
}

/// What both gateways logged.
async fn logs(at: &Installation) -> anyhow::Result<String> {
    let (one, other) = tokio::try_join!(at.logs(0), at.logs(1))?;
    Ok(one + &other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alices_claims_deny_her_what_her_role_would_allow() -> anyhow::Result<()> {
    let scene = Scene::make("roles").await?;
    let credentials = keys::of_roles(&scene.world, None, &json!({ "team": "biology" }));
    let values = scene.values(2, &keys::AUTHORITY, credentials).await?;
    let (at, world, aws) = scene.install(values).await?;
    let served = at.served("/mcp");
    let ask = async |token: &str, calls: &[Value]| served.said(token, calls).await;
    let presented = keys::claims_deny_what_the_role_allows(&world, &aws, 2, ask).await;
    let [reader, writer] = at.installed.or_told(presented).await?;
    // each set of her rights is a tenant, and which gateway she came by makes none
    ensure!(tenants(&at).await? == 2, "{} tenants", tenants(&at).await?);
    let own = world.aws.registry_key.secret_access_key.expose_secret();
    let secrets =
        [("the gateway's key", own), ("alice's token", &reader), ("her other token", &writer)];
    Secrets::new(&secrets)?.not_in("the gateways' logs", &logs(&at).await?)?;
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_role_are_renewed_under_load_and_no_call_fails() -> anyhow::Result<()> {
    let scene = Scene::make("renewed").await?;
    let credentials = keys::of_roles(&scene.world, None, &json!({}));
    let values = scene.values(1, &keys::AUTHORITY, credentials).await?;
    let (at, world, aws) = scene.install(values).await?;
    let renewed = keys::are_renewed_under_load(&world, &aws, &at.served("/mcp")).await;
    let answered = at.installed.or_told(renewed).await?;
    println!("{answered} calls through both gateways while keys were renewed, 0 failed");
    ensure!(at.tenant("alice").await?.assignment.epoch == 1, "another worker");
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_for_aws_too_is_exchanged_and_nobody_signs() -> anyhow::Result<()> {
    let scene = Scene::make("for-aws").await?;
    let credentials = keys::of_own_tokens(&scene.world, &format!("http://{STS}"))?;
    let values = scene.values(1, &keys::AUTHORITY, credentials).await?;
    let (at, world, aws) = scene.install(values).await?;
    for replica in &at.replicas {
        let pod = at.pods().get(&replica.pod).await?;
        aws.listen_on(containers::listener_in(&pod, &replica.component, STS)?)?;
    }
    let exchanged = keys::own_tokens_are_exchanged(&world, &aws, &at.served("/mcp")).await;
    let token = at.installed.or_told(exchanged).await?;
    ensure!(tenants(&at).await? == 1, "who was refused has a worker");
    Secrets::new(&[("alice's token", &token)])?.not_in("the gateways' logs", &logs(&at).await?)?;
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_carries_keys_gives_those_and_no_other_ones() -> anyhow::Result<()> {
    let scene = Scene::make("carried").await?;
    let values = scene.values(1, &[], json!({ "source": "inlineClaims" })).await?;
    let (at, world, aws) = scene.install(values).await?;
    let carried = keys::carried_keys_are_the_only_ones(&world, &aws, &at.served("/mcp")).await;
    let secrets = at.installed.or_told(carried).await?;
    ensure!(tenants(&at).await? == 1, "somebody else has a worker");
    secrets.not_in("the gateways' logs", &logs(&at).await?)?;
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_patchbay_alone_is_exchanged_by_a_client_whose_secret_is_a_secrets()
-> anyhow::Result<()> {
    let scene = Scene::make("exchanged").await?;
    let host = scene.place.cluster.addresses()?.host();
    let login = AuthorizationServer::start_at(host, scene.world.catalog.clone()).await?;
    let data = exchanged::secret().map(|(name, entry)| (name, BASE64.encode(&entry)));
    scene.secret(exchanged::SECRET, json!({ "data": Value::from_iter(data) })).await?;
    let source = exchanged::source(&scene.world, &login);
    let mut values = scene.values(2, &[], json!({ "catalog": source })).await?;
    values["providers"][STAFF] = exchanged::provider(CLASS);
    values["gateway"]["providerSecrets"] = json!([exchanged::SECRET]);
    let_ask(&mut values, login.url())?;
    let (at, world, _aws) = scene.install(values).await?;

    let served = at.served("/mcp");
    let mut presented = Vec::new();
    for user in ["alice", "bob"] {
        let token = login.token(user)?;
        for _ in 0..served.gateways() {
            let said = at.installed.or_told(served.said(&token, &exchanged::calls(user)).await);
            exchanged::check(user, &said.await?)?;
        }
        presented.push(token);
    }
    let exchanges = login.exchanged();
    for user in ["alice", "bob"] {
        let of_user = exchanges.iter().filter(|it| *it == user).count();
        ensure!((1..=served.gateways()).contains(&of_user), "{exchanges:?}");
    }
    ensure!(login.refused().is_empty(), "{:?}", login.refused());
    ensure!(tenants(&at).await? == 2, "{} tenants", tenants(&at).await?);
    let logs = logs(&at).await?;
    ensure!(exchanged::told(&login, STAFF, &logs)? == exchanges.len(), "{exchanges:?}: {logs}");
    let bearers = exchanged::never_shown(&world, &presented)?;
    let mut secrets = Secrets::new(&[("the client's secret", login::SECRET)])?;
    for token in presented.iter().chain(&bearers) {
        secrets.add("a token", token)?;
    }
    secrets.not_in("the gateways' logs", &logs)?;
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_two_catalogs_is_two_tenants_and_each_has_one_catalogs_account_and_region()
-> anyhow::Result<()> {
    let place = Strict::make("two").await?;
    let host = place.cluster.addresses()?.host();
    let named = async |names: [&str; 2]| {
        let [catalog, registry] = names.map(|name| place.name_outside(name, host));
        let names = [catalog.await?, registry.await?];
        QuiltWorld::start_at(host, names, &["alice", "bob"]).await
    };
    let (one, other) =
        tokio::try_join!(named(["catalog", "registry"]), named(["catalog-eu", "registry-eu"]))?;
    let image = roots::quilt(&place.cluster).await?;
    let (mut values, beside) = (values(&image, &one)?, values(&image, &other)?);
    values["quilt"]["warm"] = json!(1);
    let catalog = other.catalog.origins();
    let mut credentials = json!({ "source": "catalog", "catalog": catalog });
    credentials["catalog"]["region"] = json!(OTHER_REGION);
    let (class, spec) = (&beside["quilt"], &beside["quilt"]["extraSpec"]);
    values["classes"] = json!({ OTHER: {
        "path": "/eu/mcp", "image": class["image"], "profile": "quilt",
        "command": [roots::QUILT_PYTHON], "resources": { "memory": class["memory"] }, "warm": 1,
        "env": spec["env"], "credentials": credentials,
        "egress": { "hosts": spec["egress"]["hosts"], "cidrs": class["egress"]["cidrs"] },
    } });
    values["providers"] = json!({ OTHER: {
        "classes": [OTHER], "introspection": { "catalog": catalog },
    } });
    for url in [other.catalog.url(), other.catalog.registry_url()] {
        let_ask(&mut values, url)?;
    }
    let at = Installation::make(place, values).await?;
    tokio::try_join!(at.warm(CLASS, 1), at.warm(OTHER, 1))?;

    let (here, there) = (at.served("/mcp"), at.served("/eu/mcp"));
    let told_apart = two_catalogs::are_told_apart([&one, &other], [&here, &there]).await;
    at.installed.or_told(told_apart).await?;
    let tenants = at.tenants().list(&ListParams::default()).await?.items;
    ensure!(tenants.len() == 2, "{tenants:?}");
    for (class, world, region) in [(CLASS, &one, "us-east-1"), (OTHER, &other, OTHER_REGION)] {
        let of_class = tenants.iter().find(|tenant| tenant.spec.class_name == class);
        let assignment = of_class.and_then(|tenant| tenant.spec.assignment.as_ref());
        let worker = &assignment.with_context(|| format!("{class}: {tenants:?}"))?.worker;
        let show = format!("print(open('{HOME}/{DATA}/config.yml').read())");
        let shown = ["exec", worker, "--container=server", "--", roots::QUILT_PYTHON, "-c", &show];
        let configuration = at.installed.release.place.kubectl(&shown).await?;
        two_catalogs::is_of(&configuration, world, region)?;
    }
    at.installed.end().await
}

/// Rolls alice's credential under load through both gateways, and looks whether she is who she was.
async fn rolled(
    name: &str,
    roll: impl AsyncFnOnce(&QuiltWorld, &Served) -> anyhow::Result<usize>,
) -> anyhow::Result<()> {
    let scene = Scene::make(name).await?;
    let values = scene.values(1, &[], json!({})).await?;
    let (at, world, _aws) = scene.install(values).await?;
    let answered = at.installed.or_told(roll(&world, &at.served("/mcp")).await).await?;
    println!("{name}: {answered} calls through both gateways while it was rolled, 0 failed");
    ensure!(at.tenant("alice").await?.assignment.epoch == 1, "another worker");
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    Box::pin(rolled("token-roll", rolls::of_a_token)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_rolled_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    Box::pin(rolled("qk-roll", rolls::of_an_api_key)).await
}
