//! Logs: structured lines on stderr, JSON unless a person is watching.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber. `PATCHBAY_LOG` filters as `RUST_LOG` does; the default is `info`.
pub(crate) fn install() -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("PATCHBAY_LOG")
        .try_from_env()
        .or_else(|error| match std::env::var("PATCHBAY_LOG") {
            Ok(_) => Err(anyhow::anyhow!("PATCHBAY_LOG is not a filter: {error}")),
            Err(_) => Ok(EnvFilter::new("info")),
        })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("{error}"))
}
