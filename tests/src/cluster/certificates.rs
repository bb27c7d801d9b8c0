//! Who a cluster's processes are to each other: two authorities (one for etcd, so that no certificate of the
//! cluster opens it), a certificate for every process and for the administrator, and the key that signs
//! service account tokens. It must not know what the processes do.

use super::{addons::DOMAIN, addresses::Addresses, layout::Layout, state::write_private};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// The node's name.
pub(super) const NODE: &str = "node";

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// One who vouches.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Pair,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let own = Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), own })
    }

    /// For one who connects, as the user `name` of a group.
    fn client(&self, name: &str, group: Option<&str>) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(params, name, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// For one who is connected to, at these names and addresses.
    fn server(&self, name: &str, at: Vec<String>) -> anyhow::Result<Pair> {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(CertificateParams::new(at)?, name, usages)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Those who connect to the API server with a kubeconfig.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    /// The authority that vouches for the API server, in PEM.
    pub authority: String,
    /// May do everything.
    pub administrator: Pair,
    /// kube-controller-manager.
    pub controllers: Pair,
    /// kube-scheduler.
    pub scheduler: Pair,
    /// The node's kubelet.
    pub kubelet: Pair,
    /// kube-proxy.
    pub proxy: Pair,
    /// kube-router.
    pub firewall: Pair,
    /// kwok.
    pub kwok: Pair,
}

/// Makes them all; those that are read from files are written.
pub(super) fn make(layout: &Layout, addresses: Addresses) -> anyhow::Result<Clients> {
    let write = |name: &str, pair: &Pair| {
        write_private(&layout.pki(&format!("{name}.crt")), &pair.certificate)?;
        write_private(&layout.pki(&format!("{name}.key")), &pair.key)
    };
    let etcd = Authority::new("etcd")?;
    write("etcd-ca", &etcd.own)?;
    write("etcd", &etcd.server("etcd", vec!["127.0.0.1".to_owned()])?)?;
    write("etcd-client", &etcd.client("kube-apiserver", None)?)?;

    let cluster = Authority::new("kubernetes")?;
    write("ca", &cluster.own)?;
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut at: Vec<String> = names.map(str::to_owned).into();
    at.extend([addresses.api().to_string(), addresses.node().to_string()]);
    at.push(format!("kubernetes.default.svc.{DOMAIN}"));
    write("apiserver", &cluster.server("kube-apiserver", at)?)?;
    write("apiserver-kubelet", &cluster.client("kube-apiserver-kubelet", Some(MASTERS))?)?;
    write("kubelet", &cluster.server("kubelet", vec![addresses.node().to_string()])?)?;

    // RSA, because that is what service account tokens are signed with nearly everywhere
    let tokens = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    write_private(&layout.pki("service-accounts.key"), tokens.serialize_pem())?;

    Ok(Clients {
        administrator: cluster.client("administrator", Some(MASTERS))?,
        controllers: cluster.client("system:kube-controller-manager", None)?,
        scheduler: cluster.client("system:kube-scheduler", None)?,
        kubelet: cluster.client(&format!("system:node:{NODE}"), Some("system:nodes"))?,
        proxy: cluster.client("system:kube-proxy", None)?,
        firewall: cluster.client("system:kube-router", None)?,
        // it is a thousand kubelets, and the API server is not to hold it back for being one client
        kwok: cluster.client("kwok", Some(MASTERS))?,
        authority: cluster.own.certificate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::make_private;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn every_key_is_for_its_user_alone_and_etcd_has_an_authority_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        make_private(&layout.pki("")).unwrap();
        let clients = make(&layout, Addresses::new(200)).unwrap();

        let mut names = Vec::new();
        for entry in fs::read_dir(layout.pki("")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names.len(), 15, "{names:?}");
        let read = |name: &str| fs::read_to_string(layout.pki(name)).unwrap();
        assert_eq!(read("ca.crt"), clients.authority);
        assert_ne!(read("ca.crt"), read("etcd-ca.crt"));
        assert!(read("service-accounts.key").contains("PRIVATE KEY"));
    }
}
