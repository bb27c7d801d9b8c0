//! What workers trust: the roots in a `ConfigMap`, with when each was published and when it was retired.
//!
//! A retired root stays for as long as what it signed may be shown. One that nobody here knows, put in by hand, is
//! retired as well. This module must not know keys, clocks or a client.

use crate::total::{after, bounded};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use patchbay_core::digest::Digest;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The entry of the `ConfigMap`.
pub const CA_CRT: &str = "ca.crt";
/// The annotation that says of each root, by the SHA-256 of it, since when it is there.
const ROOTS: &str = "patchbay.dev/roots";
/// No bundle has more: what is retired goes.
const MOST: usize = 16;

/// The roots that workers trust.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle(Vec<Published>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    certificate: String,
    record: Record,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<Timestamp>,
}

impl Bundle {
    /// The bundle as it is published. What cannot be read is not there: it is published anew.
    pub fn of(map: &ConfigMap, now: Timestamp) -> Self {
        let records: BTreeMap<String, Record> = map
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| serde_json::from_str(all.get(ROOTS)?).ok())
            .unwrap_or_default();
        let text = map.data.as_ref().and_then(|data| data.get(CA_CRT));
        let certificates = text.map(|text| certificates(text)).unwrap_or_default();
        let stranger = Record { since: now, retired: Some(now) };
        let published = certificates.into_iter().map(|certificate| Published {
            record: records.get(&name(&certificate)).copied().unwrap_or(stranger),
            certificate,
        });
        Self(published.collect())
    }

    /// The bundle with these roots, each PEM, and without those that were retired longer than `overlap` ago.
    #[must_use]
    pub fn with(self, wanted: &[String], overlap: Duration, now: Timestamp) -> Self {
        let mut next: Vec<Published> = wanted
            .iter()
            .map(|certificate| {
                let known = self.0.iter().find(|known| known.certificate == *certificate);
                let since = known.map_or(now, |known| known.record.since);
                Published {
                    certificate: certificate.clone(),
                    record: Record { since, retired: None },
                }
            })
            .collect();
        let others = self.0.into_iter().filter(|known| !wanted.contains(&known.certificate));
        let retired = others.map(|mut known| {
            known.record.retired.get_or_insert(now);
            known
        });
        next.extend(retired.filter(|known| {
            known.record.retired.is_some_and(|retired| after(retired, overlap) > now)
        }));
        next.truncate(MOST.max(wanted.len()));
        Self(next)
    }

    /// Since when a root is published.
    pub fn since(&self, certificate: &str) -> Option<Timestamp> {
        let known = self.0.iter().find(|known| known.certificate == certificate)?;
        Some(known.record.since)
    }

    /// The roots, each PEM.
    pub fn certificates(&self) -> Vec<String> {
        self.0.iter().map(|known| known.certificate.clone()).collect()
    }

    /// When a retired root is to be taken out.
    pub fn due(&self, overlap: Duration) -> Option<Timestamp> {
        self.0.iter().filter_map(|known| Some(after(known.record.retired?, overlap))).min()
    }

    /// As a `ConfigMap`.
    pub fn config_map(&self, namespace: &str, name: &str) -> ConfigMap {
        let records: BTreeMap<String, Record> =
            self.0.iter().map(|known| (self::name(&known.certificate), known.record)).collect();
        let records = serde_json::to_string(&records).unwrap_or_default();
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                annotations: Some(BTreeMap::from([(ROOTS.to_owned(), records)])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(CA_CRT.to_owned(), self.certificates().concat())])),
            ..ConfigMap::default()
        }
    }
}

/// The certificates in a PEM text, each in the one form that this module writes. Anything else in it is left out.
pub fn certificates(text: &str) -> Vec<String> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .filter_map(|certificate| Some(encoded(&certificate.ok()?)))
        .collect()
}

/// A certificate as PEM.
pub(super) fn encoded(certificate: &CertificateDer<'_>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

/// What an annotation may say: enough of the digest to tell any two apart.
fn name(certificate: &str) -> String {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok();
    let digest = Digest::of(der.as_ref().map_or(certificate.as_bytes(), |der| der.as_ref()));
    bounded(&digest.to_string(), 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn root(n: u8) -> String {
        encoded(&CertificateDer::from(vec![n; 80]))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bundle =
            Bundle::default().with(&[root(1)], HOUR, at(0)).with(&[root(2), root(3)], HOUR, at(60));
        assert_eq!(bundle.certificates(), [root(2), root(3), root(1)]);
        let map = bundle.config_map("ns", "ca");
        assert_eq!(Bundle::of(&map, at(999)), bundle);
        assert_eq!(bundle.since(&root(2)), Some(at(60)));
    }

    #[test]
    fn a_retired_root_stays_for_the_overlap_and_one_that_comes_back_is_not_retired() {
        let bundle = Bundle::default().with(&[root(1)], HOUR, at(0)).with(&[root(2)], HOUR, at(10));
        assert_eq!(bundle.due(HOUR), Some(at(3610)));
        let still = bundle.clone().with(&[root(2)], HOUR, at(3609));
        assert_eq!(still.certificates(), [root(2), root(1)]);
        let back = still.with(&[root(1), root(2)], HOUR, at(3609));
        assert_eq!((back.due(HOUR), back.since(&root(1))), (None, Some(at(0))));
        assert_eq!(bundle.with(&[root(2)], HOUR, at(3610)).certificates(), [root(2)]);
    }

    #[test]
    fn a_root_that_was_put_in_by_hand_goes_after_the_overlap() {
        let mut map = Bundle::default().with(&[root(1)], HOUR, at(0)).config_map("ns", "ca");
        map.data.as_mut().unwrap().get_mut(CA_CRT).unwrap().push_str(&root(9));
        let bundle = Bundle::of(&map, at(5)).with(&[root(1)], HOUR, at(5));
        assert_eq!(bundle.certificates(), [root(1), root(9)]);
        assert_eq!(bundle.due(HOUR), Some(at(3605)));
    }

    #[test]
    fn what_is_not_a_certificate_is_left_out() {
        let text = format!("# a comment\n{}-----BEGIN CERTIFICATE-----\n!\n", root(1));
        assert_eq!(certificates(&text), [root(1)]);
        assert_eq!(Bundle::of(&ConfigMap::default(), at(0)), Bundle::default());
    }
}
