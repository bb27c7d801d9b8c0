//! Watches providers and writes what is said of them. Nothing else follows from a provider here: who is let in is the
//! gateways' to decide.

use super::{context::Context, metrics::WriteKind, writes::WriteError};
use crate::{identity_provider::status, params::patch};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::Patch,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use patchbay_core::chain::Chain;
use patchbay_crds::IdentityProvider;
use serde_json::json;
use std::pin::pin;

/// How long a watch lasts, seconds, as those of the cache do.
const WATCH_SECONDS: u32 = 60;

/// Keeps the status of all providers; for ever.
pub(super) async fn keep(context: &Context, client: &Client) {
    let providers: Api<IdentityProvider> =
        Api::namespaced(client.clone(), &context.settings.namespace);
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let mut events = pin!(watcher(providers.clone(), config).default_backoff());
    // an older installation's operator may lack the right: that is told once
    let mut last = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(provider) | Event::InitApply(provider)) => {
                tell(context, &providers, &provider).await;
            }
            Ok(Event::InitDone) => last.clear(),
            Ok(Event::Init | Event::Delete(_)) => {}
            Err(error) => {
                context.metrics.watch_failures.inc();
                let error = Chain(&error).to_string();
                if error != last {
                    tracing::warn!(
                        error,
                        "providers cannot be watched; their status stays as it is"
                    );
                    last = error;
                }
            }
        }
    }
}

/// Writes the status of one provider if it is another. After a failure the next change, or list, tries again: a status
/// decides nothing.
async fn tell(context: &Context, providers: &Api<IdentityProvider>, provider: &IdentityProvider) {
    let Some(next) = status(provider, Timestamp::now()) else { return };
    // of this object as it was seen, or not at all
    let seen = json!({ "resourceVersion": provider.resource_version(), "uid": provider.uid() });
    let change = Patch::Merge(json!({ "metadata": seen, "status": next }));
    let (name, params) = (provider.name_any(), patch());
    let request = providers.patch_status(&name, &params, &change);
    match context.writes.send(WriteKind::ProviderStatus, request).await {
        // another version of it is on its way here, or its end
        Ok(_) | Err(WriteError::Conflict | WriteError::Gone) => {}
        Err(error) => {
            context.metrics.failed("provider_status");
            tracing::warn!(provider = name, error = error.text(), "its status cannot be written");
        }
    }
}
