//! `patchbay contact`: what it tells of a contact that works, and of those that do not.

use anyhow::ensure;
use patchbay_tests::{
    binaries,
    controller::{ControllerConfig, api_key, fixture_documents},
};
use std::{fs, path::Path, process::Output};
use tokio::process::Command;

async fn contact(url: &str, credential: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(binaries::path("patchbay")?);
    Ok(command.args(["contact", "--url", url]).args(credential).kill_on_drop(true).output().await?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn each_step_of_a_contact_is_told_and_a_refusal_says_why() -> anyhow::Result<()> {
    let controller =
        ControllerConfig::new(fixture_documents("fixture", 1, &["alice"], "")?).start().await?;
    let url = controller.url("fixture");
    let files = tempfile::tempdir()?;
    let (good, bad) = (files.path().join("good"), files.path().join("bad"));
    fs::write(&good, format!("{}\n", api_key("alice")))?;
    fs::write(&bad, "pb_alice_wrong-wrong-wrong-wrong-wrong-wrong")?;

    for option in ["--api-key-file", "--token-file"] {
        let done = contact(url, &[option, &shown(&good)]).await?;
        let said = text(&done.stdout);
        ensure!(done.status.success(), "{said} {}", text(&done.stderr));
        let lines: Vec<_> = said.lines().collect();
        ensure!(lines.len() == 2, "{said}");
        ensure!(
            lines[0].starts_with("initialize   ok") && lines[0].contains("protocol 2"),
            "{said}"
        );
        ensure!(lines[1].starts_with("tools/list   ok") && lines[1].ends_with(" tools"), "{said}");
        ensure!(!lines[1].ends_with(" 0 tools"), "{said}");
    }

    let refused = contact(url, &["--token-file", &shown(&bad)]).await?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && said.contains("401"), "{said}");
    ensure!(said.contains("API key is not valid") && !said.contains("wrong-wrong"), "{said}");

    let nobody = contact("http://127.0.0.1:1/mcp", &["--token-file", &shown(&good)]).await?;
    let said = text(&nobody.stderr);
    ensure!(nobody.status.code() == Some(1) && said.contains("cannot be reached"), "{said}");

    let without = contact(url, &[]).await?;
    ensure!(without.status.code() == Some(2), "{}", text(&without.stderr));
    Ok(())
}
