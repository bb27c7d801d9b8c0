//! Bounds on a sandbox, each tried by exceeding it.

use crate::support::{Outcome, launcher, launcher_with, look, run, shell};
use patchbay_orchestrator::local::sandbox::{Cgroups, Ended, Kind, Launcher};

/// Fills `megabytes` of memory and says so.
async fn fill(launcher: &Launcher, name: &str, megabytes: u32) -> Outcome {
    let mut spec = shell(name, "");
    spec.program = "/usr/bin/perl".into();
    let script = format!("my $x = 'x' x ({megabytes} << 20); print length($x) >> 20");
    spec.args = vec!["-e".into(), script.into()];
    run(launcher, spec).await
}

#[tokio::test]
async fn memory_is_bounded_by_the_best_method_of_this_host() {
    let launcher = launcher();
    println!("memory limit: {:?}", launcher.cgroups().kind());
    let within = fill(&launcher, "within", 8).await;
    assert_eq!((within.exit.ended, within.stdout.trim()), (Ended::Exited(0), "8"));
    assert!(!within.exit.is_oom_killed);
    let beyond = fill(&launcher, "beyond", 256).await;
    assert_eq!(beyond.stdout, "");
    assert_ne!(beyond.exit.ended, Ended::Exited(0));
    let has_cgroup = launcher.cgroups().kind() != Kind::RlimitsOnly;
    assert_eq!(beyond.exit.is_oom_killed, has_cgroup);
}

#[tokio::test]
async fn memory_is_bounded_by_resource_limits_where_there_is_no_cgroup() {
    let launcher = launcher_with(Cgroups::rlimits_only());
    assert!(launcher.cgroups().degraded().is_some());
    assert_eq!(fill(&launcher, "within", 8).await.exit.ended, Ended::Exited(0));
    let beyond = fill(&launcher, "beyond", 256).await;
    assert_eq!(beyond.stdout, "");
    assert!(matches!(beyond.exit.ended, Ended::Exited(code) if code != 0), "{beyond:?}");
}

#[tokio::test]
async fn what_lies_in_a_tmpfs_counts_as_memory() {
    let launcher = launcher();
    assert_ne!(launcher.cgroups().kind(), Kind::RlimitsOnly, "this needs a writable cgroup");
    let mut spec = shell("tmpfs-memory", "head -c 200000000 /dev/zero > /tmp/x && echo filled");
    spec.tmpfs[0].bytes = 1 << 30;
    let outcome = run(&launcher, spec).await;
    assert_eq!(outcome.stdout, "");
    assert!(outcome.exit.is_oom_killed, "{outcome:?}");
}

#[tokio::test]
async fn a_tmpfs_holds_no_more_than_its_size() {
    let script = "head -c 2000000 /dev/zero 2>/dev/null > /tmp/x && echo filled; stat -c %s /tmp/x";
    assert_eq!(look("tmpfs-size", script).await, "1048576\n");
}

#[tokio::test]
async fn processes_are_bounded() {
    let launcher = launcher();
    assert_ne!(launcher.cgroups().kind(), Kind::RlimitsOnly, "this needs a writable cgroup");
    // Forks children that wait for the pipe's end, until there is no other.
    let script = "pipe(my $r, my $w); my $n = 1; \
                  while (1) { my $p = fork; last unless defined $p; \
                  if (!$p) { close $w; read($r, my $x, 1); exit } $n++ } print $n";
    let mut spec = shell("pids", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), script.into()];
    spec.limits.pids = 20;
    let outcome = run(&launcher, spec).await;
    assert_eq!(outcome.stdout.trim(), "20", "{}", outcome.stderr);
}

#[tokio::test]
async fn open_files_are_bounded_and_core_dumps_are_off() {
    assert_eq!(look("files", "ulimit -n; ulimit -c").await, "256\n0\n");
}
