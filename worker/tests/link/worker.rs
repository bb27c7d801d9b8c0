//! A worker of two processes: an agent that inherits its listening socket and reads its boot
//! document from a file, and a host that reads it from a descriptor.

use crate::{
    client::{self, Authority, BEARER, Client, Credential},
    hidden,
    mcp_server::{PORT, PROXY_PORT, Witness},
    within,
};
use patchbay_core::{
    boot::{AgentBoot, HostBoot, Listen, RelayBoot, Report, ReportLine, Roots},
    class::{Profile, Start, TenantLimits, Transport},
    id::ClassName,
    link::Farewell,
    pin::{Fingerprint, Role},
    quilt::PlacedFile,
    template::Templates,
    tools::ToolPolicy,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::UnixStream,
    process::{Child, ChildStdout, Command},
};

use tokio_rustls::client::TlsStream;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_patchbay-worker");

/// What differs between tests.
pub(crate) struct Options {
    pub(crate) command: Vec<String>,
    pub(crate) idle_timeout_seconds: u64,
    pub(crate) drain_seconds: u64,
    pub(crate) start_seconds: u64,
    pub(crate) profile: Profile,
    pub(crate) start: Start,
    pub(crate) templates: Templates,
    pub(crate) relay: RelayBoot,
    pub(crate) tools: Option<ToolPolicy>,
    pub(crate) limits: TenantLimits,
    pub(crate) files: Vec<PlacedFile>,
    pub(crate) token: Option<PathBuf>,
    pub(crate) agent_leaves_seconds: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let this = std::env::current_exe().unwrap();
        let arguments = ["--exact", "mcp_server::mcp_server", "--ignored", "--nocapture"];
        Self {
            command: std::iter::once(this.to_str().unwrap())
                .chain(arguments)
                .map(str::to_owned)
                .collect(),
            idle_timeout_seconds: 600,
            drain_seconds: 20,
            start_seconds: 30,
            profile: Profile::Generic,
            start: Start::Warm,
            templates: Templates::default(),
            relay: RelayBoot::default(),
            tools: None,
            limits: TenantLimits::default(),
            files: Vec::new(),
            token: None,
            agent_leaves_seconds: None,
        }
    }
}

/// A running worker. Dropping it kills the agent, and with it goes the rest.
pub(crate) struct Worker {
    pub(crate) agent: Child,
    pub(crate) host: Child,
    pub(crate) authority: Authority,
    pub(crate) witness: Witness,
    pub(crate) proxy_port: u16,
    home: PathBuf,
    fingerprint: Fingerprint,
    reports: Lines<BufReader<ChildStdout>>,
    directory: tempfile::TempDir,
}

impl Worker {
    /// A worker that waits for its first bind.
    pub(crate) async fn ready(options: Options) -> Self {
        let mut worker = Self::start(options).await;
        assert_eq!(worker.report().await, ReportLine::Ready, "{}", worker.logs());
        worker
    }

    /// A worker whose agent listens.
    pub(crate) async fn start(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let home = path("home");
        fs::create_dir(&home).unwrap();
        let authority = Authority::new();
        let (port, proxy_port) = (free_port(), free_port());
        let transport =
            Transport::Http { port, path: "/mcp".into(), ready_path: Some("/test/ready".into()) };
        let host = HostBoot {
            command: options.command,
            start: options.start,
            env: BTreeMap::from([
                (PORT.into(), port.to_string()),
                (PROXY_PORT.into(), proxy_port.to_string()),
                ("HOME".into(), home.to_str().unwrap().into()),
            ]),
            files: options.files,
            workdir: "/".into(),
            server: Listen::Path(path("server")),
            control: path("control"),
            transport: transport.clone(),
            proxy_port,
            agent_leaves_seconds: options.agent_leaves_seconds,
        };
        let agent = AgentBoot {
            class: ClassName::parse("test").unwrap(),
            link: Listen::Fd(0),
            control: Listen::Path(path("control")),
            server: path("server"),
            report: Report::Fd(1),
            token: options.token,
            roots: Roots::Pem(authority.pem()),
            transport,
            profile: options.profile,
            start: options.start,
            templates: options.templates,
            home: home.clone(),
            relay: options.relay,
            tools: options.tools,
            limits: options.limits,
            idle_timeout_seconds: options.idle_timeout_seconds,
            max_age_seconds: None,
            drain_seconds: options.drain_seconds,
            start_seconds: options.start_seconds,
        };
        let host = spawn_host(&host, directory.path()).await;
        let mut agent = spawn_agent(&agent, directory.path());
        let mut reports = BufReader::new(agent.stdout.take().unwrap()).lines();
        let ReportLine::Enrolled(fingerprint) = next_report(&mut reports).await else {
            panic!("an agent's first words are its key");
        };
        let witness = Witness { port };
        Self { agent, host, authority, witness, proxy_port, home, fingerprint, reports, directory }
    }

