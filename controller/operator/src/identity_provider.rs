//! What is said of a provider: whether its spec can be used, and what stands for as long as it is so.
//!
//! Whether keys and catalogs can be reached is the gateways' to see, who say it in their logs. This module must not know
//! how a credential is verified.

use jiff::Timestamp;
use patchbay_core::provider::{Method, NamedBy, TokenFormat};
use patchbay_crds::{
    IdentityProvider,
    condition::{Condition, ConditionStatus, set_condition},
    identity_provider::IdentityProviderStatus,
    validate::identity_provider::validate,
};

/// Whether its users can be let in.
pub const READY: &str = "Ready";
/// Users are believed to be who their enhanced tokens say.
pub const KEY_HELD_BY_SERVERS_ONLY: &str = "KeyHeldByServersOnly";

const MOST_MESSAGE: usize = 1024;

/// The status that follows from a provider, if it is not known already.
pub fn status(provider: &IdentityProvider, now: Timestamp) -> Option<IdentityProviderStatus> {
    let known = provider.status.clone().unwrap_or_default();
    let generation = provider.metadata.generation;
    let mut conditions = known.conditions.clone();
    let condition = |type_: &str, status, reason: &str, message: String| Condition {
        type_: type_.into(),
        status,
        reason: reason.into(),
        message: message.chars().take(MOST_MESSAGE).collect(),
        last_transition_time: now,
        observed_generation: generation,
    };
    let validated = validate(provider);
    let ready = match &validated {
        Ok(_) => condition(
            READY,
            ConditionStatus::True,
            "Valid",
            "What is written can be used; whether keys and catalog can be reached is in the gateways' logs".into(),
        ),
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let message = format!("It lets nobody in. {}", errors.join(". "));
            condition(READY, ConditionStatus::False, "InvalidSpec", message)
        }
    };
    set_condition(&mut conditions, ready);
    if validated.is_ok_and(|provider| believes_tokens(&provider.method)) {
        let message = "Users are who their enhanced tokens say: whoever has the key, such as a browser, can be \
                       anybody. Name a `catalog` in its place unless only servers have it";
        let stated =
            condition(KEY_HELD_BY_SERVERS_ONLY, ConditionStatus::True, "Stated", message.into());
        set_condition(&mut conditions, stated);
    } else {
        conditions.retain(|condition| condition.type_ != KEY_HELD_BY_SERVERS_ONLY);
    }
    let next = IdentityProviderStatus { observed_generation: generation, conditions };
    (next != known).then_some(next)
}

fn believes_tokens(method: &Method) -> bool {
    match method {
        Method::Jwt(jwt) => match &jwt.format {
            TokenFormat::QuiltEnhanced(format) => format.named_by == NamedBy::Token,
            TokenFormat::Standard => false,
        },
        Method::Introspection(_) | Method::ApiKeys(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn provider(generation: i64, jwt: &Value) -> IdentityProvider {
        let mut all = json!({
            "issuer": "quilt-frontend", "audiences": ["a"], "algorithms": ["HS256"],
            "jwks": { "secretRef": { "name": "s", "key": "k" } }, "format": "quiltEnhanced",
        });
        all.as_object_mut().unwrap().extend(jwt.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": { "name": "p", "generation": generation },
            "spec": { "classes": ["c"], "jwt": all },
        }))
        .unwrap()
    }

    fn stated() -> Value {
        json!({ "keyHeldByServersOnly": true })
    }

    fn asked() -> Value {
        json!({ "catalog": { "origin": "https://c.example", "registry": "https://r.example" } })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn conditions(status: &IdentityProviderStatus) -> Vec<(&str, ConditionStatus)> {
        let of = |condition: &'_ Condition| condition.status;
        status.conditions.iter().map(|it| (it.type_.as_str(), of(it))).collect()
    }

    #[test]
    fn a_token_that_is_believed_is_a_condition_for_as_long_as_it_is() {
        let mut object = provider(1, &stated());
        let first = status(&object, at(1)).unwrap();
        let yes = ConditionStatus::True;
        assert_eq!(conditions(&first), [(READY, yes), (KEY_HELD_BY_SERVERS_ONLY, yes)]);
        object.status = Some(first.clone());
        assert_eq!(status(&object, at(9)), None);
        let mut corrected = provider(2, &asked());
        corrected.status = Some(first);
        let second = status(&corrected, at(9)).unwrap();
        assert_eq!(conditions(&second), [(READY, yes)]);
        assert_eq!(second.observed_generation, Some(2));
    }

    #[test]
    fn a_provider_that_cannot_be_used_says_what_is_wrong_with_which_field() {
        let said = status(&provider(1, &json!({})), at(1)).unwrap();
        assert_eq!(conditions(&said), [(READY, ConditionStatus::False)]);
        let message = &said.conditions[0].message;
        assert!(message.contains("spec.jwt.format") && message.contains("catalog"), "{message}");
    }
}
