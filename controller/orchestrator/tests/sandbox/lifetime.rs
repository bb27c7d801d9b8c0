//! How sandboxes end, and that nothing is left of them.

use crate::support::{launcher, run, shell, soon};
use patchbay_orchestrator::local::sandbox::{
    Cgroups, Ended, Instance, Kind, Launcher, Sandbox, lines::Lines,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tokio::{io::BufReader, net::unix::pipe::Receiver};

/// Starts a sandbox of two processes that wait for ever, and returns once both run.
async fn waiting(launcher: &Launcher, name: &str) -> Sandbox {
    let script = "trap 'exit 7' TERM; perl -e sleep & echo running; wait";
    let mut sandbox = launcher.start(shell(name, script)).await.unwrap();
    let mut stdout = sandbox.take_stdout().unwrap();
    let line = soon(stdout.next()).await.unwrap().expect("the sandbox starts");
    assert_eq!(line.text, "running");
    sandbox
}

/// Host numbers of all processes whose chain of parents leads to `ancestor`, and of itself.
fn family(ancestor: u32) -> Vec<u32> {
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        family.extend(children.split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        next += 1;
    }
    family
}

fn open(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

fn is_dead_within(process: &OwnedFd, seconds: i64) -> bool {
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// The cgroup directories of a running sandbox.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let tops = [
        ("memory", "/sys/fs/cgroup/memory"),
        ("pids", "/sys/fs/cgroup/pids"),
        ("", "/sys/fs/cgroup"),
    ];
    text.lines()
        .filter(|line| line.contains("/patchbay/"))
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controller, path) = (fields.next()?, fields.next()?);
            let (_, top) = tops.iter().find(|(name, _)| *name == controller)?;
            Some(Path::new(top).join(path.trim_start_matches('/')))
        })
        .collect()
}

#[tokio::test]
async fn a_kill_ends_every_process_and_removes_the_cgroup() {
    let launcher = launcher();
    let mut sandbox = waiting(&launcher, "killed").await;
    let monitor = sandbox.child().monitor_pid().unwrap();
    let processes: Vec<_> = family(monitor).into_iter().map(open).collect();
    assert!(processes.len() >= 3, "bubblewrap, the shell, and the shell's child");
    let cgroups = cgroups_of(monitor);
    assert_eq!(cgroups.is_empty(), launcher.cgroups().kind() == Kind::RlimitsOnly);
    assert!(cgroups.iter().all(|dir| dir.exists()), "{cgroups:?}");

    sandbox.kill().unwrap();
    assert_eq!(soon(sandbox.wait()).await.unwrap().ended, Ended::Killed);
    // When the wait is over there is nothing left to wait for.
    assert!(processes.iter().all(|process| is_dead_within(process, 0)));
    assert!(!cgroups.iter().any(|dir| dir.exists()), "{cgroups:?}");
    // And it can be asked again.
    assert_eq!(soon(sandbox.wait()).await.unwrap().ended, Ended::Killed);
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let launcher = launcher();
    let mut sandbox = waiting(&launcher, "signalled").await;
    sandbox.signal(Signal::TERM).unwrap();
    assert_eq!(soon(sandbox.wait()).await.unwrap().ended, Ended::Exited(7));
}

#[tokio::test]
async fn a_sandbox_that_is_dropped_is_gone() {
    let launcher = launcher();
    let mut sandbox = waiting(&launcher, "dropped").await;
    let monitor = sandbox.child().monitor_pid().unwrap();
    let processes: Vec<_> = family(monitor).into_iter().map(open).collect();
    let cgroups = cgroups_of(monitor);
    drop(sandbox);
    assert!(processes.iter().all(|process| is_dead_within(process, 30)));
    assert!(!cgroups.iter().any(|dir| dir.exists()), "{cgroups:?}");
    // The name is free again.
    assert_eq!(run(&launcher, shell("dropped", "exit 3")).await.exit.ended, Ended::Exited(3));
}

#[tokio::test]
async fn a_sandbox_outlives_its_launcher() {
    let launcher = launcher();
    let mut sandbox = waiting(&launcher, "outlives").await;
    drop(launcher);
    sandbox.signal(Signal::TERM).unwrap();
    assert_eq!(soon(sandbox.wait()).await.unwrap().ended, Ended::Exited(7));
}

#[tokio::test]
async fn two_sandboxes_never_share_a_name() {
    let launcher = launcher();
    assert_ne!(launcher.cgroups().kind(), Kind::RlimitsOnly, "this needs a writable cgroup");
    let _first = waiting(&launcher, "twin").await;
    let error = launcher.start(shell("twin", "true")).await.err().unwrap();
    assert!(error.to_string().contains("exists already"), "{error}");
}

/// The name under which this file's program runs as a controller that is killed.
const CONTROLLER: &str = "lifetime::a_controller_that_waits_to_be_killed";

#[tokio::test]
#[ignore = "runs only as a process of its own, started by the test that kills it"]
async fn a_controller_that_waits_to_be_killed() {
    let launcher = launcher();
    let mut sandbox = waiting(&launcher, "orphan").await;
    let monitor = sandbox.child().monitor_pid().unwrap();
    let family: Vec<_> = family(monitor).iter().map(ToString::to_string).collect();
    println!("family {}", family.join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_survives_a_controller_that_is_killed_and_its_cgroups_are_swept() {
    let mut controller = start_controller();
    let (stdout, controller_pid) = (controller.stdout.take().unwrap(), controller.id());
    let mut lines = Lines::new(BufReader::new(Receiver::from_owned_fd(stdout.into()).unwrap()));
    let family: Vec<u32> = soon(async {
        loop {
            let line = lines.next().await.unwrap().expect("the controller starts its sandbox");
            // The test runner's own words come before, on the same line or others.
            if let Some((_, family)) = line.text.split_once("family ") {
                break family.split(' ').map(|pid| pid.parse().unwrap()).collect();
            }
        }
    })
    .await;
    let processes: Vec<_> = family.iter().copied().map(open).collect();
    let cgroups = cgroups_of(family[0]);
    pidfd_send_signal(open(controller_pid), Signal::KILL).unwrap();
    controller.wait().unwrap();
    for (pid, process) in family.iter().zip(&processes) {
        assert!(is_dead_within(process, 30), "process {pid} outlived its controller");
    }

    let own = Cgroups::open(&Instance::new().unwrap());
    if own.kind() != Kind::RlimitsOnly {
        assert!(cgroups.iter().all(|dir| dir.exists()), "{cgroups:?}");
        assert!(own.sweep().unwrap().contains(&"orphan".to_owned()));
        assert!(!cgroups.iter().any(|dir| dir.exists()), "{cgroups:?}");
    }
}

/// This program again, as a controller. Through `Command` for once: the spawner's children die with
/// their thread, and this one must die by our hand alone.
fn start_controller() -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    let args = ["--ignored", "--exact", CONTROLLER, "--nocapture"].map(OsString::from);
    Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}
