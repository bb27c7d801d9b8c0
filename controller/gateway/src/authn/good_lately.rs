//! Which API keys were good here lately, so that whoever holds one that is not any more is told so. Providers do not tell a
//! key that they never knew from one that they know no more. It must not know keys: it holds keyed digests.

use super::AuthnError;
use moka::future::Cache;
use patchbay_core::{
    digest::Digest,
    id::ProviderName,
    identity::{Identity, Mode},
};
use std::time::Duration;

/// For how long it is known that a key was good: its holder asks why it is not any more.
const KNOWN_FOR: Duration = Duration::from_hours(24);
/// Keys that are known. Of more than these, some are as if nobody had ever met them.
const MOST: u64 = 20_000;

/// The keys of all providers, of each by itself: one that was another's is no less unknown to it.
#[derive(Debug, Clone)]
pub(super) struct GoodLately(Cache<(ProviderName, Digest), ()>);

impl Default for GoodLately {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_live(KNOWN_FOR).build())
    }
}

impl GoodLately {
    /// The same verdict of a provider on a credential with this digest; on a key that was good before, and is unknown now, the
    /// word for it.
    pub(super) async fn told(
        &self,
        provider: &ProviderName,
        digest: Digest,
        judged: Result<Identity, AuthnError>,
    ) -> Result<Identity, AuthnError> {
        let key = (provider.clone(), digest);
        match &judged {
            Ok(identity) if identity.mode == Mode::ApiKey && !self.0.contains_key(&key) => {
                self.0.insert(key, ()).await;
            }
            Err(AuthnError::InvalidKey) if self.0.contains_key(&key) => {
                return Err(AuthnError::RevokedKey);
            }
            Ok(_) | Err(_) => {}
        }
        judged
    }
}
