//! A moto server with IAM enforcement: the AWS of the suites and of the demo. It turns the locked
//! Python environments into a running server and a [`World`]; it must not know what a catalog is.

use crate::{
    catalog::world::World,
    known,
    repository::{made_by, repository},
};
use anyhow::{Context, bail, ensure};
use secrecy::ExposeSecret as _;
use std::{net::Ipv4Addr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Python imports most of moto before it listens; a loaded machine takes its time over that.
const START_CAP: Duration = Duration::from_mins(2);

/// Not 127.0.0.1: `NO_PROXY` lists of clients often name that one, and a worker must take its
/// proxy.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A running moto server; it ends when dropped.
#[derive(Debug)]
pub struct Moto {
    endpoint: String,
    _process: Child,
}

impl Moto {
    /// Starts a server on a free port of [`ADDRESS`] and waits until it listens.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(ADDRESS).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(address: Ipv4Addr) -> anyhow::Result<Self> {
        let environment = python_environment("moto").await?;
        let mut process = Command::new(environment.join("bin/moto_server"))
            .args(["-H", &address.to_string(), "-p", "0"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start moto")?;
        let stderr = process.stderr.take().context("standard error is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, url)) = line.split_once("Running on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            bail!("moto ended before it listened")
        };
        let endpoint = timeout(START_CAP, ready).await.context("moto does not start")??;
        // It logs every request: somebody has to read that, or it stops when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { endpoint, _process: process })
    }

    /// Where it listens: scheme, address and port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes users, buckets, packages and roles (`tests/python/moto_setup.py`), then switches IAM
    /// on. Once per server; the first user administers the catalog.
    pub async fn set_up(&self, users: &[&str]) -> anyhow::Result<World> {
        let environment = python_environment("quilt").await?;
        let output = Command::new(environment.join("bin/python"))
            .arg(repository().join("tests/python/moto_setup.py"))
            .arg(&self.endpoint)
            .args(users)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "moto_setup.py failed: {complaint}");
        let world: World =
            serde_json::from_slice(&output.stdout).context("moto_setup.py described no world")?;
        let key = world.registry_key.secret_access_key.expose_secret();
        known::hold("the registry's key of AWS", key);
        Ok(world)
    }
}

/// The virtual environment of one lock, made at its first use.
pub async fn python_environment(name: &str) -> anyhow::Result<PathBuf> {
    made_by("python-env", &[name]).await
}
