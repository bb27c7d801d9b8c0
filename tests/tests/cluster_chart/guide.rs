//! `docs/install.md` as a reader follows it: its commands, its values, and a directory to be in.

use anyhow::{Context, ensure};
use patchbay_tests::{chart::path, cluster::Cluster, repository::repository};
use serde_json::{Value, json};
use std::{cell::RefCell, collections::BTreeSet, fs, os::unix::fs::symlink};
use tempfile::TempDir;
use tokio::process::Command;

/// The namespace in the document.
pub(crate) const NAMESPACE: &str = "patchbay";
/// What begins the part for those who may not make everything.
const APART: &str = "\n## Without the right";

/// What a part of the document asks for: commands, and values.
pub(crate) struct Guide {
    commands: Vec<String>,
    pub(crate) values: Vec<Value>,
    followed: RefCell<BTreeSet<String>>,
}

/// The document's way from nothing, and its way without an administrator's rights.
pub(crate) fn guides() -> anyhow::Result<[Guide; 2]> {
    let text = fs::read_to_string(repository().join("docs/install.md"))?;
    let (whole, apart) = text.split_once(APART).context("the document has one part only")?;
    Ok([Guide::read(whole)?, Guide::read(apart)?])
}

fn is_command(line: &str) -> bool {
    line.starts_with("helm ") || line.starts_with("kubectl ")
}

impl Guide {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut guide =
            Self { commands: Vec::new(), values: Vec::new(), followed: RefCell::default() };
        for block in text.split("\n\n") {
            if !block.starts_with("    ") {
                // what is between two words of a sentence; of Helm only names are
                let words = block.split('`').skip(1).step_by(2);
                let commands = words.filter(|words| words.starts_with("kubectl "));
                guide.commands.extend(commands.map(str::to_owned));
                continue;
            }
            let lines: Vec<_> =
                block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
            let text = lines.join("\n");
            if is_command(&text) {
                let whole = text.replace("\\\n", "");
                ensure!(whole.lines().all(is_command), "commands and something else: {whole}");
                guide.commands.extend(whole.lines().map(str::to_owned));
            } else {
                guide.values.push(serde_saphyr::from_str(&text)?);
            }
        }
        Ok(guide)
    }

    /// The command that begins so.
    pub(crate) fn command(&self, beginning: &str) -> anyhow::Result<&str> {
        let mut found = self.commands.iter().filter(|command| command.starts_with(beginning));
        let command = found.next().with_context(|| format!("the document has no `{beginning}`"))?;
        ensure!(found.next().is_none(), "more than one `{beginning}`");
        Ok(command)
    }

    /// The same, to be followed.
    pub(crate) fn follow(&self, beginning: &str) -> anyhow::Result<&str> {
        let command = self.command(beginning)?;
        self.followed.borrow_mut().insert(command.to_owned());
        Ok(command)
    }

    /// Checks that no command of the document was left out.
    pub(crate) fn ensure_followed(&self) -> anyhow::Result<()> {
        let all: BTreeSet<_> = self.commands.iter().cloned().collect();
        let followed = self.followed.borrow();
        let left: Vec<_> = all.difference(&followed).collect();
        ensure!(left.is_empty(), "nobody followed {left:#?}");
        Ok(())
    }

    /// All values together, as they come together in the reader's file, up to a step.
    pub(crate) fn file(&self, steps: usize) -> Value {
        let mut all = json!({});
        for values in self.values.iter().take(steps) {
            if let (Some(all), Some(more)) = (all.as_object_mut(), values.as_object()) {
                all.extend(more.clone());
            }
        }
        all
    }
}

/// Somebody who follows the document, in a directory that has their file and the chart.
pub(crate) struct Reader<'a> {
    cluster: &'a Cluster,
    directory: TempDir,
    /// What the document's namespace is called here.
    namespace: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(cluster: &'a Cluster, namespace: &'a str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        symlink(path().parent().context("charts")?, directory.path().join("charts"))?;
        Ok(Self { cluster, directory, namespace })
    }

    /// Writes the file.
    pub(crate) fn write(&self, values: &Value) -> anyhow::Result<()> {
        Ok(fs::write(self.directory.path().join("values.yaml"), values.to_string())?)
    }

    /// Runs a command, as an administrator.
    pub(crate) async fn run(&self, command: &str) -> anyhow::Result<String> {
        self.run_as(None, command).await
    }

    /// Runs a command as this user.
    pub(crate) async fn run_as(&self, user: Option<&str>, command: &str) -> anyhow::Result<String> {
        let there = format!("namespace {}", self.namespace);
        let command = command.replace(&format!("namespace {NAMESPACE}"), &there);
        let (line, file) = match command.split_once(" > ") {
            Some((line, file)) => (line, Some(file)),
            None => (command.as_str(), None),
        };
        let mut words = line.split_whitespace();
        let (mut program, flag): (Command, _) = match words.next() {
            Some("helm") => (self.cluster.helm(), "--kube-as-user"),
            _ => (self.cluster.kubectl(), "--as"),
        };
        let words = words.map(|word| word.trim_matches('\''));
        program.args(words).args(user.into_iter().flat_map(|user| [flag, user]));
        let output = program.current_dir(self.directory.path()).output().await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}: {complaint}");
        if let Some(file) = file {
            fs::write(self.directory.path().join(file), &output.stdout)?;
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
