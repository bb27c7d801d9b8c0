//! What a real sandbox says about itself: the script that looks around inside, and what its answers
//! mean. The script prints `name=value` lines; the meaning is pure. This module must not start
//! anything.

use std::collections::BTreeMap;

/// The tmpfs that the script tries to overfill, bytes.
pub(super) const TMPFS_BYTES: u64 = 1 << 20;

/// Looks around inside, for `/bin/sh` with `/usr/bin` as its path. It writes nothing that stays:
/// the change of `/dev/null` that it tries is to the mode that it has.
pub(super) const SCRIPT: &str = r#"
try() { name=$1; shift; "$@" >/dev/null 2>&1; echo "$name=$?"; }
status() { echo "$1=$(sed -n "s/^$1:[[:space:]]*//p" /proc/self/status)"; }
try write-root touch /x
try write-usr touch /usr/x
try write-proc sh -c 'echo 1 > /proc/self/oom_score_adj'
try change-device chmod "$(stat -c %a /dev/null)" /dev/null
try read-shadow test -e /etc/shadow
try unshare-user unshare --user true
try overfill sh -c 'head -c 2097152 /dev/zero > /tmp/overfill'
status CapEff
status CapBnd
status NoNewPrivs
status Seccomp
echo "interfaces=$(sed -n 's/^ *\([^ :]*\):.*/\1/p' /proc/net/dev | tr '\n' ' ')"
echo "pid=$$"
echo end=0
"#;

/// One property of a sandbox: a name and what must be observed for it.
pub(super) struct Expected {
    pub(super) name: &'static str,
    pub(super) detail: &'static str,
    holds: fn(&Observed) -> bool,
}

/// What the script printed.
#[derive(Debug, Default)]
pub(super) struct Observed(BTreeMap<String, String>);

impl Observed {
    /// Reads the script's lines. What is not of their form is passed over.
    pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let pair = |line: &'a str| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        Self(lines.into_iter().filter_map(pair).collect())
    }

    /// Whether the script came to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.is("end", "0")
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    /// Whether a command was there to try, and failed. The shell answers 126 and 127 where it was
    /// not.
    fn failed(&self, name: &str) -> bool {
        self.get(name)
            .and_then(|code| code.parse().ok())
            .is_some_and(|code: u32| (1..126).contains(&code))
    }

    fn is_no_capability(&self, name: &str) -> bool {
        self.get(name).is_some_and(|set| !set.is_empty() && set.bytes().all(|digit| digit == b'0'))
    }
}

impl Expected {
    /// Whether it was observed. What was not observed does not hold.
    pub(super) fn holds(&self, observed: &Observed) -> bool {
        (self.holds)(observed)
    }
}

/// All that must hold inside.
pub(super) const EXPECTED: &[Expected] = &[
    Expected {
        name: "read-only root",
        detail: "/, /usr and /proc refuse writes",
        holds: |o| o.failed("write-root") && o.failed("write-usr") && !o.is("write-proc", "0"),
    },
    Expected {
        name: "host files",
        detail: "/etc/shadow is not there, device nodes cannot be changed",
        holds: |o| o.failed("read-shadow") && o.failed("change-device"),
    },
    Expected {
        name: "no capabilities",
        detail: "effective and bounding sets are empty",
        holds: |o| o.is_no_capability("CapEff") && o.is_no_capability("CapBnd"),
    },
    Expected {
        name: "no new privileges",
        detail: "NoNewPrivs is set",
        holds: |o| o.is("NoNewPrivs", "1"),
    },
    Expected {
        name: "system call filter",
        detail: "seccomp mode 2 (filter)",
        holds: |o| o.is("Seccomp", "2"),
    },
    Expected {
        name: "no network",
        detail: "the loopback interface is the only one",
        holds: |o| o.is("interfaces", "lo"),
    },
    Expected {
        name: "process namespace",
        detail: "the program is process 1 of its own namespace",
        holds: |o| o.is("pid", "1"),
    },
    Expected {
        name: "no nested namespaces",
        detail: "`unshare --user` is refused",
        holds: |o| o.failed("unshare-user"),
    },
    Expected {
        name: "bounded tmpfs",
        detail: "2 MiB do not fit into a tmpfs of 1 MiB",
        holds: |o| o.failed("overfill"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "write-root=1\nwrite-usr=1\nwrite-proc=2\nchange-device=1\nread-shadow=1\n\
        unshare-user=1\noverfill=1\nCapEff=0000000000000000\nCapBnd=0000000000000000\n\
        NoNewPrivs=1\nSeccomp=2\ninterfaces=lo \npid=1\nend=0";

    fn failing(text: &str) -> Vec<&'static str> {
        let observed = Observed::parse(text.lines());
        EXPECTED.iter().filter(|each| !each.holds(&observed)).map(|each| each.name).collect()
    }

    #[test]
    fn a_tight_sandbox_has_every_property() {
        assert_eq!(failing(GOOD), Vec::<&str>::new());
    }

    #[test]
    fn each_leak_fails_its_own_property() {
        for (good, leak, name) in [
            ("write-root=1", "write-root=0", "read-only root"),
            ("write-usr=1", "write-usr=0", "read-only root"),
            ("write-proc=2", "write-proc=0", "read-only root"),
            ("change-device=1", "change-device=0", "host files"),
            ("read-shadow=1", "read-shadow=0", "host files"),
            ("CapBnd=0000000000000000", "CapBnd=0000000000000001", "no capabilities"),
            ("NoNewPrivs=1", "NoNewPrivs=0", "no new privileges"),
            ("Seccomp=2", "Seccomp=0", "system call filter"),
            ("interfaces=lo ", "interfaces=lo eth0 ", "no network"),
            ("pid=1", "pid=4711", "process namespace"),
            ("unshare-user=1", "unshare-user=0", "no nested namespaces"),
            ("unshare-user=1", "unshare-user=127", "no nested namespaces"),
            ("overfill=1", "overfill=0", "bounded tmpfs"),
        ] {
            assert!(GOOD.contains(good));
            assert_eq!(failing(&GOOD.replace(good, leak)), [name], "{leak}");
        }
    }

    #[test]
    fn what_was_not_observed_does_not_hold() {
        assert_eq!(failing("").len(), EXPECTED.len());
        assert!(!Observed::parse([]).is_complete());
        assert!(Observed::parse(GOOD.lines()).is_complete());
    }
}
