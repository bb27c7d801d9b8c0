//! From arguments to who vouches for the operator: itself, or whoever renews some files.

use super::args::AuthorityArgs;
use crate::certificates::{Files, Renewal, follow};
use anyhow::{Context, bail, ensure};
use futures_util::future::{BoxFuture, FutureExt as _};
use kube::Client;
use patchbay_operator::{
    Settings,
    authority::{Keeper, Names, Publisher, Terms, bundle},
    driver::Authority,
    link::{CurrentCertificate, LinkCertificate},
};
use tokio::sync::watch;

/// Who vouches, and what has to run for it.
pub(super) struct Vouching {
    pub(super) authority: Authority,
    /// Read files again, for ever.
    pub(super) renewals: Vec<BoxFuture<'static, ()>>,
}

pub(super) fn of(
    args: AuthorityArgs,
    client: &Client,
    settings: &Settings,
    certificate: &CurrentCertificate,
) -> anyhow::Result<Vouching> {
    let AuthorityArgs { ca_secret, gateway_link_secret, link_cert, link_key, link_ca } = args;
    let (namespace, terms) = (settings.namespace.clone(), Terms::default());
    match (ca_secret, gateway_link_secret, link_cert, link_key) {
        (Some(roots), Some(gateway), None, None) => {
            let bundle = settings.control_plane_ca.clone();
            let names = Names { namespace, roots, gateway, bundle };
            let keeper = Box::new(Keeper::new(client.clone(), names, terms));
            Ok(Vouching { authority: Authority::Kept(keeper), renewals: Vec::new() })
        }
        (None, None, Some(cert), Some(key)) => {
            let files = Files { cert: ("--link-cert", cert), key: ("--link-key", key) };
            let certificate = certificate.clone();
            let own = Renewal::new(files, move |pair| {
                let next = LinkCertificate::for_operator(pair.chain, pair.key)
                    .context("--link-cert and --link-key are of no use")?;
                certificate.store(Some(next.into()));
                Ok(())
            });
            let Some(link_ca) = link_ca else {
                return Ok(Vouching {
                    authority: Authority::Elsewhere,
                    renewals: vec![own.run().boxed()],
                });
            };
            let (sender, roots) = watch::channel(Vec::new());
            let reading = follow(("--link-ca", link_ca), move |text| {
                let roots = bundle::certificates(text);
                ensure!(!roots.is_empty(), "--link-ca holds no certificate in PEM");
                sender.send_replace(roots);
                Ok(())
            });
            let name = &settings.control_plane_ca;
            let publisher = Publisher::new(client.clone(), &namespace, name, terms.certificate);
            Ok(Vouching {
                authority: Authority::Published(Box::new(publisher), roots),
                renewals: vec![own.run().boxed(), reading.boxed()],
            })
        }
        // the command line allows no other
        _ => bail!(
            "--ca-secret and --gateway-link-secret, or --link-cert and --link-key, are needed"
        ),
    }
}
