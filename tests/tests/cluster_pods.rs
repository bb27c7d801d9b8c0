//! What a pod is on the cluster that the suites run on: everything that Patchbay's isolation asks of
//! Kubernetes, seen on a real node. `make test-cluster`.

use anyhow::{Context, ensure};
use http::{Request, header::AUTHORIZATION};
use http_body_util::Full;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    authentication::v1::{TokenRequest, TokenReview},
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use patchbay_tests::{
    cluster::{Image, Strict, from, is_ready, shell_pod, until},
    http::Http,
    https,
};
use serde_json::{Value, json};
use std::{fs, process::Stdio, time::Duration};
use tokio::{io::AsyncBufReadExt as _, io::BufReader, net::TcpStream, time::timeout};

/// Why the pod's container waits or has ended.
fn reason(pod: &Pod) -> Option<String> {
    let state = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.clone()?;
    let ended = state.terminated.and_then(|ended| ended.reason);
    ended.or(state.waiting.and_then(|waiting| waiting.reason))
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn a_restricted_pod_can_write_to_its_memory_and_to_nothing_else() -> anyhow::Result<()> {
    let place = Strict::make("restricted").await?;
    let script = "id -u
        echo mine >/state/file && cat /state/file
        cat /dev/zero >/state/large 2>/dev/null || echo 'state is bounded'
        touch /file 2>/dev/null || echo 'root is read-only'
        cat /proc/self/status; cat /proc/mounts";
    place.create(shell_pod("look", script), |pod| phase(pod) == "Succeeded").await?;
    let seen = place.kubectl(&["logs", "look"]).await?;
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(lines[..4] == ["1000", "mine", "state is bounded", "root is read-only"], "{seen}");
    for expected in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        ensure!(lines.contains(&expected), "not {expected}: {seen}");
    }
    let state = lines.iter().find(|line| line.contains(" /state ")).context("no mount")?;
    ensure!(state.starts_with("tmpfs ") && state.contains("size=1024k"), "{state}");
    place.end().await
}

#[tokio::test]
async fn a_pod_is_reached_by_its_address_by_exec_and_by_a_forwarded_port() -> anyhow::Result<()> {
    let place = Strict::make("reached").await?;
    let script = "echo here >/state/index.html; exec busybox httpd -f -p 8080 -h /state";
    let mut pod = shell_pod("server", script);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 });
    let pod = place.create(pod, is_ready).await?;
    let address = pod.status.and_then(|status| status.pod_ip).context("no address")?;
    let answer = async |at: &str| Http::default().get(&format!("http://{at}/"), &[]).await;
    ensure!(answer(&format!("{address}:8080")).await?.text() == "here\n");
    ensure!(place.kubectl(&["exec", "server", "--", "/bin/sh", "-c", "id -u"]).await? == "1000\n");

    let mut forward = place.cluster.kubectl();
    forward.args(["--namespace", &place.name, "port-forward", "pod/server", ":8080"]);
    let mut forward = forward.args(["--address", "127.0.0.1"]).stdout(Stdio::piped()).spawn()?;
    let stdout = forward.stdout.take().context("standard output is piped")?;
    // kept open: it says a line for every connection
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await?.context("it ended")?;
    let to = line.split_whitespace().nth(2).with_context(|| line.clone())?;
    ensure!(answer(to).await?.text() == "here\n");
    forward.kill().await?;

    // an address that no pod has is refused, not looked for outside
    let nobody = address.rsplit_once('.').context("an address")?.0.to_owned() + ".251";
    let refused = timeout(Duration::from_secs(5), TcpStream::connect((nobody.as_str(), 80))).await;
    ensure!(refused.context("it was looked for")?.is_err(), "somebody has {nobody}");
    place.end().await
}

#[tokio::test]
async fn a_pods_token_is_for_its_audience_and_names_the_pod() -> anyhow::Result<()> {
    let place = Strict::make("token").await?;
    let pod = shell_pod("holder", "cat /token/token");
    let pod = place.create(pod, |pod| phase(pod) == "Succeeded").await?;
    let token = place.kubectl(&["logs", "holder"]).await?;
    let reviews = Api::<TokenReview>::all(place.client.clone());
    let review = async |audience: &str| {
        let review = json!({ "spec": { "token": token, "audiences": [audience] } });
        let review = reviews.create(&PostParams::default(), &from(review)?).await?;
        review.status.context("no status")
    };
    let own = review("patchbay").await?;
    ensure!(own.authenticated == Some(true), "{own:?}");
    let extra = own.user.and_then(|user| user.extra).context("nothing about the pod")?;
    let said = |key: &str| extra.get(&format!("authentication.kubernetes.io/{key}")).cloned();
    ensure!(said("pod-name") == Some(vec!["holder".to_owned()]), "{extra:?}");
    ensure!(said("pod-uid") == pod.uid().map(|uid| vec![uid]), "{extra:?}");
    ensure!(review("another").await?.authenticated != Some(true), "another audience");
    place.end().await
}

