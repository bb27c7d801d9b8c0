//! What `patchbay why --token-file` says of a credential from the objects of a cluster, and that it is only said.

use crate::{
    identity::{identities, jwt, told},
    world::{CLASS, ISSUER, World, name, shared},
};
use anyhow::{Context as _, ensure};
use patchbay_tests::{
    binaries,
    catalog::{Catalog, Config, keys::SigningKey, world::World as CatalogWorld},
    controller::api_key,
    evidence::Evidence as _,
    issuer::claims,
    pods::audit,
    secrets::Secrets,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, io::Write as _, path::Path};
use tempfile::NamedTempFile;
use tokio::process::Command;

const STAFF: &str = "https://staff.example";

/// Somebody who may read classes, providers and one Secret, and do nothing else: as their kubeconfig and their name.
async fn asker(world: &World) -> anyhow::Result<(NamedTempFile, String)> {
    let place = &world.stage.place;
    let user = format!("system:serviceaccount:{}:asker", place.name);
    for (role, verb, resources) in [
        ("reads-objects", "list", "workerclasses.patchbay.dev,identityproviders.patchbay.dev"),
        ("reads-staff", "get", "secrets"),
    ] {
        let (verb, resources) = (format!("--verb={verb}"), format!("--resource={resources}"));
        let mut made = vec!["create", "role", role, &verb, &resources];
        made.extend((role == "reads-staff").then_some("--resource-name=staff"));
        place.kubectl(&made).await?;
        let (of_role, to_user) = (format!("--role={role}"), format!("--user={user}"));
        place.kubectl(&["create", "rolebinding", role, &of_role, &to_user]).await?;
    }
    let text = fs::read_to_string(place.cluster.kubeconfig())?;
    let mut kubeconfig: Value = serde_json::from_str(&text)?;
    kubeconfig["users"][0]["user"]["as"] = json!(user);
    let mut file = NamedTempFile::new()?;
    file.write_all(kubeconfig.to_string().as_bytes())?;
    Ok((file, user))
}

/// Whether somebody would be let in, and what is told.
async fn why(kubeconfig: &Path, namespace: &str, token: &str) -> anyhow::Result<(bool, String)> {
    let mut file = NamedTempFile::new()?;
    file.write_all(token.as_bytes())?;
    let program = Command::new(binaries::path("patchbay")?)
        .args(["why", "--namespace", namespace, "--token-file"])
        .arg(file.path())
        .env("KUBECONFIG", kubeconfig)
        .output()
        .await?;
    let [told, complaint] = [program.stdout, program.stderr].map(String::from_utf8);
    let (told, complaint) = (told?, complaint?);
    Secrets::new(&[("the token", token)])?.not_in("what is said", &format!("{told}{complaint}"))?;
    ensure!(complaint.is_empty(), "{complaint}");
    Ok((program.status.success(), told))
}

#[tokio::test]
async fn a_credential_is_judged_by_a_clusters_objects_and_used_for_nothing() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let catalog = Catalog::start(Config::default(), CatalogWorld::without_aws(&["alice"])).await?;
    let key = SigningKey::generate()?;
    let world = World::make("why", json!({}), &["alice"]).await?;
    world.secret("staff", &[("pem", key.public_pem().as_bytes())]).await?;
    let of_secret = json!({ "secretRef": { "name": "staff", "key": "pem" } });
    world.provide("staff", jwt(STAFF, &of_secret, &json!({}))?).await?;
    let published = catalog.jwks();
    world.provide("published", jwt(catalog.url(), &published, &json!({}))?).await?;
    let origins = catalog.origins();
    world.provide("quilt", json!({ "introspection": { "catalog": origins } })).await?;
    world.warm().await?;

    let (kubeconfig, user) = asker(&world).await?;
    let cluster = &world.stage.place.cluster;
    let mark = audit::end(cluster)?;
    let staffs = key.sign(&claims(STAFF, "alice"))?;
    let forged = SigningKey::generate()?.sign(&claims(STAFF, "alice"))?;
    let strange = key.sign(&claims("https://nobody.example", "alice"))?;
    let foreign = key.sign(&claims(catalog.url(), "alice"))?;
    let of_keys = name("alice")?.to_string();
    let not_asked = format!("  user         not asked: {} would say whose it is", catalog.url());
    let user_of = |issuer: &str| format!("  user         alice, as {issuer} says");
    for (what, token, is_good, lines) in [
        ("a token", &staffs, true, vec!["  provider     staff".to_owned(), user_of(STAFF)]),
        (
            "a key",
            &api_key("alice"),
            true,
            vec![user_of(ISSUER), format!("  tenant       {of_keys}")],
        ),
        (
            "a catalog's key",
            &"qk_of-nobody-that-is-asked".to_owned(),
            true,
            vec![not_asked.clone()],
        ),
        ("of an issuer that none is for", &strange, true, vec![not_asked.clone()]),
        ("a forged token", &forged, false, vec!["  refused      invalid_credential: ".to_owned()]),
        ("not by those keys", &foreign, false, vec!["  provider     published".to_owned()]),
    ] {
        let (good, told) = why(kubeconfig.path(), &world.stage.place.name, token).await?;
        ensure!(
            good == is_good && told.starts_with(&format!("class {CLASS}, at /mcp\n")),
            "{what}: {told}"
        );
        for line in lines {
            ensure!(told.lines().any(|it| it.starts_with(&line)), "{what}: no `{line}` in {told}");
        }
    }
    // nobody is anybody by that, and nothing was asked for but what is written and the keys of providers
    ensure!(identities(&world).await?.is_empty(), "{:?}", identities(&world).await?);
    let asked: BTreeSet<_> = catalog.record().all().into_iter().map(|seen| seen.path).collect();
    ensure!(asked.iter().all(|path| path == "/.well-known/jwks.json"), "{asked:?}");
    let log = audit::since(cluster, mark)?;
    let asked: BTreeSet<_> = log
        .iter()
        .filter(|entry| entry["impersonatedUser"]["username"] == user.as_str())
        .map(|entry| {
            format!("{} {}", entry["verb"], entry["objectRef"]["resource"]).replace('"', "")
        })
        .collect();
    let expected = ["get secrets", "list identityproviders", "list workerclasses"];
    ensure!(asked.iter().eq(expected), "{asked:?}");

    // it is what comes of it
    world.config.allow_secrets(&world.stage, &["staff"]).await?;
    let gateway = world.config.start().await?;
    let (_, before) = why(kubeconfig.path(), &world.stage.place.name, &staffs).await?;
    let answered = told(&gateway, &staffs).await;
    ensure!(answered.with_logs(|| gateway.logs())?.0 == 200, "{}", gateway.logs());
    let tenants = world.tenants.list(&kube::api::ListParams::default()).await?;
    let made = tenants.items[0].metadata.name.as_deref().context("no name")?;
    ensure!(before.contains(&format!("  tenant       {made}\n")), "{made}: {before}");
    world.end().await
}
