//! A way that is open: its processes, and how a client takes it.

use super::{Endpoint, Era, Line, Pipe, Transport, Way};
use crate::{
    bench::{CLASS, server::Server},
    binaries,
    controller::{Controller, ControllerConfig, api_key, fixture_documents, stdio_documents},
    repository::{made_by, repository},
};
use anyhow::{Context, bail, ensure};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process_group},
};
use std::{
    fmt::{self, Display, Formatter},
    fs::{self, File},
    net::TcpListener,
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The MCP server of every way.
pub(super) const PROGRAM: &str = "fixture-server";
const USER: &str = "alice";
/// A Node program reads hundreds of files before it listens.
const START_LIMIT: Duration = Duration::from_mins(1);
/// In a program's home, what it says on standard error.
const COMPLAINTS: &str = "stderr";
/// What the programs are told that they listen on; `loopback.mjs` makes free ports of these.
const PORT: &str = "8001";
const API_PORT: &str = "8002";

/// A way that can be taken; its processes end when it is dropped.
pub(super) struct Running {
    pub(super) transport: Transport,
    pub(super) way: Way,
    held: Held,
    /// Behind a proxy; a bridge starts servers itself.
    _server: Option<Server>,
}

enum Held {
    Server(Server),
    /// A program to be started for each client.
    Program(PathBuf),
    Patchbay(Box<Controller>),
    Others(Program),
}

/// A proxy or a bridge.
struct Program {
    url: String,
    process: Child,
    home: TempDir,
    // a program that writes to a closed pipe would fail
    _stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Running {
    /// Starts what is needed, and waits until it serves.
    pub(super) async fn start(transport: Transport, way: Way) -> anyhow::Result<Self> {
        let server = match way {
            Way::Nginx | Way::ConfigurableHttpProxy => Some(Server::of(PROGRAM).await?),
            _ => None,
        };
        let behind = server.as_ref().map_or("", |server| server.url.trim_end_matches("/mcp"));
        let program = binaries::path(PROGRAM)?;
        let held = match (way, transport) {
            (Way::Direct, Transport::Http) => Held::Server(Server::of(PROGRAM).await?),
            (Way::Direct, Transport::Stdio) => Held::Program(program),
            (Way::Patchbay, _) => Held::Patchbay(Box::new(patchbay(transport).await?)),
            (Way::Nginx, _) => Held::Others(nginx(behind).await?),
            (Way::ConfigurableHttpProxy, _) => {
                let arguments =
                    ["--port", PORT, "--api-port", API_PORT, "--default-target", behind];
                Held::Others(node("configurable-http-proxy", &arguments).await?)
            }
            (Way::Supergateway, _) => {
                let command = format!("{} --stdio", program.display());
                let arguments = ["--stdio", &command, "--outputTransport", "streamableHttp"];
                let further = ["--stateful", "--logLevel", "none", "--port", PORT];
                Held::Others(node("supergateway", &[&arguments[..], &further].concat()).await?)
            }
            (Way::McpProxy, _) => {
                let program = program.display().to_string();
                let arguments = ["--server", "stream", "--port", PORT, "--", &program, "--stdio"];
                Held::Others(node("mcp-proxy", &arguments).await?)
            }
        };
        Ok(Self { transport, way, held, _server: server })
    }

    /// Where a client in this era finds it; none where the client starts the server itself.
    pub(super) fn endpoint(&self, era: Era) -> anyhow::Result<Option<Endpoint>> {
        let endpoint = match &self.held {
            Held::Program(_) => return Ok(None),
            Held::Server(server) => Endpoint::open(&server.url, era),
            Held::Patchbay(gateway) => Endpoint::with_key(gateway.url(CLASS), &api_key(USER), era),
            Held::Others(program) => Endpoint::open(&program.url, era),
        };
        endpoint.map(Some)
    }

    /// What is between client and server: its first process.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.held {
            Held::Program(_) | Held::Server(_) => None,
            Held::Patchbay(gateway) => gateway.pid(),
            Held::Others(program) => program.process.id(),
        }
    }

    /// Opens what a client in this era has open.
    pub(super) async fn line(&self, era: Era) -> anyhow::Result<Line> {
        match (&self.held, self.endpoint(era)?) {
            (Held::Program(program), _) => Ok(Line::Pipe(Pipe::to(program, era).await?)),
            (_, Some(endpoint)) => Ok(Line::Http(endpoint.connect().await?)),
            (_, None) => bail!("it has no endpoint"),
        }
    }

    /// Which it is, and what it complained of.
    pub(super) fn told(&self) -> String {
        let complaints = match &self.held {
            Held::Others(program) => complaints(&program.home),
            Held::Patchbay(gateway) => gateway.logs(),
            Held::Program(_) | Held::Server(_) => String::new(),
        };
        format!("{self}: {complaints}")
    }

    /// Ends it; a gateway that fails at its end fails here.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        if let Held::Patchbay(mut gateway) = self.held {
            ensure!(gateway.terminate().await?, "the gateway failed:\n{}", gateway.logs());
        }
        Ok(())
    }
}