#[tokio::test]
async fn too_much_memory_ends_a_container_and_an_unknown_image_is_never_looked_for()
-> anyhow::Result<()> {
    let place = Strict::make("bounds").await?;
    // a shell that doubles a word
    let greedy = shell_pod("greedy", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done");
    let by_the_kernel = |pod: &Pod| reason(pod).as_deref() == Some("OOMKilled");
    place.create(greedy, by_the_kernel).await?;

    let mut stranger = shell_pod("stranger", "true");
    stranger["spec"]["containers"][0]["image"] = json!("registry.example/unknown:1");
    stranger["spec"]["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    let failed = |pod: &Pod| reason(pod).as_deref() == Some("ErrImagePull");
    let pod = place.create(stranger, failed).await?;
    let said = serde_json::to_string(&pod.status)?;
    ensure!(said.contains("127.0.0.1:1: connect: connection refused"), "{said}");
    place.end().await
}

#[tokio::test]
async fn an_image_that_was_made_here_runs_as_it_says() -> anyhow::Result<()> {
    let place = Strict::make("image").await?;
    let image = Image {
        name: "patchbay.dev/example:1".to_owned(),
        entrypoint: ["/bin/sh", "-c", "echo $GREETING; id -u"].map(str::to_owned).into(),
        env: vec!["GREETING=hello".to_owned(), "PATH=/bin".to_owned()],
        user: "4711:4711".to_owned(),
    };
    place.cluster.import_root(&image, &place.cluster.busybox_root()).await?;
    let mut pod = shell_pod("example", "");
    pod["spec"]["containers"][0]["image"] = json!(image.name);
    let context = pod["spec"]["securityContext"].as_object_mut().context("an object")?;
    context.remove("runAsUser");
    context.remove("runAsGroup");
    let main = pod["spec"]["containers"][0].as_object_mut().context("an object")?;
    main.remove("command");
    place.create(pod, |pod| phase(pod) == "Succeeded").await?;
    ensure!(place.kubectl(&["logs", "example"]).await? == "hello\n4711\n");
    place.end().await
}

#[tokio::test]
async fn helm_installs_a_chart_upgrades_it_and_takes_it_away() -> anyhow::Result<()> {
    let place = Strict::make("helm").await?;
    let chart = tempfile::tempdir()?;
    let path = chart.path().to_str().context("a plain path")?;
    fs::write(
        chart.path().join("Chart.yaml"),
        "{apiVersion: v2, name: example, version: 1.0.0, kubeVersion: '>= 1.30.0-0'}",
    )?;
    fs::create_dir(chart.path().join("templates"))?;
    fs::write(
        chart.path().join("templates/map.yaml"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: made}, data: {said: {{ .Values.said }}}}",
    )?;
    let said =
        async || place.kubectl(&["get", "configmap", "made", "-o", "jsonpath={.data.said}"]).await;
    place.helm(&["install", "example", path, "--set", "said=first"]).await?;
    ensure!(said().await? == "first");
    place.helm(&["upgrade", "example", path, "--set", "said=second"]).await?;
    ensure!(said().await? == "second");
    let listed: Value = serde_json::from_str(&place.helm(&["list", "--output", "json"]).await?)?;
    ensure!(listed[0]["revision"] == "2" && listed[0]["status"] == "deployed", "{listed}");
    place.helm(&["uninstall", "example"]).await?;
    ensure!(said().await.is_err(), "what Helm made is still there");
    place.end().await
}

#[tokio::test]
async fn what_is_not_restricted_is_refused_and_so_is_what_a_policy_forbids() -> anyhow::Result<()> {
    let place = Strict::make("admission").await?;
    let mut pod = shell_pod("loose", "true");
    pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    let refused = place.pods().create(&PostParams::default(), &from(pod)?).await;
    let refusal = refused.err().context("a privileged pod was admitted")?.to_string();
    ensure!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");

    let policy = json!({
        "metadata": { "name": place.name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
            }]},
            "validations": [{
                "expression": "object.metadata.labels == oldObject.metadata.labels",
                "message": "labels stay",
            }],
        },
    });
    let binding = json!({
        "metadata": { "name": place.name },
        "spec": {
            "policyName": place.name,
            "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": place.name,
            }}},
        },
    });
    let policies = Api::<ValidatingAdmissionPolicy>::all(place.client.clone());
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(place.client.clone());
    policies.create(&PostParams::default(), &from(policy)?).await?;
    bindings.create(&PostParams::default(), &from(binding)?).await?;
    place.create(shell_pod("kept", "sleep 1000"), |pod| phase(pod) == "Running").await?;
    let mut count = 0;
    until("the policy is enforced", async || {
        count += 1;
        let patch =
            Patch::Merge(json!({ "metadata": { "labels": { "count": count.to_string() } } }));
        let refused = place.pods().patch("kept", &PatchParams::default(), &patch).await.err();
        Ok(refused.is_some_and(|error| error.to_string().contains("labels stay")))
    })
    .await?;
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "count": "1" } } }));
    place.pods().patch("kept", &PatchParams::default(), &patch).await?;
    bindings.delete(&place.name, &DeleteParams::default()).await?;
    policies.delete(&place.name, &DeleteParams::default()).await?;
    place.end().await
}

