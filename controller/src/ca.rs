//! The control plane's certificate authority for one machine: made at start, in memory, never written.
//!
//! Workers trust it, and it vouches for one certificate only: this process's, in the role of a gateway.
//! Its own key is dropped as soon as that is signed.

use anyhow::Context;
use patchbay_core::pin::Role;
use patchbay_gateway::forward::pinned::GatewayCertificate;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::PrivateKeyDer;

/// What comes of a start.
pub(crate) struct LocalCa {
    /// The authority's certificate, PEM, for workers to trust.
    pub(crate) roots: String,
    /// This process's certificate.
    pub(crate) gateway: GatewayCertificate,
}

/// Makes an authority and the gateway's certificate.
pub(crate) fn make() -> anyhow::Result<LocalCa> {
    let ca_key = KeyPair::generate().context("no key for the certificate authority")?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Patchbay control plane (this machine)");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().context("no key for the gateway")?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Patchbay gateway");
    params.subject_alt_names = vec![SanType::URI(Role::Gateway.uri().try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow::anyhow!(error))?;
    Ok(LocalCa {
        roots: ca_certificate.pem(),
        gateway: GatewayCertificate { chain: vec![certificate.der().clone()], key },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_names_the_gateways_role_and_no_other() {
        let ca = make().unwrap();
        assert_eq!(Role::of_certificate(&ca.gateway.chain[0]), Some(Role::Gateway));
    }

    #[test]
    fn every_start_has_an_authority_of_its_own() {
        assert_ne!(make().unwrap().roots, make().unwrap().roots);
    }
}
