//! The name of one life of one controller, and whether that life still lasts. Cgroups carry it, so
//! that the next controller can tell what a killed one left behind from what a living neighbour
//! uses. This module must not know cgroups.

use std::{
    fmt, io,
    sync::atomic::{AtomicU32, Ordering},
};

/// One life of a controller: its process, when that started, and a counter for tests that make
/// several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pid: u32,
    started: u64,
    count: u32,
}

impl Instance {
    /// A new instance of this process.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let started = start_time(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, started, count: COUNT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '-');
        let instance = Self {
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            count: parts.next()?.parse().ok()?,
        };
        // Another spelling of the same numbers is another name.
        (instance.to_string() == name).then_some(instance)
    }

    /// Whether its process lives. A process number that was given to another process does not
    /// count.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(start_time(self.pid)? == Some(self.started))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pid, self.started, self.count)
    }
}

/// When a process started, in clock ticks since boot; none where no such process lives.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse_stat(&stat)
            .map(|(state, started)| (!matches!(state, "Z" | "X")).then_some(started))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process ended between open and read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// State (field 3) and start time (field 22) of `/proc/PID/stat`. Field 2 is the program's own name
/// in parentheses and may hold anything, parentheses too.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_each_instance_has_its_own_name() {
        let (one, two) = (Instance::new().unwrap(), Instance::new().unwrap());
        assert!(one.is_alive().unwrap());
        assert_ne!(one.to_string(), two.to_string());
        assert_eq!(Instance::parse(&one.to_string()), Some(one));
    }

    #[test]
    fn a_process_number_that_was_given_again_is_another_life() {
        let mut other = Instance::new().unwrap();
        other.started -= 1;
        assert!(!other.is_alive().unwrap());
        // Above the largest process number that Linux gives out.
        other.pid = 1 << 30;
        assert!(!other.is_alive().unwrap());
    }

    #[test]
    fn foreign_names_are_not_instances() {
        for foreign in ["", "1", "1-2", "a-b-c", "1-2-3-4", "../1-2-3", "+1-2-3", "01-2-3"] {
            assert_eq!(Instance::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2";
        assert_eq!(parse_stat(stat), Some(("S", 4242)));
    }
}
