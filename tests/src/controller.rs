//! A running `patchbay local`, with its documents, logs and addresses.
//!
//! Each has free ports, a run directory of its own, and is ended by pid. What it logged is kept, so that a
//! failing test can show it; a test whose controller logged a secret that is known fails.

use crate::{
    binaries,
    heard::{Heard, Log},
    http::Http,
    known,
};
use anyhow::{Context, bail, ensure};
use patchbay_core::{
    digest::Digest,
    id::ClassName,
    tenant::{Authority, TenantKey, TenantName},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How long a controller may take to serve, and a pool to fill.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The file of its documents, in a directory of its own.
const DOCUMENTS: &str = "documents.yaml";

/// A controller that will be started.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    documents: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    log_file: Option<PathBuf>,
}

/// A running controller.
pub struct Controller {
    heard: Heard,
    child: Child,
    directory: TempDir,
    /// The URL of each class, by class name.
    pub urls: BTreeMap<String, String>,
    /// The admin pages.
    pub admin: String,
    http: Http,
}

/// A class of fixture servers, and one user per name, each with the API key [`api_key`].
pub fn fixture_documents(
    class: &str,
    warm: u32,
    users: &[&str],
    class_fields: &str,
) -> anyhow::Result<Vec<String>> {
    server_documents("fixture-server", class, warm, users, class_fields)
}

/// The same with another of this workspace's MCP servers.
pub fn server_documents(
    program: &str,
    class: &str,
    warm: u32,
    users: &[&str],
    class_fields: &str,
) -> anyhow::Result<Vec<String>> {
    let server = binaries::path(program)?;
    let spoken_to = "server: { port: 8000, path: /mcp, readyPath: /healthz }";
    let fields = format!("  warm: {warm}\n{class_fields}");
    documents(class, &[&server.display().to_string()], spoken_to, users, &fields)
}

/// The same with a program that speaks on its standard streams, where it is called with `--stdio`.
pub fn stdio_documents(
    program: &str,
    class: &str,
    warm: u32,
    users: &[&str],
    class_fields: &str,
) -> anyhow::Result<Vec<String>> {
    let server = binaries::path(program)?;
    let fields = format!("  warm: {warm}\n{class_fields}");
    let command = [&*server.display().to_string(), "--stdio"];
    documents(class, &command, "transport: stdio", users, &fields)
}

fn documents(
    class: &str,
    command: &[&str],
    spoken_to: &str,
    users: &[&str],
    class_fields: &str,
) -> anyhow::Result<Vec<String>> {
    let (server, command) = (command[0], command.join(", "));
    let class_document = format!(
        "apiVersion: patchbay.dev/v1alpha1\nkind: WorkerClass\nmetadata: {{ name: {class} }}\nspec:\n  \
         path: /{class}\n  image: registry.example/fixture:1\n  command: [{command}]\n  {spoken_to}\n  local: \
         {{ readOnlyPaths: [{server}] }}\n{class_fields}"
    );
    let mut keys = String::new();
    for user in users {
        let digest = Digest::of(api_key(user).as_bytes());
        writeln!(keys, "    - {{ id: {user}, subject: {user}, digest: \"sha256:{digest}\" }}")?;
    }
    let provider = format!(
        "apiVersion: patchbay.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{ name: {class}-keys \
         }}\nspec:\n  classes: [{class}]\n  apiKeys:\n    keys:\n{keys}"
    );
    Ok(vec![class_document, provider])
}

/// The API key of a user of [`fixture_documents`].
pub fn api_key(user: &str) -> String {
    format!("pb_{user}_correct-horse-battery-staple-{user}")
}

/// The tenant that a user of [`fixture_documents`] is.
pub fn tenant_name(class: &str, user: &str) -> anyhow::Result<TenantName> {
    let key = TenantKey {
        issuer: format!("urn:patchbay:api-keys:{class}-keys"),
        subject: user.to_owned(),
        class: ClassName::parse(class)?,
        authority: Authority::unrestricted(),
    };
    Ok(key.name())
}