    /// The MCP server's HOME.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// A connection with this role.
    pub(crate) async fn connect(&self, role: Role) -> Client {
        let credential = self.authority.credential(role);
        Client::new(self.tls(Some(credential)).await).await
    }

    /// A connection with this credential, which the worker may yet refuse.
    pub(crate) async fn tls(&self, credential: Option<Credential>) -> TlsStream<UnixStream> {
        let link = self.directory.path().join("link");
        within(client::tls(&link, self.fingerprint, credential)).await
    }

    /// A gateway's connection, with tenant `t1` bound.
    pub(crate) async fn bound(&self) -> Client {
        let gateway = self.connect(Role::Gateway).await;
        let (status, answer) = gateway.bind("t1", 1).await;
        assert_eq!(status, 200, "{answer}");
        gateway
    }

    /// What the agent says next, but that it was bound: the tests do that themselves.
    pub(crate) async fn report(&mut self) -> ReportLine {
        loop {
            match next_report(&mut self.reports).await {
                ReportLine::Bound => {}
                other => return other,
            }
        }
    }

    /// Whether the agent says next that it was bound.
    pub(crate) async fn says_that_it_is_bound(&mut self) -> bool {
        next_report(&mut self.reports).await == ReportLine::Bound
    }

    /// The agent's last words.
    pub(crate) async fn left(mut self) -> Farewell {
        let ReportLine::Farewell(farewell) = self.report().await else {
            panic!("the agent said something else than its farewell");
        };
        farewell
    }

    /// The agent's last words and how both processes ended; nothing of the grant is in their logs.
    pub(crate) async fn ended(mut self) -> (Farewell, ExitStatus, ExitStatus) {
        let said = self.report().await;
        let ReportLine::Farewell(farewell) = said else {
            panic!("the agent said {said:?} and not its farewell");
        };
        let agent = within(self.agent.wait()).await.unwrap();
        let host = within(self.host.wait()).await.unwrap();
        let logs = self.logs();
        assert!(logs.contains("serving on port") || !agent.success(), "{logs}");
        hidden(&logs, &[BEARER]);
        (farewell, agent, host)
    }

    /// Returns once a part has logged this.
    pub(crate) async fn logged(&self, words: &str) {
        let logged = async {
            while !self.logs().contains(words) {
                // a file tells nobody that it has grown
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(logged).await;
    }

    pub(crate) fn logs(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap();
        format!("{}{}", read("agent.log"), read("host.log"))
    }
}

async fn next_report(reports: &mut Lines<BufReader<ChildStdout>>) -> ReportLine {
    let line = within(reports.next_line()).await.unwrap().expect("the agent said something");
    serde_json::from_str(&line).unwrap()
}

async fn spawn_host(boot: &HostBoot, directory: &Path) -> Child {
    let mut host = Command::new(PROGRAM)
        .args(["host", "--boot-fd", "0"])
        .stdin(Stdio::piped())
        .stderr(File::create(directory.join("host.log")).unwrap())
        .spawn()
        .unwrap();
    let mut stdin = host.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(boot).unwrap()).await.unwrap();
    host
}

fn spawn_agent(boot: &AgentBoot, directory: &Path) -> Child {
    let boot_file = directory.join("agent.json");
    fs::write(&boot_file, serde_json::to_vec(boot).unwrap()).unwrap();
    let link = UnixListener::bind(directory.join("link")).unwrap();
    Command::new(PROGRAM)
        .args(["agent".as_ref(), "--boot-file".as_ref(), boot_file.as_os_str()])
        .stdin(OwnedFd::from(link))
        .stdout(Stdio::piped())
        .stderr(File::create(directory.join("agent.log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A port below those that the kernel gives to whoever asks for any: between this look and the
/// moment when it is listened on, no other connection of this machine is given it.
fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // every run begins elsewhere, so that two at once do not meet
    let start = std::process::id().wrapping_mul(97);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
