//! The link between the host and a node: a pair of interfaces, one end on each, and the host's route to
//! everything of the cluster. It is all that a cluster makes in the host's network.

use super::{addresses::Addresses, process::Recorded};
use anyhow::{Context, bail, ensure};
use std::{fs, path::Path, process::Command};

/// Makes the link `name` to the node, in the first range that nothing else uses.
pub(super) fn make(name: &str, node: &Recorded) -> anyhow::Result<Addresses> {
    let table = fs::read_to_string("/proc/net/route")?;
    let free = Addresses::candidates().filter(|addresses| !addresses.is_in_use(&table));
    for addresses in free {
        let pid = node.pid().to_string();
        ip(&["link", "add", name, "type", "veth", "peer", "name", "uplink", "netns", &pid])?;
        ip(&["address", "add", &format!("{}/30", addresses.host()), "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        let via = addresses.node().to_string();
        match ip(&["route", "add", &addresses.all(), "via", &via, "dev", name]) {
            Ok(()) => return Ok(addresses),
            // another cluster took the range meanwhile
            Err(error) if error.to_string().contains("File exists") => remove(name)?,
            Err(error) => return Err(error),
        }
    }
    bail!("no free range of addresses between 10.200.0.0 and 10.231.0.0")
}

/// Removes the link, if it is there. The node's end and all routes go with it.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    let exists = || Path::new("/sys/class/net").join(name).exists();
    if !exists() {
        return Ok(());
    }
    match ip(&["link", "delete", name]) {
        // the kernel takes it away with the node, and may have done so just now
        Err(_) if !exists() => Ok(()),
        outcome => outcome,
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip: install the package iproute2")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), complaint.trim());
    Ok(())
}
