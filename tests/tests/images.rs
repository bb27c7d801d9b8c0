//! What the Dockerfiles have in common with the rest of the tree. No image is built here.

use anyhow::{Context, ensure};
use patchbay_tests::repository::repository;
use std::fs;

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())
}

/// The instructions of a Dockerfile's last stage.
fn last_stage(dockerfile: &str) -> Vec<&str> {
    let lines: Vec<_> = dockerfile.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap_or(0);
    lines.into_iter().skip(begin).filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn every_image_runs_as_nobody_and_ours_hold_one_file() -> anyhow::Result<()> {
    for name in ["controller", "worker", "quilt"] {
        let dockerfile = read(&format!("images/{name}/Dockerfile"))?;
        let stage = last_stage(&dockerfile);
        let user = stage.iter().find_map(|line| line.strip_prefix("USER ")).context("no user")?;
        // a number, so that `runAsNonRoot` can be decided without the image's files
        let ids = user.split(':').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        ensure!(ids.len() == 2 && ids.iter().all(|id| *id >= 10_000), "{name}: {user}");
        if name != "quilt" {
            ensure!(stage.first() == Some(&"FROM scratch"), "{name}: {stage:?}");
            let copied = stage.iter().filter(|line| line.starts_with("COPY"));
            ensure!(copied.count() == 1, "{name}: {stage:?}");
        }
    }
    Ok(())
}

#[test]
fn images_are_built_by_the_toolchain_and_the_lock_that_everything_else_is() -> anyhow::Result<()> {
    let toolchain = read("rust-toolchain.toml")?;
    let channel = toolchain.split('"').nth(1).context("no channel")?;
    for name in ["controller", "worker"] {
        let dockerfile = read(&format!("images/{name}/Dockerfile"))?;
        let from = dockerfile.lines().find(|line| line.starts_with("FROM ")).context("no base")?;
        ensure!(from.starts_with(&format!("FROM rust:{channel}-")), "{name}: {from}");
    }
    let dockerfile = read("images/quilt/Dockerfile")?;
    let asked = read("images/quilt/requirements.in")?;
    let version = asked.split_once("--python-version ").context("no version")?.1;
    let version = version.split_whitespace().next().context("no version")?;
    let mut bases = dockerfile.lines().filter(|line| line.starts_with("FROM "));
    ensure!(
        bases.all(|from| from.starts_with(&format!("FROM python:{version}-slim"))),
        "{version}"
    );
    for needed in ["COPY requirements.txt", "--require-hashes", "--no-deps"] {
        ensure!(dockerfile.contains(needed), "{needed}");
    }
    Ok(())
}
