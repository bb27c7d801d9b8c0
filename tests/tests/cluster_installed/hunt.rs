//! The search for credentials in everything that an installation leaves behind: its objects, logs, metrics, command
//! lines and environments, and every file of the cluster, which etcd's database and log, the audit log, the kubelet's
//! files and images' layers are among. It turns secrets into the forms that they may have, and the places where one
//! is found into a failure. It must not know whose they are.

use super::world::Installation;
use anyhow::{Context, ensure};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use patchbay_tests::{
    chart::RELEASE,
    cluster::{default_directory, from, shell_pod},
    http::Http,
    pods::stage::phase,
    processes,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What a credential at least has; a shorter one would be found by chance.
const SHORTEST: usize = 16;
/// Everything of a release that is an object of its namespace.
const KINDS: &str = "pods,tenants,workerclasses,identityproviders,configmaps,secrets,services,endpointslices,\
                     serviceaccounts,leases,deployments,replicasets,networkpolicies,poddisruptionbudgets,events";

/// What is looked for, and what was kept of things that do not stay.
pub(crate) struct Hunt {
    /// What each is, and how it may be written.
    forms: Vec<(String, String)>,
    kept: tempfile::TempDir,
    count: usize,
}

/// Something that was found.
#[derive(Debug)]
struct Found {
    what: String,
    file: PathBuf,
}

impl Hunt {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { forms: Vec::new(), kept: tempfile::tempdir()?, count: 0 })
    }

    /// Adds a secret in every form.
    pub(crate) fn add(&mut self, what: &str, secret: &str) -> anyhow::Result<()> {
        ensure!(secret.len() >= SHORTEST, "{what} is too short to be looked for");
        self.forms.extend(forms(secret).into_iter().map(|form| (what.to_owned(), form)));
        Ok(())
    }

    /// Keeps what the installation shows now. The pods of which it has the logs.
    pub(crate) async fn keep(&mut self, at: &Installation) -> anyhow::Result<BTreeSet<String>> {
        let place = &at.installed.release.place;
        self.count += 1;
        let directory = self.kept.path().join(self.count.to_string());
        fs::create_dir(&directory)?;
        let write = |name: &str, text: String| fs::write(directory.join(name), text);
        write("objects", place.kubectl(&["get", KINDS, "--output", "yaml"]).await?)?;
        // what Helm keeps is compressed
        write("release", place.helm(&["get", "all", RELEASE]).await?)?;
        for replica in &at.replicas {
            let url = format!("http://{}:9090/metrics", replica.address);
            write(
                &format!("metrics {}", replica.pod),
                Http::default().get(&url, &[]).await?.text(),
            )?;
        }
        let processes = processes::all().into_iter();
        let told: Vec<_> = processes.map(|it| format!("{}\n{}\n", it.argv, it.environ)).collect();
        write("processes", told.concat())?;

        let mut with_logs = BTreeSet::new();
        for pod in place.pods().list(&ListParams::default()).await? {
            let name = pod.name_any();
            let logs = place.kubectl(&["logs", &name, "--all-containers", "--prefix"]).await;
            match logs {
                Ok(text) => {
                    write(&format!("log {name}"), text)?;
                    with_logs.insert(name);
                }
                // it comes or goes; what it has said so far is among the node's files
                Err(error) => {
                    let now = place.pods().get_opt(&name).await?;
                    let is_steady = now.is_some_and(|pod| has_begun(&pod));
                    ensure!(!is_steady, "{error:#}");
                }
            }
        }
        Ok(with_logs)
    }

    /// Whether a pod's log that was kept last has this in it.
    pub(crate) fn has_kept(&self, pod: &str, text: &str) -> anyhow::Result<bool> {
        let path = self.kept.path().join(self.count.to_string()).join(format!("log {pod}"));
        Ok(fs::read_to_string(path)?.contains(text))
    }

    /// Looks everywhere, and fails if anything is found, or if what has to be found is not.
    pub(crate) async fn end(mut self, at: &Installation) -> anyhow::Result<()> {
        let place = &at.installed.release.place;
        ensure!(!self.forms.is_empty(), "nothing to look for");
        let [object, line] = ["object", "line"].map(|kind| format!("marker-{kind}-{}", random()));
        let marker: ConfigMap = from(json!({
            "metadata": { "name": format!("marker-{}", random()) }, "data": { "marker": object },
        }))?;
        let named = marker.name_any();
        let maps = Api::<ConfigMap>::namespaced(place.client.clone(), &place.name);
        maps.create(&PostParams::default(), &marker).await?;
        // no object has the line as a whole
        let (head, tail) = line.split_at(line.len() / 2);
        let pod = shell_pod("marker", &format!("printf '%s%s\\n' '{head}' '{tail}'"));
        let said = place.create(pod, |pod: &Pod| ["Succeeded", "Failed"].contains(&phase(pod)));
        ensure!(phase(&said.await?) == "Succeeded");
        let logs = self.keep(at).await?;
        ensure!(logs.contains("marker"), "{logs:?}");

        let cluster = default_directory()?;
        let of_pods = cluster.join("node/log/pods");
        ensure_nothing_is_compressed(&of_pods, &place.name).await?;
        let kept = self.kept.path();
        let markers = [("object", &object), ("line", &line), ("name", &named)];
        let markers = markers.map(|(what, form)| (what.to_owned(), form.clone()));
        let all: Vec<_> = self.forms.iter().chain(&markers).cloned().collect();
        let begun = tokio::time::Instant::now();
        let found = search(&all, &[&cluster, kept]).await?;
        println!("{} forms, looked for everywhere in {:?}", all.len(), begun.elapsed());

        let is_in = |what: &str, directory: &Path| {
            found.iter().any(|it| it.what == what && it.file.starts_with(directory))
        };
        for (what, directory) in [
            ("object", cluster.join("etcd/member/snap/db")),
            ("object", cluster.join("etcd/member/wal")),
            ("object", kept.to_path_buf()),
            ("name", cluster.join("logs/audit.log")),
            ("line", of_pods),
            ("line", kept.to_path_buf()),
        ] {
            ensure!(is_in(what, &directory), "not found: {what} in {}", directory.display());
        }
        let is_marker = |it: &Found| markers.iter().any(|(what, _)| *what == it.what);
        let secrets: Vec<_> = found.iter().filter(|it| !is_marker(it)).collect();
        ensure!(secrets.is_empty(), "credentials were left behind: {secrets:#?}");
        Ok(())
    }
}

