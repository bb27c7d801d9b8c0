//! The certificate by which this operator proves its role to workers. It must not know where it comes from.

use patchbay_core::pin::Role;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::fmt;

/// A certificate in the role of an operator, and its key.
pub struct LinkCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A certificate that no worker would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableCertificate {
    /// Not PEM, or none in it.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// Not PEM, or none in it.
    #[error("holds no private key in PEM")]
    NoKey,
    /// It names another role, or none.
    #[error("names no operator: its one URI must be `{}`", Role::Operator.uri())]
    OtherRole,
    /// The key is another certificate's.
    #[error("is not the certificate of this key")]
    OtherKey,
}

impl LinkCertificate {
    /// Of an operator's certificate (then intermediates) and its key.
    pub fn for_operator(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, UnusableCertificate> {
        let leaf = chain.first().ok_or(UnusableCertificate::NoCertificate)?;
        if Role::of_certificate(leaf) != Some(Role::Operator) {
            return Err(UnusableCertificate::OtherRole);
        }
        Self::new(chain, key)
    }

    /// Of any certificate (then intermediates) and its key. What it may do, workers decide.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, UnusableCertificate> {
        if chain.is_empty() {
            return Err(UnusableCertificate::NoCertificate);
        }
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|_| UnusableCertificate::NoKey)?;
        rustls::sign::CertifiedKey::new(chain.clone(), signing)
            .keys_match()
            .map_err(|_| UnusableCertificate::OtherKey)?;
        Ok(Self { chain, key })
    }

    /// Of an operator's two texts in PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, UnusableCertificate> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| UnusableCertificate::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| UnusableCertificate::NoKey)?;
        Self::for_operator(chain, key)
    }

    /// The certificate, then intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) const fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl fmt::Debug for LinkCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkCertificate").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(role: Role, key: &KeyPair) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(role.uri().try_into().unwrap())];
        params.self_signed(key).unwrap().pem()
    }

    fn read(chain: &str, key: &str) -> Result<LinkCertificate, UnusableCertificate> {
        LinkCertificate::from_pem(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn an_operators_certificate_and_its_own_key_are_taken_and_the_key_is_not_shown() {
        let key = KeyPair::generate().unwrap();
        let good = read(&certificate(Role::Operator, &key), &key.serialize_pem()).unwrap();
        assert_eq!(format!("{good:?}"), "LinkCertificate { chain: 1, .. }");
    }

    #[test]
    fn what_no_worker_would_take_is_refused_with_its_reason() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, pem) = (certificate(Role::Operator, &key), key.serialize_pem());
        let gateways = certificate(Role::Gateway, &key);
        for (chain, key, why) in [
            ("", pem.as_str(), UnusableCertificate::NoCertificate),
            (chain.as_str(), "", UnusableCertificate::NoKey),
            (gateways.as_str(), pem.as_str(), UnusableCertificate::OtherRole),
            (chain.as_str(), other.serialize_pem().as_str(), UnusableCertificate::OtherKey),
        ] {
            assert_eq!(read(chain, key).unwrap_err(), why);
        }
    }
}
