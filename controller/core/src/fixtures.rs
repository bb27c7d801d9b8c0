//! Small valid values for tests of this crate and of those that depend on it.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "values of tests"
)]

use crate::{
    class::{
        CredentialSource, Egress, Limits, LocalOptions, Profile, Resources, Start, TmpfsSizes,
        Transport, WorkerClass,
    },
    digest::Digest,
    id::{ClassName, ProviderName},
    idle::IdlePolicy,
    provider::{ApiKey, ApiKeys, IdentityProvider, Method, Provisioning},
};
use std::{collections::BTreeMap, time::Duration};

/// A generic HTTP class at `path`.
pub fn class(name: &str, path: &str) -> WorkerClass {
    WorkerClass {
        name: ClassName::parse(name).expect("valid name"),
        path: path.into(),
        host: None,
        image: "registry.example/server:1".into(),
        command: vec!["/usr/bin/server".into()],
        env: BTreeMap::new(),
        transport: Transport::Http {
            port: 8000,
            path: "/mcp".into(),
            ready_path: None,
        },
        profile: Profile::Generic,
        start: Start::Warm,
        resources: Resources {
            memory_bytes: 512 << 20,
            pids: 128,
        },
        tmpfs: TmpfsSizes {
            home: 16 << 20,
            tmp: 16 << 20,
            run: 1 << 20,
        },
        egress: Egress::default(),
        idle: IdlePolicy {
            idle_timeout: Duration::from_mins(15),
            max_age: None,
        },
        drain: Duration::from_secs(30),
        warm: 1,
        limits: Limits::default(),
        credentials: CredentialSource::None,
        local: LocalOptions::default(),
    }
}

/// A provider of API keys; the key with id `k` is `pb_k_secret` and belongs to subject `user-k`.
pub fn api_keys(name: &str, classes: &[&str], ids: &[&str]) -> IdentityProvider {
    IdentityProvider {
        name: ProviderName::parse(name).expect("valid name"),
        classes: classes
            .iter()
            .map(|c| ClassName::parse(*c).expect("valid name"))
            .collect(),
        provisioning: Provisioning::OnFirstContact,
        method: Method::ApiKeys(ApiKeys {
            issuer: format!("urn:patchbay:api-keys:{name}"),
            keys: ids
                .iter()
                .map(|id| ApiKey {
                    id: (*id).into(),
                    subject: format!("user-{id}"),
                    digest: Digest::of(format!("pb_{id}_secret").as_bytes()),
                    expires_at: None,
                })
                .collect(),
        }),
    }
}
