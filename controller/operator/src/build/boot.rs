//! A class's boot documents as one `ConfigMap` per revision.
//!
//! A file, and not arguments or annotations: the documents are read whole, may be long, and the two parts
//! each see their own alone. They hold no secret. The map is immutable and its name has the revision in it,
//! so that a pod of an old revision is never told what a new one says.

use super::{
    error::BuildError,
    labels,
    metadata::ClassRef,
    places::{self, AGENT_JSON, CONFIGURATION, HOST_JSON},
};
use crate::settings::Settings;
use k8s_openapi::api::core::v1::ConfigMap;
use patchbay_core::{boot::MAX_BOOT_BYTES, class::WorkerClass, launch};
use serde::Serialize;
use std::collections::BTreeMap;

/// The documents, by the names of their files.
pub(super) fn documents(class: &WorkerClass) -> Result<BTreeMap<String, String>, BuildError> {
    let agent = document(&launch::agent_boot(class, places::agent()))?;
    let host = document(&launch::host_boot(class, &class.command, places::host(class)))?;
    let mut documents =
        BTreeMap::from([(AGENT_JSON.to_owned(), agent), (HOST_JSON.to_owned(), host)]);
    if let Some(configuration) = launch::configuration(class) {
        documents.insert(CONFIGURATION.to_owned(), configuration.text);
    }
    Ok(documents)
}

fn document(boot: &impl Serialize) -> Result<String, BuildError> {
    let text = serde_json::to_string(boot)?;
    if text.len() as u64 > MAX_BOOT_BYTES {
        return Err(BuildError::TooLong(text.len()));
    }
    Ok(text)
}

pub(super) fn name(class: &WorkerClass, revision: &str) -> String {
    format!("{}-{revision}", class.name)
}

pub(super) fn config_map(
    class: ClassRef<'_>,
    settings: &Settings,
    revision: &str,
    documents: BTreeMap<String, String>,
) -> ConfigMap {
    let mut metadata = class.metadata(settings, Some(name(class.class, revision)));
    metadata.labels.get_or_insert_default().extend(labels::of([(labels::REVISION, revision)]));
    ConfigMap { metadata, data: Some(documents), immutable: Some(true), ..ConfigMap::default() }
}
