//! Where the programs under test are. They are built by `make build` (or `cargo build --workspace`), into
//! the same target directory as the tests.

use anyhow::{Context, ensure};
use std::path::PathBuf;

/// The path of one of this workspace's programs.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    // target/<profile>/deps/<test> -> target/<profile>/<name>
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .find(|dir| dir.join("deps").is_dir())
        .context("tests do not run from a target directory")?;
    let path = profile.join(name);
    ensure!(path.is_file(), "{} is missing: run `make build` first", path.display());
    Ok(path)
}

/// The worker as one static program, which `make worker-static` builds beside the others.
pub fn static_worker() -> anyhow::Result<PathBuf> {
    let beside = path("fixture-server")?;
    let target = beside.ancestors().nth(2).context("a target directory has profiles")?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let path = target.join("static").join(triple).join("release/patchbay-worker");
    ensure!(path.is_file(), "{} is missing: run `make worker-static` first", path.display());
    Ok(path)
}
