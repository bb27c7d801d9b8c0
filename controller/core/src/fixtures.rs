//! Small valid values for tests of this crate and of those that depend on it.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "values of tests")]

use crate::{
    class::{
        CatalogSource, CredentialSource, Egress, Limits, LocalOptions, Profile, Resources,
        Scheduling, Start, TenantLimits, TmpfsSizes, Transport, WorkerClass,
    },
    digest::Digest,
    id::{ClassName, ProviderName},
    idle::IdlePolicy,
    provider::{
        ApiKey, ApiKeys, IdentityProvider, Introspection, JwksUrl, Jwt, KeySource, Method,
        Provisioning, SignatureAlgorithm, TokenFormat,
    },
    template::Templates,
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
        transport: Transport::Http { port: 8000, path: "/mcp".into(), ready_path: None },
        profile: Profile::Generic,
        start: Start::Warm,
        resources: Resources { memory_bytes: 512 << 20, pids: 128 },
        tmpfs: TmpfsSizes { home: 16 << 20, tmp: 16 << 20, run: 1 << 20 },
        egress: Egress::default(),
        idle: IdlePolicy { idle_timeout: Duration::from_mins(15), max_age: None },
        drain: Duration::from_secs(30),
        forget_after: None,
        warm: 1,
        limits: Limits::default(),
        per_tenant: TenantLimits::default(),
        tools: None,
        credentials: CredentialSource::None,
        templates: Templates::default(),
        local: LocalOptions::default(),
        scheduling: Scheduling::default(),
    }
}

/// A class of quilt-mcp with its catalog.
pub fn quilt_class(name: &str, path: &str) -> WorkerClass {
    WorkerClass {
        image: "registry.example/quilt:1".into(),
        command: vec!["/opt/quilt/bin/python".into()],
        transport: Transport::Http {
            port: 8000,
            path: "/mcp".into(),
            ready_path: Some("/health".into()),
        },
        profile: Profile::Quilt,
        credentials: CredentialSource::Catalog(CatalogSource {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            region: "us-east-1".into(),
            ca_bundle: None,
            audience: None,
            exchange: None,
        }),
        ..class(name, path)
    }
}

fn provider(name: &str, classes: &[&str], method: Method) -> IdentityProvider {
    IdentityProvider {
        name: ProviderName::parse(name).expect("valid name"),
        classes: classes.iter().map(|c| ClassName::parse(*c).expect("valid name")).collect(),
        provisioning: Provisioning::OnFirstContact,
        method,
    }
}

/// A provider of JWTs of `issuer` for the audience `patchbay`.
pub fn jwt(name: &str, classes: &[&str], issuer: &str) -> IdentityProvider {
    let jwt = Jwt {
        issuer: issuer.into(),
        audiences: vec!["patchbay".into()],
        jwks: KeySource::Url(JwksUrl { url: format!("{issuer}/jwks.json"), ca_bundle: None }),
        algorithms: vec![SignatureAlgorithm::RS256, SignatureAlgorithm::ES256],
        subject_claim: "sub".into(),
        required_claims: BTreeMap::new(),
        authority_claims: Vec::new(),
        authorization_server: None,
        format: TokenFormat::Standard,
    };
    provider(name, classes, Method::Jwt(jwt))
}

/// A provider that asks a catalog.
pub fn introspection(name: &str, classes: &[&str]) -> IdentityProvider {
    let introspection = Introspection {
        origin: "https://catalog.example".into(),
        registry: "https://registry.example".into(),
        ca_bundle: None,
    };
    provider(name, classes, Method::Introspection(introspection))
}

/// A provider of API keys; the key with id `k` is `pb_k_secret` and belongs to subject `user-k`.
pub fn api_keys(name: &str, classes: &[&str], ids: &[&str]) -> IdentityProvider {
    let key = |id: &&str| ApiKey {
        id: (*id).into(),
        subject: format!("user-{id}"),
        digest: Digest::of(format!("pb_{id}_secret").as_bytes()),
        expires_at: None,
    };
    let keys = ApiKeys {
        issuer: format!("urn:patchbay:api-keys:{name}"),
        keys: ids.iter().map(key).collect(),
    };
    provider(name, classes, Method::ApiKeys(keys))
}