impl Display for Running {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.transport, self.way)
    }
}

/// With one worker, of the one user.
async fn patchbay(transport: Transport) -> anyhow::Result<Controller> {
    let documents = match transport {
        Transport::Http => fixture_documents(CLASS, 0, &[USER], "")?,
        Transport::Stdio => stdio_documents(PROGRAM, CLASS, 0, &[USER], "")?,
    };
    ControllerConfig::new(documents).start().await
}

/// As a proxy of the server at this origin.
async fn nginx(behind: &str) -> anyhow::Result<Program> {
    let program = made_by("nginx", &[]).await?;
    let home = tempfile::tempdir()?;
    // it takes over a socket that listens, as a new release does from the one before it: there is no port to guess, and
    // what is sent before it is up waits
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // as one that it opened: each of its processes asks for connections, and all but one find none
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    fcntl_setfd(&listener, FdFlags::empty())?;
    let upstream = behind.trim_start_matches("http://");
    let configuration = format!(
        "daemon off; worker_processes auto; pid nginx.pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n  \
         upstream server {{ server {upstream}; keepalive 64; }}\n  \
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://server; proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n      \
         proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 1h;\n    }}\n  }}\n}}\n"
    );
    fs::write(home.path().join("nginx.conf"), configuration)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(home.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
    let command = command.env_clear().env("NGINX", format!("{};", listener.as_raw_fd()));
    let process = spawn(command, &home, Stdio::null())?;
    Ok(Program { url: format!("http://{address}/mcp"), process, home, _stdout: None })
}

/// One of `tests/node/bridges`.
async fn node(name: &str, arguments: &[&str]) -> anyhow::Result<Program> {
    let environment = made_by("node-env", &["bridges"]).await?;
    let home = tempfile::tempdir()?;
    let mut command = Command::new(environment.join("node"));
    command.arg("--import").arg(repository().join("tests/node/bridges/loopback.mjs"));
    command.arg(environment.join("node_modules/.bin").join(name)).args(arguments).env_clear();
    let mut process = spawn(&mut command, &home, Stdio::piped())?;
    let stdout = process.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let said = format!("port {PORT} is ");
    let port = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(port) = line.strip_prefix(&said) {
                return Ok(port.to_owned());
            }
        }
        bail!("{name} ended before it listened: {}", complaints(&home))
    };
    let port =
        timeout(START_LIMIT, port).await.with_context(|| format!("{name} does not start"))??;
    let url = format!("http://127.0.0.1:{port}/mcp");
    Ok(Program { url, process, home, _stdout: Some(lines) })
}

fn spawn(command: &mut Command, home: &TempDir, stdout: Stdio) -> anyhow::Result<Child> {
    let complaints = File::create(home.path().join(COMPLAINTS))?;
    let command = command.env("HOME", home.path()).current_dir(home.path());
    let command = command.stdin(Stdio::null()).stdout(stdout).stderr(complaints);
    Ok(command.process_group(0).kill_on_drop(true).spawn()?)
}

/// What a program said on standard error.
fn complaints(home: &TempDir) -> String {
    fs::read_to_string(home.path().join(COMPLAINTS)).unwrap_or_default()
}

impl Drop for Program {
    fn drop(&mut self) {
        // its children too, which it cannot end when it is killed; they have a group of their own
        let group = self.process.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(group) = group {
            // one that has ended is what is wanted
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