#[tokio::test]
async fn a_stranger_may_ask_for_health_and_a_service_account_for_the_issuers_keys()
-> anyhow::Result<()> {
    let place = Strict::make("issuer").await?;
    let url = place.cluster.addresses()?.api_url();
    let https = https::Client::trusting(&fs::read_to_string(place.cluster.authority())?)?;
    let get = async |path: &str, token: Option<&str>| {
        let mut request = Request::get(format!("{url}{path}"));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = https.send(request.body(Full::default())?).await?;
        anyhow::Ok((answer.status().as_u16(), String::from_utf8(answer.body().to_vec())?))
    };
    ensure!(get("/readyz", None).await? == (200, "ok".to_owned()));
    for (path, status) in
        [("/api", 401), ("/api/v1/namespaces", 401), ("/version", 401), ("/openid/v1/jwks", 403)]
    {
        let answer = get(path, None).await?;
        ensure!(answer.0 == status, "{path}: {answer:?}");
    }

    let accounts = Api::<ServiceAccount>::namespaced(place.client.clone(), &place.name);
    until("the service account is there", async || {
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await?;
    let request: TokenRequest = from(json!({ "spec": { "audiences": [] } }))?;
    let issued = accounts.create_token_request("default", &PostParams::default(), &request).await?;
    let token = issued.status.context("no token")?.token;
    let (status, discovery) = get("/.well-known/openid-configuration", Some(&token)).await?;
    ensure!(status == 200, "{status}: {discovery}");
    let discovery: Value = serde_json::from_str(&discovery)?;
    ensure!(discovery["issuer"] == url, "{discovery}");
    let keys = discovery["jwks_uri"].as_str().and_then(|keys| keys.strip_prefix(&url));
    let (_, keys) = get(keys.context("keys are elsewhere")?, Some(&token)).await?;
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&keys)?;
    let header = jsonwebtoken::decode_header(&token)?;
    let key = keys.find(header.kid.as_deref().context("no kid")?).context("an unknown key")?;
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.set_issuer(&[&url]);
    validation.set_audience(&[&url]);
    let claims = jsonwebtoken::decode::<Value>(
        &token,
        &jsonwebtoken::DecodingKey::from_jwk(key)?,
        &validation,
    )?;
    let expected = format!("system:serviceaccount:{}:default", place.name);
    ensure!(claims.claims["sub"] == expected, "{}", claims.claims);
    place.end().await
}

#[tokio::test]
async fn the_audit_log_names_who_made_a_pod_and_shows_no_token() -> anyhow::Result<()> {
    let place = Strict::make("audit").await?;
    place.create(shell_pod("seen", "cat /token/token"), |pod| phase(pod) == "Succeeded").await?;
    let token = place.kubectl(&["logs", "seen"]).await?;
    let log = fs::read_to_string(place.cluster.audit_log())?;
    let made =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|event| {
            event["verb"] == "create"
                && event["objectRef"]["resource"] == "pods"
                && event["objectRef"]["namespace"] == place.name
                && event["objectRef"]["subresource"].is_null()
        });
    ensure!(made.context("not in the log")?["user"]["username"] == "administrator");
    ensure!(!log.contains(token.trim()), "a token is in the audit log");
    place.end().await
}