impl ControllerConfig {
    /// With these documents.
    pub const fn new(documents: Vec<String>) -> Self {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            documents,
            args: Vec::new(),
            env: Vec::new(),
            listen: free,
            admin_listen: free,
            log_file: None,
        }
    }

    /// On these addresses instead of free ports.
    #[must_use]
    pub const fn listen(mut self, listen: SocketAddr, admin_listen: SocketAddr) -> Self {
        self.listen = listen;
        self.admin_listen = admin_listen;
        self
    }

    /// With its log in this file too.
    #[must_use]
    pub fn log_file(mut self, path: PathBuf) -> Self {
        self.log_file = Some(path);
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// With a further variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, directory: &Path) -> anyhow::Result<Command> {
        let documents = directory.join(DOCUMENTS);
        std::fs::write(&documents, self.documents.join("\n---\n"))?;
        let mut command = Command::new(binaries::path("patchbay")?);
        command
            .arg("local")
            .args(["--listen", &self.listen.to_string()])
            .args(["--admin-listen", &self.admin_listen.to_string()])
            .arg("--file")
            .arg(documents)
            .arg("--run-dir")
            .arg(directory.join("run"))
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // a Ctrl-C at the terminal is for the one who started this, who then ends it
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts it and waits until every pool is filled.
    pub async fn start(&self) -> anyhow::Result<Controller> {
        let controller = self.start_unfilled().await?;
        controller.wait_ready().await?;
        Ok(controller)
    }

    /// Starts it and waits until it serves.
    pub async fn start_unfilled(&self) -> anyhow::Result<Controller> {
        let directory = tempfile::Builder::new().prefix("pb").tempdir()?;
        let mut child = self.command(directory.path())?.spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let heard = Heard::of("a controller");
        let (addresses, mut announced) = watch::channel(Announced::default());
        let file = self.log_file.as_ref().map(File::create).transpose()?;
        tokio::spawn(read_logs(stderr, heard.log().clone(), addresses, file));
        let seen = timeout(START_LIMIT, announced.wait_for(|seen| seen.admin.is_some())).await;
        let Ok(Ok(seen)) = seen.map(|seen| seen.map(|seen| seen.clone())) else {
            bail!("patchbay does not serve:\n{}", heard.log().text());
        };
        let (admin, http) = (seen.admin.context("no admin address")?, Http::default());
        Ok(Controller { heard, child, directory, urls: seen.urls, admin, http })
    }

    /// Runs it to its end, which a wrong configuration has, and returns what it said.
    pub async fn refusal(&self) -> anyhow::Result<String> {
        let directory = tempfile::Builder::new().prefix("pb").tempdir()?;
        let output = self.command(directory.path())?.output();
        let output = timeout(START_LIMIT, output).await.context("patchbay did not end")??;
        ensure!(!output.status.success(), "patchbay accepted the configuration");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[derive(Debug, Clone, Default)]
struct Announced {
    urls: BTreeMap<String, String>,
    admin: Option<String>,
}

async fn read_logs(
    stderr: ChildStderr,
    log: Log,
    announced: watch::Sender<Announced>,
    mut file: Option<File>,
) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
            match (text("message").as_deref(), text("class"), text("url")) {
                (Some("serving"), Some(class), Some(url)) => {
                    announced.send_modify(|seen| drop(seen.urls.insert(class, url)));
                }
                (Some("admin pages"), _, Some(url)) => {
                    announced.send_modify(|seen| seen.admin = Some(url));
                }
                _ => {}
            }
        }
        if let Some(file) = &mut file {
            // a log that cannot be written must not end the one that is being logged
            let _ = writeln!(file, "{line}");
        }
        log.add(&line);
    }
}

impl Controller {
    /// The URL of a class.
    pub fn url(&self, class: &str) -> &str {
        self.urls.get(class).map_or("", String::as_str)
    }

    /// The process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// All that it logged so far.
    pub fn logs(&self) -> String {
        self.heard.log().text()
    }

    /// The file of its documents.
    pub fn documents(&self) -> PathBuf {
        self.directory.path().join(DOCUMENTS)
    }

    /// Its run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// Waits until every pool is filled.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let url = format!("{}/readyz", self.admin);
        self.eventually("every pool is filled", async || {
            Ok(self.http.get(&url, &[]).await?.status.is_success())
        })
        .await
    }

    /// Waits until `is_so`, within the start limit; a failure shows the logs.
    pub async fn eventually(
        &self,
        what: &str,
        is_so: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            if is_so().await? {
                return Ok(());
            }
            // what is awaited is another process's state, which it only tells when asked
            sleep(Duration::from_millis(20)).await;
        }
        bail!("not so in time: {what}\n{}", self.logs())
    }

    /// The admin page's tenants.
    pub async fn tenants(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.http.get(&format!("{}/tenants", self.admin), &[]).await?;
        known::not_in_log("the page of tenants", &answer.text())?;
        answer.json()?.as_array().cloned().context("tenants are no list")
    }

    /// The worker that a user of [`fixture_documents`] has.
    pub async fn worker_of(&self, class: &str, user: &str) -> anyhow::Result<String> {
        let name = tenant_name(class, user)?;
        let tenants = self.tenants().await?;
        let tenant = tenants.iter().find(|tenant| tenant["tenant"] == name.as_str());
        let worker = tenant.and_then(|tenant| tenant["worker"].as_str());
        Ok(worker.with_context(|| format!("{user} has no worker: {tenants:?}"))?.to_owned())
    }

    /// The admin page's metrics.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let metrics = self.http.get(&format!("{}/metrics", self.admin), &[]).await?.text();
        known::not_in_log("the metrics", &metrics)?;
        Ok(metrics)
    }

    /// Ends it with SIGTERM and waits; returns whether it ended by itself, without an error.
    pub async fn terminate(&mut self) -> anyhow::Result<bool> {
        self.signal(rustix::process::Signal::TERM)?;
        let status = timeout(START_LIMIT, self.child.wait()).await.context("it did not end")??;
        Ok(status.success())
    }

    /// Ends it with SIGKILL and waits.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("it has ended")?;
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no pid")?, signal)?;
        Ok(())
    }
}
