//! `patchbay tenant`: the manifest of a user's Tenant object.

use crate::args::TenantArgs;
use anyhow::ensure;
use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::Tenant;

/// Prints the manifest as YAML.
pub(crate) fn run(args: TenantArgs) -> anyhow::Result<()> {
    let TenantArgs { issuer, subject, class } = args;
    ensure!(!issuer.is_empty(), "--issuer must not be empty");
    ensure!(!subject.is_empty(), "--subject must not be empty");
    let key = TenantKey {
        issuer,
        subject,
        class: ClassName::parse(class)?,
        authority: Authority::unrestricted(),
    };
    let manifest = serde_saphyr::to_string(&Tenant::for_key(&key))?;
    print!("{manifest}");
    Ok(())
}
