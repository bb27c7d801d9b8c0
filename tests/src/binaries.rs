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