/// Logs that have grown too long are put aside and compressed, and nothing would be found in them.
async fn ensure_nothing_is_compressed(logs: &Path, namespace: &str) -> anyhow::Result<()> {
    let of_namespace = format!("{}/{namespace}_*", logs.display());
    let mut find = Command::new("find");
    find.arg(logs).args(["-path", &of_namespace, "-name", "*.gz"]);
    // pods come and go meanwhile, which it complains of
    let found = String::from_utf8(find.output().await?.stdout)?;
    ensure!(found.is_empty(), "compressed: {found}");
    Ok(())
}

/// Whether every container of a pod has been started.
fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let mut states = statuses.into_iter().flatten().map(|status| status.state.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && states.all(|state| state.is_some_and(|state| state.waiting.is_none()))
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The files below these directories that have one of the forms in them. What is mounted there is not looked at.
async fn search(forms: &[(String, String)], below: &[&Path]) -> anyhow::Result<Vec<Found>> {
    let mut grep = Command::new("grep")
        .args(["--recursive", "--text", "--fixed-strings", "--only-matching", "--null"])
        // the forms are no arguments, which anybody sees
        .args(["--devices=skip", "--file=-"])
        .args(below)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = grep.stdin.take().context("standard input is piped")?;
    let lines: Vec<_> = forms.iter().map(|(_, form)| form.as_str()).collect();
    stdin.write_all(lines.join("\n").as_bytes()).await?;
    drop(stdin);
    let output = grep.wait_with_output().await?;
    // containers come and go meanwhile
    let complaints = String::from_utf8_lossy(&output.stderr);
    for complaint in complaints.lines() {
        ensure!(complaint.ends_with(": No such file or directory"), "{complaint}");
    }
    let mut found = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let middle = line.iter().position(|byte| *byte == 0).context("a file's name and a form")?;
        let (file, form) = line.split_at(middle);
        let is_it = |(_, known): &&(String, String)| known.as_bytes() == &form[1..];
        let (what, _) = forms.iter().find(is_it).context("something else was found")?;
        let file = PathBuf::from(OsStr::from_bytes(file));
        if !found.iter().any(|it: &Found| it.what == *what && it.file == file) {
            found.push(Found { what: what.clone(), file });
        }
    }
    Ok(found)
}

/// How a secret may be written: as it is, escaped for a URL, as a part of something in base64, and, of a token, its
/// signature alone.
fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([secret.to_owned(), percent_encoded(secret)]);
    let parts: Vec<_> = secret.split('.').collect();
    if let [_, _, signature] = parts[..] {
        forms.insert(signature.to_owned());
    }
    for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
        // what stands before it shifts it; the first and last characters have bits of what is beside it
        for (shift, unknown) in [(0, 0), (1, 2), (2, 3)] {
            let bytes = [&[0; 2][..shift], secret.as_bytes()].concat();
            let text = encoding.encode(&bytes);
            let end = text.len() - usize::from(bytes.len() % 3 != 0);
            forms.insert(text[unknown..end].to_owned());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = text.bytes().map(|byte| match byte {
        plain if is_plain(plain) => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    });
    escaped.collect()
}

#[test]
fn a_secret_is_known_wherever_it_stands_in_something_encoded() {
    let secret = "ASIA/secret+key=of.somebody";
    let forms = forms(secret);
    for before in ["", "x", "Bearer ", "{\"token\":\""] {
        for after in ["", "\"", "\"}"] {
            let whole = format!("{before}{secret}{after}");
            for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
                let text = encoding.encode(whole.as_bytes());
                assert!(forms.iter().any(|form| text.contains(form)), "{whole}");
            }
        }
    }
    assert!(forms.contains("ASIA%2Fsecret%2Bkey%3Dof.somebody"));
}

#[test]
fn a_tokens_signature_alone_is_known() {
    assert!(forms("head.claims.the-signature-of-it").contains("the-signature-of-it"));
}

#[tokio::test]
async fn what_is_in_a_file_is_found_in_whatever_surrounds_it() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let below = directory.path().join("a/b");
    fs::create_dir_all(&below)?;
    fs::write(below.join("binary"), b"\0\xff\xfe\n\0secret-of-somebody\0\xff")?;
    fs::write(below.join("other"), "secret-of-nobody")?;
    let forms = [("it".to_owned(), "secret-of-somebody".to_owned())];
    let found = search(&forms, &[directory.path()]).await?;
    ensure!(found.len() == 1 && found[0].file == below.join("binary"), "{found:?}");
    ensure!(found[0].what == "it");
    Ok(())
}
