//! A network of a test's own, in which names lead where the test says and any port may be had, without any right on the
//! machine: the test runs itself again in it. Files, and what is started in there, are the machine's. It must not know who
//! listens in it.

use crate::{figures, repository::repository};
use anyhow::{Context, ensure};
use std::{
    env,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};
use tokio::process::Command;

/// Where the names lead: for documentation (RFC 5737), and as ordinary to whoever looks at addresses as that of a service.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Set in the network.
const MARK: &str = "PATCHBAY_TESTS_OWN_NETWORK";

/// Whether this is the network. If not, the test of this name of this program has run there, and passed.
///
/// # Errors
///
/// If it did not pass there, or no such network can be made.
pub async fn is_inside(test: &str, names: &[&str]) -> anyhow::Result<bool> {
    if env::var_os(MARK).is_some() {
        return Ok(true);
    }
    let mut hosts = tempfile::NamedTempFile::new()?;
    writeln!(hosts, "127.0.0.1 localhost\n{ADDRESS} {}", names.join(" "))?;
    let ran = Command::new("bwrap")
        .args(["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL", "--unshare-net"])
        .args(["--die-with-parent", "--dev-bind", "/", "/", "--ro-bind"])
        .arg(hosts.path())
        .args(["/etc/hosts", "--", "/usr/bin/python3"])
        .arg(repository().join("tests/python/one_more_address.py"))
        .arg(ADDRESS.to_string())
        .arg(env::current_exe()?)
        .args([test, "--exact", "--nocapture"])
        .env(MARK, "yes")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run bwrap")?;
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    ensure!(ran.status.success(), "in a network of its own: {}", said.join("\n"));
    // a name that no test has is no failure
    ensure!(said[0].contains("1 passed"), "{test} is no test of this program: {}", said[0]);
    figures::tell_again(&said[1]);
    Ok(false)
}

/// A port of [`ADDRESS`].
pub const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(ADDRESS), port)
}
