//! The ways in and out: inherited descriptors, bound sockets, output; and what others can see of
//! them.

use crate::support::{launcher, run, shell, soon};
use patchbay_orchestrator::local::sandbox::{Ended, Tmpfs, lines::MAX_LINE_BYTES};
use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixListener},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

#[tokio::test]
async fn an_inherited_listening_socket_is_reached_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let script = format!(
        "open(my $l, '+<&=', {}) or die; accept(my $c, $l) or die; \
         sysread($c, my $x, 4); syswrite($c, uc $x)",
        listener.as_raw_fd()
    );
    let mut spec = shell("listener", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), script.into()];
    spec.descriptors.push(listener.into());
    let launcher = launcher();
    let outcome = run(&launcher, spec);
    let conversation = async {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (outcome, answer) = soon(async { tokio::join!(outcome, conversation) }).await;
    assert_eq!(answer, "PING", "{}", outcome.stderr);
    assert_eq!(outcome.exit.ended, Ended::Exited(0));
}

#[tokio::test]
async fn a_bound_socket_is_connected_to_from_inside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut spec = shell("bound-socket", "");
    spec.program = "/usr/bin/perl".into();
    let script = "use IO::Socket::UNIX; \
                  my $s = IO::Socket::UNIX->new(Peer => '/run/patchbay/control') or die $!; \
                  syswrite($s, 'from inside')";
    spec.args = vec!["-e".into(), script.into()];
    spec.tmpfs.push(Tmpfs { path: "/run".into(), bytes: 1 << 16, mode: 0o755 });
    spec.binds.push((path, "/run/patchbay/control".into()));
    let launcher = launcher();
    let outcome = run(&launcher, spec);
    let heard = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let (outcome, heard) = soon(async { tokio::join!(outcome, heard) }).await;
    assert_eq!(heard, "from inside", "{}", outcome.stderr);
}

#[tokio::test]
async fn a_program_has_the_descriptors_that_it_was_given_and_no_other() {
    let (reader, _writer) = io::pipe().unwrap();
    let number = reader.as_raw_fd();
    // `ls` would open one of its own: the shell's expansion does too, but closes it.
    let mut spec =
        shell("descriptors", "for f in /proc/1/fd/*; do test -e $f && echo ${f##*/}; done");
    spec.descriptors.push(reader.into());
    let outcome = run(&launcher(), spec).await;
    let mut found: Vec<i32> = outcome.stdout.lines().map(|fd| fd.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, number], "{}", outcome.stderr);
}

#[tokio::test]
async fn paths_and_environment_are_seen_in_no_process_list() {
    let (reader, writer) = io::pipe().unwrap();
    let mut spec = shell("hidden", &format!("read line <&{}", reader.as_raw_fd()));
    // A shell's redirection knows single digits only.
    spec.args = vec!["-c".into(), format!("cat /proc/self/fd/{}", reader.as_raw_fd()).into()];
    spec.env.insert("MARK".into(), "seen-by-nobody".into());
    spec.descriptors.push(reader.into());
    let launcher = launcher();
    let mut sandbox = launcher.start(spec).await.unwrap();
    let monitor = sandbox.child().monitor_pid().unwrap();
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{monitor}/{file}")).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains("seen-by-nobody") && !text.contains("tmpfs"), "{file}: {text}");
        assert_eq!(file == "cmdline", text.contains("--args"), "{file}: {text}");
    }
    drop(writer);
    assert_eq!(soon(sandbox.wait()).await.unwrap().ended, Ended::Exited(0));
}

#[tokio::test]
async fn an_endless_line_is_cut_and_the_next_one_is_read() {
    let mut spec = shell("lines", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), "print 'x' x 1000000, qq(\\nnext\\n)".into()];
    let outcome = run(&launcher(), spec).await;
    let lengths: Vec<usize> = outcome.stdout.lines().map(str::len).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, 4]);
}
