//! What the binary does alone: refuse what it cannot use, and enter limits.

use crate::worker::PROGRAM;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

#[test]
fn a_boot_document_that_cannot_be_used_is_refused_in_words() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"comand\": []}").unwrap();
    for part in ["agent", "host"] {
        let output = run(&[part, "--boot-file", file.path().to_str().unwrap()]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(words.contains("unknown field `comand`"), "{words}");
        let output = run(&[part, "--boot-fd", "77"]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("descriptor 77 cannot be read: it is not open"), "{words}");
        assert!(!run(&[part]).status.success());
    }
}

#[test]
fn a_program_is_entered_with_its_limits_in_its_control_group() {
    let group = tempfile::NamedTempFile::new().unwrap();
    let output = run(&[
        "enter",
        "--cgroup-procs",
        group.path().to_str().unwrap(),
        "--rlimit-nofile",
        "77",
        "--rlimit-core",
        "0",
        "--",
        "/bin/sh",
        "-c",
        "echo $$ $(ulimit -n) $(ulimit -c); exit 3",
    ]);
    let pid = std::fs::read_to_string(group.path()).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{pid} 77 0\n"));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_program_is_installed_that_runs() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("worker");
    let output = run(&["install", "--to", to.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let version = Command::new(&to).arg("--version").output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("patchbay-worker "));
}
