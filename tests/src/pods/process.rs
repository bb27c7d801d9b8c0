//! A running `patchbay operator`, on the host, with its log. It is ended by pid.

use super::{Authority, GatewayConfig, Mounted, Stage};
use crate::{
    binaries,
    evidence::Evidence as _,
    heard::{Heard, Log},
    http::{Answer, Http},
    known,
};
use anyhow::{Context, bail, ensure};
use patchbay_core::pin::Role;
use serde_json::Value;
use std::{io::Write as _, path::Path, process::Stdio, time::Duration};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

/// How long anything may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(2);
/// Its certificate for workers, and the key of it.
const FILES: [&str; 2] = ["tls.crt", "tls.key"];

/// The operator of a namespace, kept running as a Deployment keeps it: one that ends is followed by another.
pub struct KeptOperator<'a> {
    stage: &'a Stage,
    arguments: &'a [&'a str],
    current: OperatorProcess,
    /// What those before it said.
    past: Vec<String>,
}

impl<'a> KeptOperator<'a> {
    /// Starts the first one.
    pub fn start(stage: &'a Stage, arguments: &'a [&'a str]) -> anyhow::Result<Self> {
        let current = OperatorProcess::start_with(stage, &stage.authority, arguments)?;
        Ok(Self { stage, arguments, current, past: Vec::new() })
    }

    /// Does `work` while there is an operator.
    pub async fn during<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.with_logs(|| self.text()),
                ended = self.current.child.wait() => {
                    let said = self.current.text();
                    println!("an operator ended: {}: {}", ended?, said.lines().last().unwrap_or(""));
                    self.past.push(said);
                }
            }
            let (stage, arguments) = (self.stage, self.arguments);
            self.current = OperatorProcess::start_with(stage, &stage.authority, arguments)?;
        }
    }

    /// All that they said.
    fn text(&self) -> String {
        format!("{}{}", self.past.join("\n"), self.current.text())
    }

    /// Ends it in order.
    pub async fn terminate(self) -> anyhow::Result<()> {
        self.current.terminate().await
    }
}

/// A running operator.
pub struct OperatorProcess {
    heard: Heard,
    child: Child,
    log: watch::Receiver<Vec<Value>>,
    /// Its certificate for workers, where it does not make one itself.
    link: Option<Mounted>,
    /// The kubeconfig that was made for it alone.
    kubeconfig: Option<NamedTempFile>,
}

impl OperatorProcess {
    /// Starts the operator of this namespace.
    pub fn start(stage: &Stage) -> anyhow::Result<Self> {
        Self::start_with(stage, &stage.authority, &[])
    }

    /// The same, with a certificate of this authority and further arguments.
    pub fn start_with(
        stage: &Stage,
        authority: &Authority,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = command(stage)?;
        command.args(arguments);
        Self::certified(command, &authority.files(Role::Operator)?)
    }

    /// The same, with this certificate and its key, as the texts of two files.
    pub fn start_certified(stage: &Stage, certificate: &(String, String)) -> anyhow::Result<Self> {
        Self::certified(command(stage)?, certificate)
    }

    /// Starts one for a namespace of no cluster: it says what it would watch there, and never leads.
    pub fn start_nowhere(namespace: &str) -> anyhow::Result<Self> {
        let mut kubeconfig = tempfile::NamedTempFile::new()?;
        let config = GatewayConfig::nowhere(namespace)?.kubeconfig();
        kubeconfig.write_all(config.to_string().as_bytes())?;
        let mut command = command_in(namespace, "worker:1", kubeconfig.path())?;
        command.args(["--cluster-range", "10.0.0.0/8"]);
        let mut started = Self::certified(command, &Authority::new()?.files(Role::Operator)?)?;
        started.kubeconfig = Some(kubeconfig);
        Ok(started)
    }

    /// Starts it with another kubeconfig.
    pub fn start_by_way_of(stage: &Stage, kubeconfig: &Path) -> anyhow::Result<Self> {
        let mut command = command(stage)?;
        command.env("KUBECONFIG", kubeconfig);
        Self::certified(command, &stage.authority.files(Role::Operator)?)
    }

    fn certified(mut command: Command, certificate: &(String, String)) -> anyhow::Result<Self> {
        let link = Mounted::with(&files(certificate))?;
        let [certificate, key] = FILES.map(|name| link.file(name));
        command.arg("--link-cert").arg(certificate).arg("--link-key").arg(key);
        Self::spawn(command, Some(link))
    }

