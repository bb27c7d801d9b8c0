//! A control plane's certificate authority, and certificates of its roles.

use anyhow::anyhow;
use patchbay_core::pin::Role;
use patchbay_gateway::forward::pinned::GatewayCertificate;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use rustls_pki_types::PrivateKeyDer;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this role, and its key, as the texts of two files.
    pub fn files(&self, role: Role) -> anyhow::Result<(String, String)> {
        let (certificate, key) = self.issue(role)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A certificate of a server for this name, and its key, as the texts of two files.
    pub fn server(&self, name: &str) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }

    /// A certificate for this role, and its key. The type is the gateway's, whatever the role.
    pub fn certificate(&self, role: Role) -> anyhow::Result<GatewayCertificate> {
        let (certificate, key) = self.issue(role)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!(error))?;
        Ok(GatewayCertificate { chain: vec![certificate.der().clone()], key })
    }

    fn issue(&self, role: Role) -> anyhow::Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI(role.uri().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.0)?, key))
    }
}
