//! What the kernel says of processes: whose child, with which arguments and environment. Read from
//! `/proc`, so that a test sees what anybody on the machine could.

use std::{collections::BTreeSet, fs};

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, joined with spaces.
    pub argv: String,
    /// Its environment, joined with newlines; empty where it may not be read.
    pub environ: String,
}

/// All processes that exist now.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in parentheses may hold anything, so count from its end
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    let text = |name: &str, separator: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', separator)
    };
    Some(Process { pid, parent, argv: text("cmdline", " "), environ: text("environ", "\n") })
}

/// All that descend from `root`, without itself.
pub fn descendants(root: u32) -> Vec<Process> {
    let all = all();
    let mut known = BTreeSet::from([root]);
    let mut found: Vec<Process> = Vec::new();
    loop {
        let next: Vec<_> = all
            .iter()
            .filter(|process| known.contains(&process.parent) && !known.contains(&process.pid))
            .cloned()
            .collect();
        if next.is_empty() {
            return found;
        }
        known.extend(next.iter().map(|process| process.pid));
        found.extend(next);
    }
}

/// Whether any of these processes still exists (a zombie has ended).
pub fn any_alive(pids: &[u32]) -> bool {
    pids.iter().any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
        })
    })
}
