//! What the sandbox tests share: a launcher with a shell in place of `patchbay-worker enter`, a
//! spec to start from, and running a script to its end.

use patchbay_orchestrator::local::sandbox::{
    Cgroups, Ended, Exit, Instance, Launcher, Limits, Output, SandboxSpec, Tmpfs, Tools,
};
use std::{collections::BTreeMap, time::Duration};

/// Does what `patchbay-worker enter` does with its options.
const ENTER: &str = r#"
while [ "$1" != -- ]; do
    case $1 in
        --cgroup-procs) echo $$ > "$2" || exit 125 ;;
        --rlimit-data) ulimit -d $(($2 / 1024)) || exit 125 ;;
        --rlimit-nofile) ulimit -n "$2" || exit 125 ;;
        --rlimit-core) ulimit -c "$2" || exit 125 ;;
        *) echo "enter: unknown option $1" >&2; exit 125 ;;
    esac
    shift 2
done
shift
exec "$@"
"#;

pub(crate) fn tools() -> Tools {
    let enter = ["/bin/sh", "-c", ENTER, "enter"].map(Into::into).to_vec();
    Tools { bwrap: "/usr/bin/bwrap".into(), enter }
}

pub(crate) fn launcher() -> Launcher {
    launcher_with(Cgroups::open(&Instance::new().unwrap()))
}

pub(crate) fn launcher_with(cgroups: Cgroups) -> Launcher {
    Launcher::new(tools(), cgroups).expect("sandboxes need bubblewrap: see `patchbay doctor`")
}

/// A sandbox that runs `script` with `/bin/sh`.
pub(crate) fn shell(name: &str, script: &str) -> SandboxSpec {
    SandboxSpec {
        name: name.into(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        workdir: "/tmp".into(),
        uid: 10001,
        hostname: "inside".into(),
        read_only: Vec::new(),
        binds: Vec::new(),
        tmpfs: vec![Tmpfs { path: "/tmp".into(), bytes: 1 << 20, mode: 0o700 }],
        descriptors: Vec::new(),
        limits: Limits { memory_bytes: 128 << 20, pids: 64, files: 256 },
    }
}

/// What a sandbox left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a sandbox to its end.
pub(crate) async fn run(launcher: &Launcher, spec: SandboxSpec) -> Outcome {
    let mut sandbox = launcher.start(spec).await.expect("the sandbox can be started");
    let (stdout, stderr) = (sandbox.take_stdout(), sandbox.take_stderr());
    let (exit, stdout, stderr) =
        soon(async { tokio::join!(sandbox.wait(), collect(stdout), collect(stderr)) }).await;
    Outcome { exit: exit.unwrap(), stdout, stderr }
}

/// Runs `script` and returns its output. The sandbox must start, and the script succeed.
pub(crate) async fn look(name: &str, script: &str) -> String {
    let outcome = run(&launcher(), shell(name, script)).await;
    assert_eq!(
        outcome.exit.ended,
        Ended::Exited(0),
        "the sandbox or its script failed, see `patchbay doctor`: {}",
        outcome.stderr
    );
    outcome.stdout
}

pub(crate) async fn collect(output: Option<Output>) -> String {
    let mut output = output.unwrap();
    let mut text = String::new();
    while let Some(line) = output.next().await.unwrap() {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// Awaits what happens at once on a healthy machine.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), what).await.expect("it happens within a minute")
}
