//! A running `patchbay gateway` of a namespace, which may do there what a gateway may and nothing else.

use super::{authority::Authority, mounted::Mounted, stage::Stage};
use crate::{
    binaries,
    cluster::{from, until},
    evidence::Evidence as _,
    heard::{Heard, Log},
    http::Http,
    known,
    mcp::McpClient,
};
use anyhow::{Context, bail, ensure};
use data_encoding::BASE64;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, api::PostParams};
use patchbay_core::{pin, session::SessionRoots};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

/// The account that gateways have.
pub const ACCOUNT: &str = "patchbay-gateway";
/// Its certificate for workers, and the key of it.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The root keys of sessions.
const SESSION_KEYS: &str = "session-keys.json";
/// An address where nobody listens.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// How long a gateway may take to serve, or to end.
const LIMIT: Duration = Duration::from_mins(1);

/// How gateways of a namespace are started.
pub struct GatewayConfig {
    namespace: String,
    token: String,
    authority: String,
    server: String,
    /// Where the API server is if not at its own address.
    detour: Option<String>,
    certificate: (String, String),
    /// The root keys of sessions, as an operator would have written them.
    session_keys: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// A running gateway.
pub struct Gateway {
    heard: Heard,
    child: Child,
    directory: TempDir,
    /// Its certificate for workers.
    link: Mounted,
    _sessions: Mounted,
    /// Where clients connect.
    pub url: String,
    /// The admin pages.
    pub admin: String,
    http: Http,
}

impl GatewayConfig {
    /// Makes an account in a namespace that may do what gateways may.
    pub async fn make(stage: &Stage) -> anyhow::Result<Self> {
        let place = &stage.place;
        let (client, namespace, params) = (&place.client, &place.name, PostParams::default());
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let account = from(json!({ "metadata": { "name": ACCOUNT } }))?;
        accounts.create(&params, &account).await?;
        let rules = json!([
            { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["patchbay.dev"], "resources": ["workerclasses", "identityproviders"],
              "verbs": ["list", "watch"] },
            { "apiGroups": ["patchbay.dev"], "resources": ["tenants"],
              "verbs": ["get", "list", "watch", "create", "patch"] },
        ]);
        allow(stage, ACCOUNT, &rules).await?;
        let request: TokenRequest = from(json!({ "spec": { "audiences": [] } }))?;
        let token = accounts.create_token_request(ACCOUNT, &params, &request).await?;
        let token = token.status.context("no token")?.token;
        known::hold("a gateway's token for the API server", &token);
        Ok(Self {
            namespace: namespace.clone(),
            token,
            authority: std::fs::read_to_string(place.cluster.authority())?,
            server: place.cluster.addresses()?.api().to_string(),
            detour: None,
            certificate: Self::certificate(&stage.authority)?,
            session_keys: session_keys()?,
            args: Vec::new(),
            env: Vec::new(),
        })
    }

    /// Of a namespace of no cluster: one says what it would watch there, and never that it is ready.
    pub fn nowhere(namespace: &str) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            token: "of-nobody".to_owned(),
            authority: authority.pem(),
            server: NOWHERE.ip().to_string(),
            detour: Some(NOWHERE.to_string()),
            certificate: Self::certificate(&authority)?,
            session_keys: session_keys()?,
            args: Vec::new(),
            env: Vec::new(),
        })
    }

    /// Lets them get these Secrets, by name and no others, as the chart's `gateway.providerSecrets` does.
    pub async fn allow_secrets(&self, stage: &Stage, names: &[&str]) -> anyhow::Result<()> {
        let rules = json!([{
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"],
        }]);
        allow(stage, &format!("{ACCOUNT}-{}", names.join("-")), &rules).await
    }

    fn certificate(authority: &Authority) -> anyhow::Result<(String, String)> {
        authority.files(pin::Role::Gateway)
    }

    /// Who they are to the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace)
    }

    /// By another way to the API server.
    #[must_use]
    pub fn by_way_of(&self, address: SocketAddr) -> Self {
        Self { detour: Some(address.to_string()), ..self.clone() }
    }

    /// With this certificate for workers and its key, as the texts of two files.
    #[must_use]
    pub fn certified(&self, certificate: (String, String)) -> Self {
        Self { certificate, ..self.clone() }
    }

    /// With further arguments.
    #[must_use]
    pub fn args(&self, args: &[&str]) -> Self {
        let further = args.iter().map(|arg| (*arg).to_owned());
        Self { args: self.args.iter().cloned().chain(further).collect(), ..self.clone() }
    }

    /// With a further variable in their environment.
    #[must_use]
    pub fn env(&self, name: &str, value: &str) -> Self {
        let further = (name.to_owned(), value.to_owned());
        Self { env: self.env.iter().cloned().chain([further]).collect(), ..self.clone() }
    }

    pub(super) fn kubeconfig(&self) -> Value {
        let server = self.detour.as_deref().unwrap_or(&self.server);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://{server}"),
                "tls-server-name": self.server,
                "certificate-authority-data": BASE64.encode(self.authority.as_bytes()),
            }}],
            "users": [{ "name": "c", "user": { "token": self.token } }],
            "contexts": [{ "name": "c", "context": {
                "cluster": "c", "user": "c", "namespace": self.namespace,
            }}],
        })
    }

    /// Starts one and waits until it is ready.
    pub async fn start(&self) -> anyhow::Result<Gateway> {
        let gateway = self.start_unready(true).await?;
        gateway.until("it is ready", async || gateway.is_ready().await).await?;
        Ok(gateway)
    }

    /// Starts one and waits until its admin pages are there, with the certificate for workers or without it.
    pub async fn start_unready(&self, with_certificate: bool) -> anyhow::Result<Gateway> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("kubeconfig"), self.kubeconfig().to_string())?;
        let link = if with_certificate {
            Mounted::with(&files(&self.certificate))?
        } else {
            Mounted::empty()?
        };
        let sessions = Mounted::with(&[(SESSION_KEYS, &self.session_keys)])?;
        let mut child = Command::new(binaries::path("patchbay")?)
            .arg("gateway")
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--link-cert")
            .arg(link.file(CERTIFICATE))
            .arg("--link-key")
            .arg(link.file(KEY))
            .arg("--session-keys")
            .arg(sessions.file(SESSION_KEYS))
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("KUBECONFIG", at("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let heard = Heard::of("a gateway");
        let (told, mut announced) = watch::channel(Urls::default());
        let stderr = child.stderr.take().context("no stderr")?;
        tokio::spawn(read_logs(stderr, heard.log().clone(), told));
        let is_there =
            |urls: &Urls| urls.admin.is_some() && (urls.url.is_some() || !with_certificate);
        let Ok(Ok(urls)) = timeout(LIMIT, announced.wait_for(is_there)).await else {
            bail!("patchbay gateway does not serve:\n{}", heard.log().text());
        };
        let Urls { url, admin } = urls.clone();
        drop(urls);
        let (url, admin) = (url.unwrap_or_default(), admin.context("no admin pages")?);
        Ok(Gateway {
            heard,
            child,
            directory,
            link,
            _sessions: sessions,
            url,
            admin,
            http: Http::default(),
        })
    }

    /// Puts the certificate for workers where a gateway that was started without it looks.
    pub fn bring_certificate(&self, gateway: &Gateway) -> anyhow::Result<()> {
        gateway.exchange_certificate(&self.certificate)
    }
}

