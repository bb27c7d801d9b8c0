//! One life of one worker: its sockets, its two sandboxes, its first and last words.
//!
//! It turns a class into a worker that the ledger knows, and the worker's end into a ledger that no
//! longer does. Enrolment is local: the fingerprint comes over a pipe that only the agent inherited. This
//! module must not know tenants: a worker is anonymous until a gateway binds it.

use super::{
    Shared,
    launch::{
        AgentDescriptors, HostDescriptors, Sockets, agent_boot, agent_sandbox, host_boot,
        host_sandbox,
    },
    lives::Life,
    sandbox::{Ended, Exit, LaunchError, Output, Sandbox, lines::Lines},
};
use patchbay_core::{
    boot::ReportLine,
    chain::Chain,
    class::WorkerClass,
    id::{ClassName, Incarnation, InvalidName, WorkerId},
    launch::{Configuration, configuration},
    link::{Farewell, LeaveReason},
    orchestrator::{Endpoint, Offer},
    pin::Fingerprint,
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::Signal,
};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{io::BufReader, net::unix::pipe, time::timeout};
use tracing::Instrument;

/// How long the second sandbox of a worker may take to end after the first: the agent drains meanwhile.
const SETTLE_MARGIN: Duration = Duration::from_secs(5);
/// How long one whose tenant is shut out or deleted may take for its last words, and then its sandboxes to end: five seconds
/// are promised, and somebody must have noticed first (DESIGN.md, invariant 8).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a worker never lived.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot make its sockets and descriptors")]
    Io(#[from] io::Error),
    #[error("cannot start its {0}")]
    Launch(&'static str, #[source] LaunchError),
    #[error("its generated name is not valid")]
    Name(#[from] InvalidName),
}

/// How a life ended.
enum Outcome {
    /// It had become ready.
    Lived,
    /// It had become ready, and its server ended before anybody had it.
    EndedEarly(String),
    /// It had not.
    Failed(String),
    /// The orchestrator is ending.
    ShutDown,
}

/// Lives one life of a worker of `class`.
pub(super) async fn live(shared: Arc<Shared>, class: Arc<WorkerClass>) {
    let id: String = uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect();
    let span = tracing::info_span!("worker", class = %class.name, worker = format!("w-{id}"));
    async {
        let outcome = match start(&shared, &class, &id).await {
            Ok(running) => running.run(&shared, &class.name).await,
            Err(error) => Outcome::Failed(Chain(&error).to_string()),
        };
        match outcome {
            Outcome::Lived | Outcome::ShutDown => {}
            Outcome::EndedEarly(why) => {
                tracing::error!(why, "a worker ended before anybody had it");
                shared.worker_ended_early(&class.name, why);
            }
            Outcome::Failed(why) => {
                tracing::error!(why, "a worker did not become ready");
                shared.worker_failed(&class.name, why);
            }
        }
    }
    .instrument(span)
    .await;
}

/// A worker whose sandboxes run.
struct Running {
    worker: WorkerId,
    incarnation: Incarnation,
    agent: Sandbox,
    host: Sandbox,
    report: Output,
    directory: Directory,
    drain: Duration,
    life: Life,
}

async fn start(shared: &Shared, class: &WorkerClass, id: &str) -> Result<Running, StartError> {
    let worker = WorkerId::parse(format!("w-{id}"))?;
    let directory = Directory::create(shared.run_dir.path().join(worker.as_str()))?;
    let sockets = Sockets::inside(&directory.0);
    let listen = |path: &Path| UnixListener::bind(path).map(OwnedFd::from);
    let (link, control, server) =
        (listen(&sockets.link)?, listen(&sockets.control)?, listen(&sockets.server)?);
    let (report, words) = io::pipe()?;
    let words = OwnedFd::from(words);
    let agent = AgentDescriptors {
        boot: document(&agent_boot(class, &shared.config.roots, &link, &control, &words))?,
        link,
        control,
        report: words,
    };
    let host = HostDescriptors { boot: document(&host_boot(class, &server))?, server };
    let program = &shared.config.worker_program;
    let egress = shared.egress_socket(&class.name);
    let configuration = configuration_file(class, &directory.0)?;
    let agent = agent_sandbox(worker.as_str(), program, &sockets, &egress, agent);
    let host = host_sandbox(worker.as_str(), program, &sockets, class, configuration, host);
    let launcher = &shared.launcher;
    let agent = launcher.start(agent).await.map_err(|error| StartError::Launch("agent", error))?;
    let host = launcher.start(host).await.map_err(|error| StartError::Launch("host", error))?;
    let incarnation = Incarnation::from(uuid::Uuid::new_v4());
    Ok(Running {
        life: shared.lives.begin(incarnation.clone()),
        incarnation,
        worker,
        agent,
        host,
        report: Lines::new(BufReader::new(pipe::Receiver::from_owned_fd(report.into())?)),
        directory,
        drain: class.drain,
    })
}

impl Running {
    /// Follows the worker from its first word to the end of both sandboxes.
    async fn run(mut self, shared: &Shared, class: &ClassName) -> Outcome {
        let logs = [self.agent.take_stderr(), self.host.take_stderr()];
        for (part, output) in ["agent", "server"].into_iter().zip(logs) {
            if let Some(output) = output {
                tokio::spawn(pass_on(part, output).in_current_span());
            }
        }
        let mut words = Words::default();
        let offer = |fingerprint| Offer {
            worker: self.worker.clone(),
            incarnation: self.incarnation.clone(),
            endpoint: Endpoint::Unix(Sockets::inside(&self.directory.0).link),
            fingerprint,
        };
        let incarnation = self.incarnation.clone();
        let mut overdue = std::pin::pin!(async {
            shared.taken(&incarnation).await;
            tokio::time::sleep(shared.config.bind_limit).await;
        });
        let first_end = loop {
            tokio::select! {
                () = &mut overdue, if !words.was_bound => {
                    tracing::warn!("a tenant was given this worker, and nobody bound it");
                    shared.worker_gone(&self.incarnation);
                    end(&mut self.agent, &mut self.host, Duration::ZERO).await;
                    return Outcome::Lived;
                }
                line = self.report.next() => match line {
                    Ok(Some(line)) => {
                        if words.hear(&line.text) == Some(Heard::Ready)
                            && let Some(fingerprint) = words.fingerprint
                        {
                            tracing::debug!("ready");
                            shared.worker_ready(class, offer(fingerprint));
                            words.was_ready = true;
                        }
                    }
                    // its last word was said, or it is gone: the sandbox's end follows
                    Ok(None) | Err(_) => break None,
                },
                ended = self.agent.wait() => break Some(("agent", ended)),
                ended = self.host.wait() => break Some(("server", ended)),
                () = self.life.over.cancelled() => break None,
                () = shared.shutdown.cancelled() => {
                    end(&mut self.agent, &mut self.host, Duration::ZERO).await;
                    return Outcome::ShutDown;
                }
            }
        };
        // nobody's: it was not reported gone before, so the ledger still knew whose it was
        let was_anonymous = words.was_ready && {
            let known = shared.ledger.lock().contains(&self.incarnation);
            let tenant = shared.worker_gone(&self.incarnation);
            known && tenant.is_none()
        };
        let (over, patience) = (self.life.over.clone(), self.drain + SETTLE_MARGIN);
        let is_dismissed = tokio::select! {
            heard = timeout(patience, self.hear_out(&mut words)) => {
                if heard.is_err() {
                    tracing::warn!("the agent did not end in time");
                }
                false
            }
            () = over.cancelled() => true,
        };
        let settle = if is_dismissed { self.dismiss(&mut words).await } else { SETTLE_MARGIN };
        let ends = end(&mut self.agent, &mut self.host, settle).await;
        let first = first_end.map(|(part, _)| part);
        words.outcome(shared, &self.incarnation, was_anonymous, first, ends)
    }
}

impl Running {
    /// What the agent still says while it drains, to its end.
    async fn hear_out(&mut self, words: &mut Words) {
        while let Ok(Some(line)) = self.report.next().await {
            words.hear(&line.text);
        }
    }

    /// Its tenant is shut out or was deleted: it is asked to leave, then to cut what is in flight. How long the sandboxes may
    /// take then to end by themselves.
    async fn dismiss(&mut self, words: &mut Words) -> Duration {
        for _ in 0..2 {
            if let Err(error) = self.agent.signal(Signal::TERM) {
                tracing::debug!(%error, "the agent had ended already");
            }
            if timeout(LAST_WORDS, self.hear_out(words)).await.is_ok() {
                break;
            }
        }
        LAST_WORDS
    }
}

/// What a worker has said of itself.
#[derive(Debug, Default)]
struct Words {
    fingerprint: Option<Fingerprint>,
    was_ready: bool,
    was_bound: bool,
    farewell: Option<Farewell>,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Enrolled,
    Ready,
    Bound,
    Farewell,
}

impl Words {
    fn hear(&mut self, line: &str) -> Option<Heard> {
        match serde_json::from_str(line) {
            // once per life: a second key would be another worker's
            Ok(ReportLine::Enrolled(fingerprint)) => {
                self.fingerprint.get_or_insert(fingerprint);
                Some(Heard::Enrolled)
            }
            Ok(ReportLine::Ready) => Some(Heard::Ready),
            Ok(ReportLine::Bound) => {
                self.was_bound = true;
                Some(Heard::Bound)
            }
            Ok(ReportLine::Farewell(farewell)) => {
                self.farewell = Some(farewell);
                Some(Heard::Farewell)
            }
            Err(error) => {
                tracing::warn!(%error, "a worker reported in no form that is known");
                None
            }
        }
    }

    fn outcome(
        self,
        shared: &Shared,
        incarnation: &Incarnation,
        was_anonymous: bool,
        first: Option<&'static str>,
        ends: [Option<Exit>; 2],
    ) -> Outcome {
        let oom = ends.iter().flatten().any(|exit| exit.is_oom_killed);
        let detail = describe(first, ends, oom);
        let mut farewell = self.farewell.unwrap_or(Farewell {
            tenant: None,
            reason: LeaveReason::ServerExited,
            last_activity: None,
            detail: None,
        });
        if oom {
            farewell.detail = Some("the MCP server was killed at its memory limit".into());
        }
        if self.was_ready {
            tracing::info!(reason = ?farewell.reason, detail = detail.as_str(), "a worker has ended");
            let ended_by_itself = farewell.reason == LeaveReason::ServerExited;
            shared.record_farewell(incarnation, farewell);
            return if was_anonymous && ended_by_itself {
                Outcome::EndedEarly(detail)
            } else {
                Outcome::Lived
            };
        }
        let said = farewell.detail.map(|said| format!(" ({said})")).unwrap_or_default();
        Outcome::Failed(format!("{:?}{said}; {detail}", farewell.reason))
    }
}

fn describe(first: Option<&'static str>, ends: [Option<Exit>; 2], oom: bool) -> String {
    let [agent, host] = ends.map(|exit| match exit.map(|exit| exit.ended) {
        Some(Ended::Exited(code)) => format!("exited with {code}"),
        Some(Ended::Killed) => "was killed".to_owned(),
        Some(Ended::NeverStarted) => "never started".to_owned(),
        None => "could not be observed".to_owned(),
    });
    let first = first.map(|first| format!("the {first} ended first; ")).unwrap_or_default();
    let memory = if oom { "; at the memory limit" } else { "" };
    format!("{first}agent {agent}, server {host}{memory}")
}

/// Gives both sandboxes `patience` to end by themselves, then kills them, and waits until nothing is
/// left of them.
async fn end(agent: &mut Sandbox, host: &mut Sandbox, patience: Duration) -> [Option<Exit>; 2] {
    let both = async { futures_util::future::join(agent.wait(), host.wait()).await };
    if let Ok((agent, host)) = timeout(patience, both).await {
        return [seen(agent), seen(host)];
    }
    for sandbox in [&*agent, &*host] {
        if let Err(error) = sandbox.kill() {
            tracing::debug!(%error, sandbox = sandbox.name(), "had ended already");
        }
    }
    let (agent, host) = futures_util::future::join(agent.wait(), host.wait()).await;
    [seen(agent), seen(host)]
}

fn seen<E: std::error::Error>(exit: Result<Exit, E>) -> Option<Exit> {
    exit.inspect_err(|error| tracing::warn!(%error, "a sandbox's end could not be observed")).ok()
}

/// What a sandbox writes goes to this process's log, marked with its part.
async fn pass_on(part: &'static str, mut output: Output) {
    while let Ok(Some(line)) = output.next().await {
        if let Ok(said) = serde_json::from_str::<LogLine>(&line.text) {
            said.log(part);
        } else {
            // not the worker's program: bubblewrap, or a panic
            tracing::warn!(part, line = line.text, "worker output");
        }
    }
}

/// A line of the worker's own log, which is JSON: it becomes a line of this one.
#[derive(Debug, serde::Deserialize)]
struct LogLine {
    level: String,
    target: String,
    fields: serde_json::Map<String, serde_json::Value>,
}

impl LogLine {
    fn log(mut self, part: &'static str) {
        let message = self.fields.remove("message").unwrap_or_default();
        let message = message.as_str().unwrap_or_default();
        let fields = serde_json::Value::Object(self.fields);
        let target = self.target;
        match self.level.as_str() {
            "ERROR" => tracing::error!(part, from = target, %fields, "{message}"),
            "WARN" => tracing::warn!(part, from = target, %fields, "{message}"),
            "INFO" => tracing::info!(part, from = target, %fields, "{message}"),
            _ => tracing::debug!(part, from = target, %fields, "{message}"),
        }
    }
}

/// A boot document in memory, which the sandboxed program inherits and reads to its end.
fn document(boot: &impl Serialize) -> io::Result<OwnedFd> {
    let memory = memfd_create("boot", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    serde_json::to_writer(&mut file, boot)?;
    file.flush()?;
    file.rewind()?;
    Ok(file.into())
}

/// Writes the profile's configuration of a class, where it has one, into a worker's own directory: where
/// it is, and where the MCP server finds it.
fn configuration_file(
    class: &WorkerClass,
    directory: &Path,
) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let Some(Configuration { path: inside, text }) = configuration(class) else {
        return Ok(None);
    };
    let path = directory.join("config");
    std::fs::write(&path, text)?;
    // the sandbox's user is another than this one, where this one is not root
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
    Ok(Some((path, inside)))
}

/// A worker's own directory, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn create(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "a worker's directory was gone");
        }
    }
}
