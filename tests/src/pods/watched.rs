//! Waiting for what objects come to be, by watching them. Every wait has an end.

use anyhow::{Context, bail};
use futures_util::TryStreamExt as _;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _, reflector,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, hash::Hash, pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long anything may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(2);

/// Waits until `is_so` of all objects of a kind with these labels.
pub async fn all<K>(
    api: Api<K>,
    labels: impl Into<String>,
    what: &str,
    is_so: impl Fn(&[Arc<K>]) -> bool,
) -> anyhow::Result<Vec<Arc<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    all_within(LIMIT, api, labels, what, is_so).await
}

/// The same of what takes longer, or must not take so long.
pub async fn all_within<K>(
    limit: Duration,
    api: Api<K>,
    labels: impl Into<String>,
    what: &str,
    is_so: impl Fn(&[Arc<K>]) -> bool,
) -> anyhow::Result<Vec<Arc<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    watched(limit, api, watcher::Config::default().labels(&labels.into()), what, is_so).await
}

/// Waits until `is_so` of one object; none = it is gone.
pub async fn one<K>(
    api: Api<K>,
    name: impl Into<String>,
    what: &str,
    is_so: impl Fn(Option<&K>) -> bool,
) -> anyhow::Result<Option<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let name = name.into();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let what = format!("{name}: {what}");
    let found =
        watched(LIMIT, api, config, &what, |all| is_so(all.first().map(|object| &**object)))
            .await?;
    Ok(found.first().map(|object| (**object).clone()))
}

async fn watched<K>(
    limit: Duration,
    api: Api<K>,
    config: watcher::Config,
    what: &str,
    is_so: impl Fn(&[Arc<K>]) -> bool,
) -> anyhow::Result<Vec<Arc<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let writer = reflector::store::Writer::<K>::default();
    let reader = writer.as_reader();
    let stream = reflector(writer, watcher(api, config).default_backoff());
    let mut stream = pin!(stream);
    let mut is_whole = false;
    let waited = timeout(limit, async {
        loop {
            match stream.try_next().await {
                Ok(Some(event)) => is_whole |= matches!(event, watcher::Event::InitDone),
                Ok(None) => bail!("the watch ended"),
                // it goes on by itself
                Err(_) => continue,
            }
            if is_whole && is_so(&reader.state()) {
                return Ok(reader.state());
            }
        }
    });
    match waited.await {
        Ok(result) => result,
        Err(_) => {
            Err(anyhow::anyhow!("{:#?}", reader.state())).context(format!("not so in time: {what}"))
        }
    }
}