    /// Starts one that keeps the control plane's authority itself, and the root keys of sessions, in these Secrets.
    pub fn start_keeping(
        stage: &Stage,
        roots: &str,
        gateway: &str,
        sessions: &str,
    ) -> anyhow::Result<Self> {
        let mut command = command(stage)?;
        command.args(["--ca-secret", roots, "--gateway-link-secret", gateway]);
        command.args(["--session-secret", sessions]);
        Self::spawn(command, None)
    }

    fn spawn(mut command: Command, link: Option<Mounted>) -> anyhow::Result<Self> {
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (lines, log) = watch::channel(Vec::new());
        let heard = Heard::of("an operator");
        tokio::spawn(read(stderr, heard.log().clone(), lines));
        Ok(Self { heard, child, log, link, kubeconfig: None })
    }

    /// Puts another certificate for workers, and its key, where it looks.
    ///
    /// # Errors
    ///
    /// If it makes its own.
    pub fn exchange_certificate(&self, certificate: &(String, String)) -> anyhow::Result<()> {
        let link = self.link.as_ref().context("it makes its own certificate")?;
        Ok(link.exchange(&files(certificate))?)
    }

    /// Waits until it leads.
    pub async fn leads(&self) -> anyhow::Result<()> {
        self.logged("leads", |line| line["message"] == "leads").await
    }

    /// Waits for a line of its log.
    pub async fn logged(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let mut log = self.log.clone();
        let seen = timeout(LIMIT, log.wait_for(|lines| lines.iter().any(&is_it))).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => bail!("it ended before it said: {what}\n{}", self.text()),
            Err(_) => bail!("it did not say in time: {what}\n{}", self.text()),
        }
    }

    /// Whether it has said such a line.
    pub fn has_logged(&self, is_it: impl Fn(&Value) -> bool) -> bool {
        self.log.borrow().iter().any(is_it)
    }

    /// All that it said.
    pub fn text(&self) -> String {
        self.heard.log().text()
    }

    /// The pages for probes and metrics.
    pub async fn page(&self, path: &str) -> anyhow::Result<Answer> {
        self.logged("admin pages", |line| line["message"] == "admin pages").await?;
        let log = self.log.borrow().clone();
        let line = log.iter().find(|line| line["message"] == "admin pages");
        let address = line.and_then(|line| line["address"].as_str()).context("no address")?;
        let answer = Http::default().get(&format!("http://{address}{path}"), &[]).await?;
        known::not_in_log("a page of an operator", &answer.text())?;
        Ok(answer)
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it with SIGTERM, and waits until it has ended without an error.
    pub async fn terminate(mut self) -> anyhow::Result<()> {
        let pid =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).context("it has ended")?;
        let pid = rustix::process::Pid::from_raw(pid).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = timeout(LIMIT, self.child.wait()).await.context("it did not end")??;
        ensure!(status.success(), "{status}\n{}", self.text());
        Ok(())
    }

    /// Ends it with SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits until it ends by itself; whether without an error.
    pub async fn ended(&mut self) -> anyhow::Result<bool> {
        let status = timeout(LIMIT, self.child.wait()).await.context("it did not end")??;
        // its last words may still be on their way
        let mut log = self.log.clone();
        let all = async { while log.changed().await.is_ok() {} };
        timeout(LIMIT, all).await.context("its log does not end")?;
        Ok(status.success())
    }
}

/// A certificate and its key, as the files that an operator mounts.
fn files((certificate, key): &(String, String)) -> [(&str, &str); 2] {
    let [certificate_file, key_file] = FILES;
    [(certificate_file, certificate), (key_file, key)]
}

fn command(stage: &Stage) -> anyhow::Result<Command> {
    let place = &stage.place;
    let kubeconfig = place.cluster.kubeconfig();
    let mut command = command_in(&place.name, &stage.images.worker, &kubeconfig)?;
    for range in &stage.settings().cluster_ranges {
        command.args(["--cluster-range", &range.to_string()]);
    }
    Ok(command)
}

fn command_in(namespace: &str, worker_image: &str, kubeconfig: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(binaries::path("patchbay")?);
    command
        .arg("operator")
        .args(["--namespace", namespace])
        .args(["--worker-image", worker_image])
        .args(["--admin-listen", "127.0.0.1:0"])
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

async fn read(stderr: ChildStderr, heard: Log, log: watch::Sender<Vec<Value>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        heard.add(&line);
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        log.send_modify(|lines| lines.push(line));
    }
}
