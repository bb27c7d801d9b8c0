//! Logs: structured lines on stderr, JSON unless a person is watching.

use std::io::IsTerminal;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

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
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(filter_fn(is_for_logs));
    subscriber.with(lines).try_init().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Whether something may be told at all, whatever the filter asks for. Libraries tell whole requests and answers at their
/// lowest level, the SDK of AWS those with tokens and keys among them (invariant 2).
fn is_for_logs(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || metadata.target().starts_with("patchbay")
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::{io, sync::Arc};

    /// What was told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_do_not_tell_whole_requests_whatever_the_filter_asks_for() {
        let told = Told::default();
        let writer = told.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        let all = tracing_subscriber::registry().with(EnvFilter::new("trace"));
        tracing::subscriber::with_default(all.with(filter_fn(is_for_logs)).with(lines), || {
            tracing::trace!(target: "aws_smithy_runtime::client", "a request with a token");
            tracing::debug!(target: "aws_smithy_runtime::client", "a try");
            tracing::trace!(target: "patchbay_broker::aws", "of our own");
        });
        let told = String::from_utf8(told.0.lock().clone()).unwrap();
        assert!(!told.contains("token"), "{told}");
        assert!(told.contains("a try") && told.contains("of our own"), "{told}");
    }
}
