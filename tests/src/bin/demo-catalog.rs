//! The catalog double as a program, for the demo. It reads the world (with the registry's secret
//! key) from standard input, so that the key is in no argument, environment or file:
//!
//!     moto_setup.py ENDPOINT | demo-catalog --ca-out ca.pem --credentials-out credentials.json
//!
//! When it listens it prints one JSON line that says where; it ends with SIGTERM or Ctrl-C.

use anyhow::{Context, bail};
use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use patchbay_tests::catalog::{Catalog, Config, record::Bearers, world::World};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tokio::signal::unix::{SignalKind, signal};

/// A Quilt catalog and registry that exist only to be shown and tested against.
#[derive(Debug, Parser)]
struct Args {
    /// Address of the catalog; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.2:0")]
    catalog: SocketAddr,
    /// Address of the registry.
    #[arg(long, default_value = "127.0.0.2:0")]
    registry: SocketAddr,
    /// Loopback address where the recorded requests can be read.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Names in the certificate: the catalog's host, then the registry's, then any others.
    #[arg(long = "name")]
    names: Vec<String>,
    /// Audience of the tokens beside the catalog.
    #[arg(long)]
    gateway_audience: String,
    /// How bearers are recorded.
    #[arg(long, value_enum, default_value_t)]
    bearers: Bearers,
    /// How long the users' tokens live, in minutes.
    #[arg(long, default_value_t = 720)]
    token_minutes: u32,
    /// Where the certificate authority is written, in PEM.
    #[arg(long)]
    ca_out: PathBuf,
    /// Where each user's token and API key are written, readable by their owner alone.
    #[arg(long)]
    credentials_out: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let catalog = Catalog::start(
        Config {
            catalog: args.catalog,
            registry: args.registry,
            control: args.control,
            names: args.names,
            gateway_audience: args.gateway_audience,
            bearers: args.bearers,
            ..Config::default()
        },
        read_world()?,
    )
    .await?;
    write_file(&args.ca_out, catalog.ca_pem())?;
    let lifetime = SignedDuration::from_mins(args.token_minutes.into());
    let credentials = credentials(&catalog, lifetime)?;
    write_file(&args.credentials_out, &credentials.to_string())?;

    let ready = json!({
        "catalogUrl": catalog.url(),
        "registryUrl": catalog.registry_url(),
        "controlUrl": catalog.control_url(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;

    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn read_world() -> anyhow::Result<World> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    if text.trim().is_empty() {
        bail!("no world on standard input: pipe the output of moto_setup.py in");
    }
    serde_json::from_str(&text).context("standard input describes no world")
}

/// `{"tokens": {<user>: ..}, "apiKeys": {<user>: ..}}`.
fn credentials(catalog: &Catalog, lifetime: SignedDuration) -> anyhow::Result<Value> {
    let mint = catalog.credentials();
    let (mut tokens, mut api_keys) = (Map::new(), Map::new());
    for user in &catalog.world().users {
        let claims = mint.claims(&user.name, Timestamp::now(), lifetime);
        tokens.insert(user.name.clone(), mint.key().sign(&claims)?.into());
        let api_key = mint.api_key(&user.name);
        api_keys.insert(user.name.clone(), api_key.expose_secret().into());
    }
    Ok(json!({ "tokens": tokens, "apiKeys": api_keys }))
}

/// Writes a file of mode 0600 that appears whole or not at all.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write beside {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
