//! Which credential is looked at, and by whom.

use super::*;
use patchbay_core::{
    fixtures::{api_keys, class, jwt},
    provider::SecretEntry,
    routing::RouteTable,
};

fn sources() -> Sources {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Sources { crypto, cluster: None, named: None }
}

fn authenticator(providers: &[Arc<IdentityProvider>]) -> Authenticator {
    Authenticator::new(DigestKey::generate().unwrap(), providers, &sources()).unwrap()
}

async fn judge(
    authenticator: &Authenticator,
    providers: &[Arc<IdentityProvider>],
    key: &str,
) -> Result<Digest, AuthnError> {
    let classes = [Arc::new(class("c", "/mcp"))];
    let table = RouteTable::build(&classes, providers).unwrap();
    let presented = Presented::Bearer(key.into());
    let now = Timestamp::from_second(0).unwrap();
    let judged = authenticator.authenticate(presented, &table.routes()[0], now).await;
    judged.map(|admitted| admitted.user.digest).map_err(|refused| refused.error)
}

#[tokio::test]
async fn a_key_that_is_taken_out_is_refused_and_the_others_are_known_as_before() {
    let before = [Arc::new(api_keys("keys", &["c"], &["k1", "k2"]))];
    let first = authenticator(&before);
    let known = judge(&first, &before, "pb_k1_secret").await.unwrap();
    assert!(judge(&first, &before, "pb_k2_secret").await.is_ok());

    let after = [Arc::new(api_keys("keys", &["c"], &["k1"]))];
    let (second, unusable) = first.for_providers(&after, &sources());
    assert!(unusable.is_empty());
    let revoked = judge(&second, &after, "pb_k2_secret").await;
    assert_eq!(revoked, Err(AuthnError::RevokedKey));
    // nobody ever knew the one, and another provider not the other
    let unknown = judge(&second, &after, "pb_k2_another").await;
    assert_eq!(unknown, Err(AuthnError::InvalidKey));
    let others = [Arc::new(api_keys("others", &["c"], &["k3"]))];
    let (third, _) = second.for_providers(&others, &sources());
    assert_eq!(judge(&third, &others, "pb_k1_secret").await, Err(AuthnError::InvalidKey));
    // or every worker would be bound anew
    assert_eq!(judge(&second, &after, "pb_k1_secret").await, Ok(known));
}

#[test]
fn a_verifier_is_kept_as_long_as_its_method_is_the_same() {
    let before = [Arc::new(jwt("one", &["c"], "https://one"))];
    let first = authenticator(&before);
    let name = &before[0].name;
    let mut widened = jwt("one", &["c", "d"], "https://one");
    widened.provisioning = Provisioning::Preprovisioned;
    let (second, _) = first.for_providers(&[Arc::new(widened)], &sources());
    let verifier = |of: &Authenticator| of.verifiers[name].verifier.clone();
    assert!(Arc::ptr_eq(&verifier(&first), &verifier(&second)));
    let another = [Arc::new(jwt("one", &["c"], "https://two"))];
    let (third, _) = second.for_providers(&another, &sources());
    assert!(!Arc::ptr_eq(&verifier(&second), &verifier(&third)));
    assert!(third.for_providers(&[], &sources()).0.verifiers.is_empty());
}

#[test]
fn the_clusters_own_issuer_is_refused_where_there_is_no_cluster() {
    let mut provider = jwt("agents", &["c"], "https://kubernetes.default.svc");
    let Method::Jwt(rules) = &mut provider.method else { panic!() };
    rules.jwks = KeySource::Cluster;
    let key = DigestKey::generate().unwrap();
    let error = Authenticator::new(key, &[provider.into()], &sources()).err().unwrap();
    assert_eq!(error.provider.as_str(), "agents");
    assert!(matches!(error.source, Unusable::NoCluster));
}

#[test]
fn keys_in_a_secret_are_refused_where_there_is_no_place_of_secrets() {
    let mut provider = jwt("staff", &["c"], "https://i");
    let Method::Jwt(rules) = &mut provider.method else { panic!() };
    rules.jwks = KeySource::Secret(SecretEntry { name: "keys".into(), key: "k".into() });
    let key = DigestKey::generate().unwrap();
    let error = Authenticator::new(key, &[provider.into()], &sources()).err().unwrap();
    assert!(matches!(error.source, Unusable::NoSecrets));
    assert!(error.source.to_string().contains("--provider-secrets"));
}
