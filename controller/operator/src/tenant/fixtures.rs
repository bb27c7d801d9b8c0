//! A tenant as small as it can be, for tests.

use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::Tenant;

pub(super) fn tenant() -> Tenant {
    Tenant::for_key(&TenantKey {
        issuer: "i".into(),
        subject: "s".into(),
        class: ClassName::parse("c").unwrap(),
        authority: Authority::unrestricted(),
    })
}
