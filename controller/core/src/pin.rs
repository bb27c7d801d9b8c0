//! Key pins and certificate roles: who is at the other end of a worker link.
//!
//! A worker proves itself by a key that was recorded when it enrolled, nothing else (invariant 3): its
//! certificate is self-signed and only carries the key. A gateway or an operator proves itself by a
//! certificate of the control plane's CA that names its role. This module turns certificates into those
//! two facts; it must not know TLS libraries' connection types or sockets.

use crate::digest::Digest;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::fmt;

/// SHA-256 of a public key in its `SubjectPublicKeyInfo` form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Digest);

/// The bytes are no X.509 certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid X.509 certificate")]
pub struct InvalidCertificate;

impl Fingerprint {
    /// The fingerprint of a public key (DER of its `SubjectPublicKeyInfo`).
    pub fn of_public_key(spki: &[u8]) -> Self {
        Self(Digest::of(spki))
    }

    /// The fingerprint of the key that a certificate carries.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let parsed =
            webpki::EndEntityCert::try_from(certificate).map_err(|_| InvalidCertificate)?;
        Ok(Self::of_public_key(&parsed.subject_public_key_info()))
    }

    /// Reads the form that [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Result<Self, crate::digest::InvalidDigest> {
        Digest::parse(text).map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a certificate of the control plane allows at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May bind and forward.
    Gateway,
    /// May enrol, drain, retire and read status.
    Operator,
}

impl Role {
    /// The role as a URI, the one subject alternative name of its certificate.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Gateway => "spiffe://patchbay.dev/role/gateway",
            Self::Operator => "spiffe://patchbay.dev/role/operator",
        }
    }

    /// The role that an already verified certificate names; none if it names none, or several.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
        let mut names = parsed.valid_uri_names();
        let name = names.next()?;
        if names.next().is_some() {
            return None;
        }
        [Self::Gateway, Self::Operator].into_iter().find(|role| role.uri() == name)
    }
}
