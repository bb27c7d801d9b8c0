//! `patchbay login`: a catalog's login code becomes an API key of the catalog's, which clients then send.
//!
//! The code is exchanged once, for a session that makes the key and is forgotten. What is secret comes from standard
//! input or a file, and the key alone goes to standard output: `key=$(patchbay login ...)` works.

mod args;
mod catalog;

pub(crate) use args::LoginArgs;

use anyhow::{Context, ensure};
use catalog::Catalog;
use patchbay_crds::validate::address;
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs::{self, File},
    io::{IsTerminal, Read, Write, stdin, stdout},
    path::Path,
};

/// No code is longer, bytes.
const MAX_CODE_BYTES: u64 = 16 * 1024;

/// Prints the key.
pub(crate) fn run(args: LoginArgs) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(login(args))
}

async fn login(args: LoginArgs) -> anyhow::Result<()> {
    let LoginArgs { catalog, registry, name, expires_in_days, code_file, ca_file } = args;
    address::origin(&catalog).context("--catalog")?;
    ensure!(!name.trim().is_empty(), "--name must not be empty");
    let roots = ca_file
        .map(|file| {
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        })
        .transpose()?;
    let asked = Catalog::new(roots.as_deref())?;
    // a code is good once: what can be wrong without it is found out before
    let registry = match registry {
        Some(registry) => registry,
        None => asked.registry_of(&catalog).await?,
    };
    address::origin(&registry).context("the registry's origin (--registry)")?;
    let code = code(code_file.as_deref(), &registry)?;
    let session = asked.exchange(&registry, &code).await?;
    let key = asked.make_key(&registry, &session, &name, expires_in_days).await?;
    let end = key.expires_at.map_or(String::new(), |end| format!(", good until {end}"));
    eprintln!(
        "API key `{name}`{end}. It is shown this once; send it as `X-API-Key`, or as a bearer. \
         The catalog lists and revokes it."
    );
    writeln!(stdout(), "{}", key.secret.expose_secret())?;
    Ok(())
}

fn code(file: Option<&Path>, registry: &str) -> anyhow::Result<SecretString> {
    if let Some(path) = file {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        return read(file).with_context(|| format!("{shown}"));
    }
    if stdin().is_terminal() {
        eprintln!("Get a code at {registry}/login, paste it here, and end with Ctrl-D:");
    }
    read(stdin()).context("standard input")
}

fn read(from: impl Read) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    from.take(MAX_CODE_BYTES + 1).read_to_string(&mut text).context("it cannot be read as text")?;
    let text = zeroize::Zeroizing::new(text);
    ensure!(text.len() as u64 <= MAX_CODE_BYTES, "it holds no login code: it is too long");
    let code = text.trim();
    ensure!(!code.is_empty(), "it is empty: write the login code into it");
    Ok(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_bounded_text() {
        assert_eq!(read(&b" eyJpZCI6 \n"[..]).unwrap().expose_secret(), "eyJpZCI6");
        let long = "a".repeat(16 * 1024 + 1);
        for bad in [&b""[..], b" \n", b"\xff", long.as_bytes()] {
            assert!(read(bad).is_err());
        }
    }
}
