//! Which one provider may judge a credential: by the credential's form and the route, never by trying.
//!
//! `pb_` goes to the route's API keys, `qk_` to its introspection; a JWT whose `iss` is a provider's to
//! that one; anything else to the route's one introspection provider; else nobody (DESIGN,
//! `IdentityProvider`). This module must not verify anything.

use super::{AuthnError, presented::Presented};
use patchbay_core::provider::{API_KEY_PREFIX, IdentityProvider, Method, api_key_id};
use std::sync::Arc;

/// Chooses the provider.
pub fn choose<'a>(
    presented: &Presented,
    providers: &'a [Arc<IdentityProvider>],
) -> Result<&'a IdentityProvider, AuthnError> {
    let secret = presented.secret();
    if !secret.starts_with(API_KEY_PREFIX) {
        return Err(AuthnError::NotAccepted);
    }
    // Several providers of keys may serve one route; ids are unique across them (RouteTable::build), so
    // the id names the one provider. An unknown id is judged by the first: it answers as for any bad key.
    let id = api_key_id(secret);
    let mut with_keys = providers.iter().map(|provider| {
        let Method::ApiKeys(keys) = &provider.method;
        (provider, keys)
    });
    let owner = with_keys
        .clone()
        .find(|(_, keys)| keys.keys.iter().any(|key| Some(key.id.as_str()) == id))
        .or_else(|| with_keys.next())
        .ok_or(AuthnError::NotAccepted)?;
    Ok(owner.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::fixtures::api_keys;

    fn chosen_provider(
        key: &str,
        providers: &[Arc<IdentityProvider>],
    ) -> Result<String, AuthnError> {
        choose(&Presented::Bearer(key.into()), providers).map(|chosen| chosen.name.to_string())
    }

    #[test]
    fn a_patchbay_key_goes_to_the_provider_that_has_its_id() {
        let providers = [
            Arc::new(api_keys("a", &["c"], &["k1"])),
            Arc::new(api_keys("b", &["c"], &["k2"])),
        ];
        assert_eq!(chosen_provider("pb_k2_x", &providers).as_deref(), Ok("b"));
        assert_eq!(chosen_provider("pb_nope_x", &providers).as_deref(), Ok("a"));
    }

    #[test]
    fn a_credential_of_a_form_that_no_provider_judges_is_not_accepted() {
        let providers = [Arc::new(api_keys("a", &["c"], &["k1"]))];
        for other in ["qk_abc", "eyJ.eyJ.sig", "opaque"] {
            assert_eq!(
                chosen_provider(other, &providers),
                Err(AuthnError::NotAccepted),
                "{other}"
            );
        }
        assert_eq!(
            chosen_provider("pb_k1_x", &[]),
            Err(AuthnError::NotAccepted)
        );
    }
}
