//! Runs a real sandbox and says, property by property, whether this host can hold a worker in, and
//! what to fix where it cannot. There is no fallback to less: what is missing here is missing for
//! workers.

use super::{
    cgroup::Cgroups,
    child::{Child, Ended, Output},
    launch::{LaunchError, Launcher, Tools},
    observe::{EXPECTED, Observed, SCRIPT, TMPFS_BYTES},
    spawn::SpawnCommand,
    spec::{Limits, SandboxSpec, Tmpfs},
};
use patchbay_core::chain::Chain;
use std::{collections::BTreeMap, io, time::Duration};

/// One property of this host's sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// What is looked at.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found, or must hold.
    pub detail: String,
    /// What to do where it is not.
    pub fix: Option<String>,
}

impl Property {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), fix: None }
    }

    fn bad(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// The first release with `--disable-userns`.
const OLDEST: (u32, u32) = (0, 8);

/// A healthy host needs less than a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(30);

const BUBBLEWRAP: &str = "bubblewrap";
const SANDBOX: &str = "sandbox starts";
const INSTALL: &str = "install bubblewrap 0.8 or later (Debian, Ubuntu: apt install bubblewrap)";

/// Looks at this host with a sandbox of `/bin/sh`. The first properties are those that the others
/// depend on; where one fails, those after it are left out.
pub async fn probe(tools: Tools, cgroups: Cgroups) -> Vec<Property> {
    let mut found = Vec::new();
    let launcher = match Launcher::new(tools, cgroups) {
        Ok(launcher) => launcher,
        Err(error @ LaunchError::NoBubblewrap(_)) => {
            return vec![Property::bad(BUBBLEWRAP, error.to_string(), INSTALL)];
        }
        Err(error) => {
            return vec![Property::bad(SANDBOX, Chain(&error).to_string(), "see the message")];
        }
    };
    match version_of(&launcher).await {
        Ok(text) => found.push(judge_version(&text)),
        Err(error) => found.push(Property::bad(BUBBLEWRAP, Chain(&error).to_string(), INSTALL)),
    }
    if found.iter().any(|property| !property.ok) {
        return found;
    }
    let run = tokio::time::timeout(PATIENCE, observe(&launcher)).await;
    match run {
        Ok(Ok(run)) => judge_run(&run, &UserNamespaces::read(), &mut found),
        Ok(Err(error)) => {
            found.push(Property::bad(SANDBOX, Chain(&error).to_string(), "see the message"));
        }
        Err(_) => found.push(Property::bad(
            SANDBOX,
            format!("a sandbox did not end within {} s", PATIENCE.as_secs()),
            "look for a host that is out of memory or processors",
        )),
    }
    found.push(judge_limits(launcher.cgroups()));
    found
}

/// What one sandbox said.
#[derive(Debug)]
struct Run {
    ended: Ended,
    observed: Observed,
    complaint: String,
}

async fn observe(launcher: &Launcher) -> Result<Run, LaunchError> {
    let mut sandbox = launcher.start(spec()).await?;
    let (stdout, stderr) = (sandbox.take_stdout(), sandbox.take_stderr());
    let (exit, said, complaint) = tokio::join!(sandbox.wait(), collect(stdout), collect(stderr));
    let (exit, said, complaint) = (exit?, said?, complaint?);
    Ok(Run {
        ended: exit.ended,
        observed: Observed::parse(said.iter().map(String::as_str)),
        complaint: complaint.join("; "),
    })
}

/// A sandbox that is alike in all that the properties are about.
fn spec() -> SandboxSpec {
    SandboxSpec {
        name: "doctor".into(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), SCRIPT.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        workdir: "/tmp".into(),
        uid: 10001,
        hostname: "doctor".into(),
        read_only: Vec::new(),
        binds: Vec::new(),
        tmpfs: vec![Tmpfs { path: "/tmp".into(), bytes: TMPFS_BYTES, mode: 0o700 }],
        descriptors: Vec::new(),
        limits: Limits { memory_bytes: 64 << 20, pids: 32, files: 256 },
    }
}

async fn version_of(launcher: &Launcher) -> Result<String, LaunchError> {
    let command = SpawnCommand {
        program: launcher.tools().bwrap.clone(),
        args: vec!["--version".into()],
        inherit: Vec::new(),
    };
    // Nothing is reported where no sandbox is made: the pipe is at its end at once.
    let (status, _) = io::pipe()?;
    let spawned = launcher.spawner().spawn(command).await?;
    let mut child = Child::watch(spawned, status, launcher.spawner().clone()).await?;
    let lines = collect(child.take_stdout()).await?;
    child.wait().await?;
    Ok(lines.join(" "))
}

async fn collect(output: Option<Output>) -> io::Result<Vec<String>> {
    /// More than the script or bubblewrap ever say.
    const ENOUGH: usize = 64;
    let mut lines = Vec::new();
    let Some(mut output) = output else {
        return Ok(lines);
    };
    while let Some(line) = output.next().await? {
        if lines.len() < ENOUGH {
            lines.push(line.text);
        }
    }
    Ok(lines)
}

fn judge_version(text: &str) -> Property {
    let version = text.split_ascii_whitespace().last().and_then(|version| {
        let mut parts = version.split('.').map(str::parse::<u32>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    match version {
        Some(version) if version >= OLDEST => Property::good(BUBBLEWRAP, text),
        Some(_) => Property::bad(BUBBLEWRAP, format!("{text} is too old"), INSTALL),
        None => Property::bad(BUBBLEWRAP, format!("`{text}` is no version"), INSTALL),
    }
}

fn judge_run(run: &Run, namespaces: &UserNamespaces, found: &mut Vec<Property>) {
    if run.ended == Ended::NeverStarted {
        found.push(Property::bad(SANDBOX, run.complaint.clone(), namespaces.fix()));
        return;
    }
    if !run.observed.is_complete() {
        let detail = format!("the probe ended early ({:?}): {}", run.ended, run.complaint);
        found.push(Property::bad(SANDBOX, detail, "see the message"));
        return;
    }
    found.push(Property::good(SANDBOX, "a confined /bin/sh ran"));
    found.extend(EXPECTED.iter().map(|expected| {
        if expected.holds(&run.observed) {
            Property::good(expected.name, expected.detail)
        } else {
            Property::bad(
                expected.name,
                format!("not so: {}", expected.detail),
                "do not run workers on this host; report this with the versions of kernel and \
                 bubblewrap",
            )
        }
    }));
}

fn judge_limits(cgroups: &Cgroups) -> Property {
    match cgroups.degraded() {
        None => Property::good("limits", cgroups.kind().to_string()),
        Some(why) => Property::bad(
            "limits",
            why,
            "delegate a cgroup: run under `systemd-run --user --scope -p Delegate=yes`, or in a \
             service with Delegate=yes",
        ),
    }
}

/// What this kernel says of unprivileged user namespaces; none where it has no such switch.
#[derive(Debug, Default)]
struct UserNamespaces {
    apparmor_restricts: Option<u64>,
    unprivileged_clone: Option<u64>,
    max: Option<u64>,
}

impl UserNamespaces {
    fn read() -> Self {
        let read = |name| std::fs::read_to_string(name).ok()?.trim().parse().ok();
        Self {
            apparmor_restricts: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            unprivileged_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            max: read("/proc/sys/user/max_user_namespaces"),
        }
    }

    fn fix(&self) -> String {
        if self.max == Some(0) {
            return "allow user namespaces: sysctl user.max_user_namespaces=10000".into();
        }
        if self.unprivileged_clone == Some(0) {
            return "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1".into();
        }
        if self.apparmor_restricts == Some(1) {
            return APPARMOR.into();
        }
        "a container or a security module may forbid user namespaces or mounts: run on the host, \
         or allow `unshare` and `mount` there"
            .into()
    }
}

const APPARMOR: &str = "\
AppArmor keeps bubblewrap from user namespaces. Put this into /etc/apparmor.d/bwrap and run \
`apparmor_parser -r /etc/apparmor.d/bwrap`:
  abi <abi/4.0>,
  include <tunables/global>
  profile bwrap /usr/bin/bwrap flags=(unconfined) {
    userns,
    include if exists <local/bwrap>
  }";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_without_disable_userns_are_too_old() {
        assert!(judge_version("bubblewrap 0.8.0").ok);
        assert!(judge_version("bubblewrap 0.11.0").ok);
        assert!(judge_version("bubblewrap 1.0").ok);
        for bad in ["bubblewrap 0.4.1", "", "bubblewrap", "0"] {
            let property = judge_version(bad);
            assert!(!property.ok && property.fix.is_some(), "{bad}");
        }
    }

    #[test]
    fn a_refused_user_namespace_names_the_switch_that_refuses_it() {
        let of = |apparmor_restricts, unprivileged_clone, max| {
            UserNamespaces { apparmor_restricts, unprivileged_clone, max }.fix()
        };
        assert!(of(None, None, Some(0)).contains("max_user_namespaces"));
        assert!(of(Some(1), Some(0), Some(9)).contains("unprivileged_userns_clone=1"));
        assert!(of(Some(1), Some(1), Some(9)).contains("profile bwrap /usr/bin/bwrap"));
        assert!(of(None, None, Some(9)).contains("container"));
    }

    #[test]
    fn a_sandbox_that_never_started_claims_no_property() {
        let run = Run {
            ended: Ended::NeverStarted,
            observed: Observed::default(),
            complaint: "bwrap: setting up uid map: Permission denied".into(),
        };
        let mut found = Vec::new();
        judge_run(&run, &UserNamespaces::default(), &mut found);
        assert_eq!(found.len(), 1);
        assert!(!found[0].ok && found[0].detail.contains("uid map"));
    }

    #[test]
    fn a_probe_that_ended_early_claims_no_property() {
        let run = Run {
            ended: Ended::Exited(137),
            observed: Observed::parse(["NoNewPrivs=1"]),
            complaint: String::new(),
        };
        let mut found = Vec::new();
        judge_run(&run, &UserNamespaces::default(), &mut found);
        assert_eq!((found.len(), found[0].ok), (1, false));
    }

    #[test]
    fn limits_that_are_only_of_single_processes_are_not_ok() {
        let property = judge_limits(&Cgroups::rlimits_only());
        assert!(!property.ok && property.fix.unwrap().contains("Delegate=yes"));
    }
}
