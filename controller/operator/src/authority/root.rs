//! Roots and the certificates that they sign.
//!
//! This module must not know when either is made, nor where they are kept.

use super::bundle;
use crate::total::{after, before};
use jiff::Timestamp;
use patchbay_core::pin::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use secrecy::{ExposeSecret as _, SecretString};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Clocks of nodes differ, and a certificate that is not valid yet is as good as none.
const SKEW: Duration = Duration::from_hours(1);

/// An authority that can sign.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its common name: of two that are trusted at a time, a certificate names the one that signed it.
    pub name: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: SecretString,
    /// When it was made.
    pub made: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// The roots of a control plane.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// The one that signs.
    pub current: Option<Root>,
    /// The one that will.
    pub next: Option<Root>,
}

/// A certificate of a role, and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: SecretString,
    /// The name of the root that signed it.
    pub issuer: String,
    /// When to replace it.
    pub renew: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// A key or a certificate that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {what}")]
pub struct IssueError {
    what: &'static str,
    #[source]
    source: rcgen::Error,
}

fn cannot(what: &'static str) -> impl FnOnce(rcgen::Error) -> IssueError {
    move |source| IssueError { what, source }
}

impl Roots {
    /// The certificates of all roots.
    pub fn certificates(&self) -> Vec<String> {
        [&self.current, &self.next].into_iter().flatten().map(|r| r.certificate.clone()).collect()
    }
}

impl Root {
    /// A new one.
    pub fn make(now: Timestamp, life: Duration) -> Result<Self, IssueError> {
        let name = format!("Patchbay control plane {}", Uuid::new_v4());
        let until = after(now, life);
        let key = KeyPair::generate().map_err(cannot("a key for a root"))?;
        let mut params = params(&name);
        params.not_before = SystemTime::from(before(now, SKEW)).into();
        params.not_after = SystemTime::from(until).into();
        let certificate = params.self_signed(&key).map_err(cannot("a root"))?;
        Ok(Self {
            name,
            certificate: bundle::encoded(certificate.der()),
            key: key.serialize_pem().into(),
            made: now,
            until,
        })
    }

    /// Signs a new key's certificate for a role.
    pub fn issue(
        &self,
        role: Role,
        now: Timestamp,
        life: Duration,
        renewal: Duration,
    ) -> Result<Certificate, IssueError> {
        let signer =
            KeyPair::from_pem(self.key.expose_secret()).map_err(cannot("use of a root"))?;
        let issuer = Issuer::new(params(&self.name), signer);
        let until = after(now, life).min(self.until);
        let key = KeyPair::generate().map_err(cannot("a key"))?;
        let named = |uri: &str| Ok::<_, rcgen::Error>(SanType::URI(uri.try_into()?));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, role.uri());
        params.subject_alt_names = vec![named(role.uri()).map_err(cannot("a role's name"))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = SystemTime::from(before(now, SKEW)).into();
        params.not_after = SystemTime::from(until).into();
        let certificate = params.signed_by(&key, &issuer).map_err(cannot("a certificate"))?;
        Ok(Certificate {
            certificate: bundle::encoded(certificate.der()),
            key: key.serialize_pem().into(),
            issuer: self.name.clone(),
            renew: after(now, renewal).min(until),
            until,
        })
    }

    #[cfg(test)]
    pub(super) fn stub(name: &str, made: Timestamp, until: Timestamp) -> Self {
        let certificate = bundle::encoded(&name.as_bytes().to_vec().into());
        Self { name: name.into(), certificate, key: "none".into(), made, until }
    }
}

/// What root and issuer have in common: they must say the same of themselves.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;
    use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    const DAY: Duration = Duration::from_hours(24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn is_trusted(certificate: &str, roots: &[&Root], now: i64) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let roots: Vec<_> = roots.iter().map(|root| der(&root.certificate)).collect();
        let anchors: Vec<_> =
            roots.iter().map(|root| anchor_from_trusted_cert(root).unwrap()).collect();
        let certificate = der(certificate);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
        EndEntityCert::try_from(&certificate)
            .unwrap()
            .verify_for_usage(
                aws_lc_rs::default_provider().signature_verification_algorithms.all,
                &anchors,
                &[],
                now,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .is_ok()
    }

    #[test]
    fn a_certificate_names_one_role_and_is_trusted_by_its_root_alone_in_its_time() {
        let now = 2_000_000_000;
        let [root, other] = [(); 2].map(|()| Root::make(at(now), DAY * 9).unwrap());
        let issued = root.issue(Role::Operator, at(now), DAY * 2, DAY).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        assert_eq!(Role::of_certificate(&der), Some(Role::Operator));
        assert_eq!((issued.renew, issued.until), (at(now + 86_400), at(now + 2 * 86_400)));
        let is_trusted = |roots: &[&Root], now| is_trusted(&issued.certificate, roots, now);
        assert!(is_trusted(&[&other, &root], now));
        assert!(!is_trusted(&[&other], now));
        assert!(is_trusted(&[&root], now - 3599));
        assert!(!is_trusted(&[&root], now + 2 * 86_400 + 1));
    }

    #[test]
    fn a_certificate_does_not_outlive_its_root() {
        let root = Root::make(at(0), DAY).unwrap();
        let issued = root.issue(Role::Gateway, at(3600), DAY, DAY).unwrap();
        assert_eq!((issued.renew, issued.until), (root.until, root.until));
    }

    #[test]
    fn no_key_is_shown() {
        let root = Root::make(at(0), DAY).unwrap();
        let issued = root.issue(Role::Gateway, at(0), DAY, DAY).unwrap();
        let shown = format!("{root:?} {issued:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
