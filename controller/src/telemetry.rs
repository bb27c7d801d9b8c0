//! Logs: structured lines on stderr, JSON unless a person is watching.

use anyhow::{Context as _, bail, ensure};
use std::{env::VarError, io::IsTerminal};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

const VARIABLE: &str = "PATCHBAY_LOG";

/// Installs the subscriber. `PATCHBAY_LOG` filters as `RUST_LOG` does, but for a name that stands alone and is no level; the
/// default is `info`.
pub(crate) fn install() -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) => filter(&text)?,
        Err(VarError::NotPresent) => EnvFilter::new("info"),
        Err(error) => bail!("{VARIABLE}: {error}"),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(filter_fn(is_for_logs));
    subscriber.with(lines).try_init().map_err(|error| anyhow::anyhow!("{error}"))
}

fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let directives = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    for directive in directives {
        // alone, it would be taken for the name of a part, and all else would be silent
        let is_clear = directive.contains(['=', '[']) || directive.parse::<LevelFilter>().is_ok();
        ensure!(
            is_clear,
            "{VARIABLE}: `{directive}` is no level; write off, error, warn, info, debug or trace, or a filter such as \
             `info,patchbay_gateway=debug`"
        );
    }
    let builder = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    builder.parse(text).with_context(|| format!("{VARIABLE} is not a filter"))
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
    fn a_word_that_is_no_level_is_refused_with_those_that_are() {
        for good in [
            "",
            "info",
            "WARN",
            "off",
            "debug,hyper=info",
            "patchbay=trace",
            "[span]=debug",
            "[span{a}]=info",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["warning", "verbose", "info,debugg", "patchbay_gateway", "a=b=c", "hyper=loud"]
        {
            let refused = format!("{:#}", filter(bad).unwrap_err());
            assert!(refused.starts_with("PATCHBAY_LOG"), "{bad}: {refused}");
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
