//! The root keys of sessions, in a file that somebody else keeps: read again from time to time, and taken if it holds such
//! keys. It must not know what they are for.

use crate::certificates;
use arc_swap::ArcSwapOption;
use patchbay_core::session::SessionRoots;
use std::{path::PathBuf, sync::Arc};

/// Hands what the file holds to `roots`, now or as soon as it is there. Never ends; the caller drops it.
pub(crate) async fn follow(file: PathBuf, roots: Arc<ArcSwapOption<SessionRoots>>) {
    let take = |text: &str| {
        roots.store(Some(Arc::new(SessionRoots::parse(text.as_bytes())?)));
        tracing::info!("the root keys of sessions are used from now on");
        Ok(())
    };
    certificates::follow(("--session-keys", file), take).await;
}
