//! Follows one kind of objects for ever: lists, watches, and begins again after pauses.
//!
//! What was seen last stays while the API server is away. This module must not know what objects mean.

use super::{connect::WATCH_SECONDS, metrics::Metrics};
use futures_util::StreamExt as _;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use patchbay_core::jitter;
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::pin, time::Duration};
use tokio::time::sleep;

/// Objects in one part of a list. A part is in memory whole, with all that nobody here looks at: of five hundred, the
/// library's own number, a gateway of ten thousand tenants keeps 70 MB more for ever, and is ready half a second sooner.
const PAGE: u32 = 50;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    /// What it is called in logs and metrics.
    pub(super) kind: &'static str,
    /// Labels that the objects have.
    pub(super) labels: Option<&'static str>,
}

/// Hands every event to `take`. Never ends; the caller drops it.
pub(super) async fn follow<K>(
    api: Api<K>,
    Followed { kind, labels }: Followed,
    metrics: Metrics,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config {
        label_selector: labels.map(str::to_owned),
        ..watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
    };
    let mut events = pin!(watcher(api, config));
    let mut pause = FIRST_PAUSE;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // that a list is about to be asked for proves nothing
                if !matches!(event, Event::Init) {
                    pause = FIRST_PAUSE;
                    metrics.followed(kind);
                }
                take(event);
            }
            Err(error) => {
                tracing::warn!(kind, error = &error as &dyn std::error::Error, "a watch broke");
                metrics.broke(kind);
                // gateways that lost one API server do not come back at one time
                sleep(jitter::pause(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
