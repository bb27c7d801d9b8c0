//! The service account of all workers: it exists to be named by a token, and may do nothing.

use super::labels;
use crate::settings::Settings;
use k8s_openapi::{api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::ObjectMeta};

/// Its name.
pub const NAME: &str = "patchbay-worker";

/// The account. No role is ever bound to it.
pub fn service_account(settings: &Settings) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(labels::common()),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_gives_its_token_to_nobody_who_does_not_ask_by_name() {
        let account = service_account(&Settings::new("patchbay", "worker:1"));
        assert_eq!(account.automount_service_account_token, Some(false));
        assert_eq!((account.secrets.as_ref(), account.image_pull_secrets.as_ref()), (None, None));
        insta::assert_yaml_snapshot!(account);
    }
}
