//! What the kernel says that processes hold and have used, by `/proc`.

use crate::processes::{self, Process};
use anyhow::{Context, bail};
use std::{fs, ops::Add, path::Path, time::Duration};

/// `USER_HZ`, in which `/proc/<pid>/stat` counts: 100 on every architecture that Patchbay runs on,
/// whatever the kernel's own tick.
const TICKS_PER_SECOND: u32 = 100;

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All resident pages (`VmRSS`), among them those of the program's file, which others may
    /// share.
    pub resident: u64,
    /// The resident pages that are its own alone (`RssAnon`).
    pub anonymous: u64,
}

impl Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            anonymous: self.anonymous + other.anonymous,
        }
    }
}

/// The two processes of a worker beside its MCP server.
#[derive(Debug, Clone, Copy)]
pub struct WorkerProcesses {
    /// The agent's pid.
    pub agent: u32,
    /// The host's pid.
    pub host: u32,
}

impl WorkerProcesses {
    /// The processes of the one worker that a gateway has; more or less than one is an error.
    pub fn of_only_worker(gateway: u32) -> anyhow::Result<Self> {
        let children = processes::descendants(gateway);
        Ok(Self { agent: only(&children, "agent")?, host: only(&children, "host")? })
    }
}

fn only(children: &[Process], part: &str) -> anyhow::Result<u32> {
    let mut found = children.iter().filter(|process| is_part(process, part));
    match (found.next(), found.next()) {
        (Some(process), None) => Ok(process.pid),
        (None, _) => bail!("no {part} among {children:?}"),
        (Some(_), Some(_)) => bail!("more than one {part} among {children:?}"),
    }
}

/// Whether this is the worker program in that part. What sets up a sandbox has the same words among
/// its arguments, but runs another program.
fn is_part(process: &Process, part: &str) -> bool {
    let program = fs::read_link(format!("/proc/{}/exe", process.pid));
    let is_worker =
        program.is_ok_and(|path| path.file_name() == Path::new("patchbay-worker").file_name());
    is_worker && process.argv.split(' ').nth(1) == Some(part)
}

/// The memory that a process holds now.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    memory_in(&status).with_context(|| format!("process {pid} shows no memory"))
}

fn memory_in(status: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")? })
}

/// The CPU time that a process has used since its start, all threads, user and system.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    cpu_time_in(&stat).with_context(|| format!("process {pid} shows no CPU time"))
}

fn cpu_time_in(stat: &str) -> Option<Duration> {
    // the name in parentheses may hold anything; utime and stime are the 14th and 15th field
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tVmRSS: 1 kB\nVmRSS:\t    8 kB\nRssAnon:\t    2 kB\n";
        assert_eq!(memory_in(status), Some(Memory { resident: 8192, anonymous: 2048 }));
        assert_eq!(memory_in("Name:\tzombie\n"), None);
    }

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 150 75 9 9 20 0 1 0 0";
        assert_eq!(cpu_time_in(stat), Some(Duration::from_millis(2250)));
    }

    #[test]
    fn the_kernel_shows_both_of_this_process() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.resident > own.anonymous && own.anonymous > 0, "{own:?}");
        cpu_time(std::process::id()).unwrap();
    }
}