/// A certificate and its key, as the files that a gateway mounts.
fn files((certificate, key): &(String, String)) -> [(&str, &str); 2] {
    [(CERTIFICATE, certificate), (KEY, key)]
}

/// Gives gateways these rights, by a Role of this name.
async fn allow(stage: &Stage, name: &str, rules: &Value) -> anyhow::Result<()> {
    let (client, namespace) = (&stage.place.client, &stage.place.name);
    let params = PostParams::default();
    let role: Role = from(json!({ "metadata": { "name": name }, "rules": rules }))?;
    Api::namespaced(client.clone(), namespace).create(&params, &role).await?;
    let binding: RoleBinding = from(json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace }],
    }))?;
    Api::namespaced(client.clone(), namespace).create(&params, &binding).await?;
    Ok(())
}

fn session_keys() -> anyhow::Result<String> {
    let roots = SessionRoots::generate(Timestamp::now())?;
    let text = String::from_utf8(roots.to_text().to_vec())?;
    for key in root_keys(&text)? {
        known::present("a root key of sessions", &key);
    }
    Ok(text)
}

/// The keys themselves, in what an operator writes.
pub fn root_keys(text: &str) -> anyhow::Result<Vec<String>> {
    let kept: Value = serde_json::from_str(text)?;
    let roots = kept["roots"].as_array().context("no root keys")?;
    roots
        .iter()
        .map(|root| root["key"].as_str().map(str::to_owned).context("a root without a key"))
        .collect()
}

impl Clone for GatewayConfig {
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            token: self.token.clone(),
            authority: self.authority.clone(),
            server: self.server.clone(),
            detour: self.detour.clone(),
            certificate: self.certificate.clone(),
            session_keys: self.session_keys.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Urls {
    url: Option<String>,
    admin: Option<String>,
}

async fn read_logs(stderr: ChildStderr, log: Log, told: watch::Sender<Urls>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            let url = event["url"].as_str().map(str::to_owned);
            match event["message"].as_str() {
                Some("serving") => told.send_modify(|urls| urls.url = url),
                Some("admin pages") => told.send_modify(|urls| urls.admin = url),
                _ => {}
            }
        }
        log.add(&line);
    }
}

impl Gateway {
    /// All that it logged so far.
    pub fn logs(&self) -> String {
        self.heard.log().text()
    }

    /// A client of the class at `/mcp`.
    pub fn client(&self, key: &str) -> McpClient {
        McpClient::bearer(&format!("{}/mcp", self.url), key)
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        Ok(self.http.get(&format!("{}/readyz", self.admin), &[]).await?.status.is_success())
    }

    /// What it says that it waits for.
    pub async fn waits_for(&self) -> anyhow::Result<String> {
        Ok(self.http.get(&format!("{}/readyz", self.admin), &[]).await?.text())
    }

    /// One value of its metrics; none if there is no such line.
    pub async fn metric(&self, line: &str) -> anyhow::Result<Option<f64>> {
        let metrics = self.http.get(&format!("{}/metrics", self.admin), &[]).await?.text();
        known::not_in_log("the metrics of a gateway", &metrics)?;
        let value = metrics.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Waits until `is_so`; a failure shows the logs.
    pub async fn until(
        &self,
        what: &str,
        is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        until(what, is_so).await.with_logs(|| self.logs())
    }

    /// Where its files are.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts another certificate for workers, and its key, where it looks.
    pub fn exchange_certificate(&self, certificate: &(String, String)) -> anyhow::Result<()> {
        Ok(self.link.exchange(&files(certificate))?)
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id().context("it has ended")?)?;
        kill_process(Pid::from_raw(pid).context("no pid")?, Signal::TERM)?;
        Ok(())
    }

    /// Waits until it has ended by itself, without an error.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let status = timeout(LIMIT, self.child.wait()).await.context("it did not end")??;
        ensure!(status.success(), "{status}\n{}", self.logs());
        Ok(())
    }

    /// Ends it as the kernel would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
