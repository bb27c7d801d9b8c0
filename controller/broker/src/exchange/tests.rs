use super::*;
use parking_lot::Mutex;
use patchbay_core::{
    class::ExchangeClient, id::ProviderName, identity::Identity, tenant::Authority,
};
use serde_json::{Value, json};

const CATALOG: &str = "https://catalog.example";

/// Answers with what it is told, and keeps every form.
struct Endpoint {
    status: StatusCode,
    body: Value,
    forms: Mutex<Vec<Vec<(String, String)>>>,
}

impl Endpoint {
    fn new(status: StatusCode, body: Value) -> Arc<Self> {
        Arc::new(Self { status, body, forms: Mutex::default() })
    }

    fn granting(expires_in: u32) -> Arc<Self> {
        let body = json!({
            "access_token": "exchanged", "issued_token_type": answer::ACCESS_TOKEN,
            "token_type": "Bearer", "expires_in": expires_in,
        });
        Self::new(StatusCode::OK, body)
    }
}

#[async_trait]
impl TokenEndpoint for Endpoint {
    async fn post(
        &self,
        _: &TokenExchange,
        ca_bundle: Option<&str>,
        form: &[(&str, SecretString)],
    ) -> Result<Answered, String> {
        assert_eq!(ca_bundle, Some("pem"));
        let form =
            form.iter().map(|(name, value)| ((*name).to_owned(), value.expose_secret().to_owned()));
        self.forms.lock().push(form.collect());
        tokio::task::yield_now().await;
        let body = self.body.to_string().into_bytes().into();
        Ok(Answered { status: self.status, retry_after: Some(7), body })
    }
}

fn exchange() -> TokenExchange {
    TokenExchange {
        token_endpoint: "https://login.example/token".into(),
        audience: "catalog".into(),
        scope: Some("read write".into()),
        client: Some(ExchangeClient { id: "patchbay".into(), secret: None }),
    }
}

fn source(exchange: Option<TokenExchange>) -> CatalogSource {
    CatalogSource {
        origin: CATALOG.into(),
        registry: "https://registry.example".into(),
        region: "us-east-1".into(),
        ca_bundle: Some("pem".into()),
        audience: None,
        exchange: exchange.map(Box::new),
    }
}

fn user(issuer: &str, mode: Mode, credential: &str) -> Authenticated {
    Authenticated {
        identity: Identity {
            provider: ProviderName::parse("p").unwrap(),
            issuer: issuer.into(),
            subject: "alice".into(),
            entitlement: Arc::default(),
            authority: Authority::unrestricted(),
            mode,
            expires_at: None,
        },
        credential: credential.into(),
        digest: Digest::of(credential.as_bytes()),
    }
}

fn jwt(audience: &Value) -> String {
    let encode =
        |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}.c2ln", encode(&json!({"alg": "none"})), encode(&json!({"aud": audience})))
}

#[test]
fn a_credential_goes_as_it_is_only_to_whom_it_is_meant_for() {
    let (plain, exchanging) = (source(None), source(Some(exchange())));
    let staff = |audience: Value| user("https://staff.example", Mode::Jwt, &jwt(&audience));
    let shown = |source, user: &Authenticated| match would_show(source, user) {
        Ok(Shown::AsItIs) => "as it is",
        Ok(Shown::Exchanged(_)) => "exchanged",
        Err(GrantError::Refused(_)) => "refused",
        Err(error) => panic!("{error}"),
    };
    let is_exchanged = |audience| shown(&exchanging, &staff(audience)) == "exchanged";
    assert!(is_exchanged(json!("patchbay")));
    assert!(is_exchanged(json!(["patchbay", "catalog2"])));
    assert!(is_exchanged(Value::Null));
    assert!(is_exchanged(json!({"catalog": "catalog"})));
    for audience in [json!("catalog"), json!(["patchbay", "catalog"])] {
        assert_eq!(shown(&exchanging, &staff(audience)), "as it is");
    }
    for (audience, is_shown) in [
        (json!("patchbay"), "refused"),
        (json!("catalog"), "refused"),
        (Value::Null, "refused"),
        (json!("https://catalog.example.evil"), "refused"),
        (json!(["patchbay", CATALOG]), "as it is"),
        (json!("https://registry.example"), "as it is"),
    ] {
        assert_eq!(shown(&plain, &staff(audience.clone())), is_shown, "{audience}");
    }
    let named = CatalogSource { audience: Some("quilt".into()), ..source(None) };
    assert_eq!(shown(&named, &staff(json!(["patchbay", "quilt"]))), "as it is");
    assert_eq!(shown(&named, &staff(json!("patchbay"))), "refused");
    for (mode, credential) in [(Mode::ApiKey, "qk_a"), (Mode::Opaque, "opaque")] {
        let ours = user("urn:patchbay", Mode::ApiKey, "pb_a_b");
        for source in [&plain, &exchanging] {
            assert_eq!(shown(source, &ours), "refused");
            assert_eq!(shown(source, &user(CATALOG, mode, credential)), "as it is");
            let others = user("https://other.example", mode, credential);
            assert_eq!(shown(source, &others), "refused");
        }
    }
}

#[tokio::test]
async fn all_who_want_one_token_cause_one_exchange_of_the_form_of_the_standard() {
    let endpoint = Endpoint::granting(3600);
    let exchanges = Exchanges::new(endpoint.clone());
    let (source, wanted) = (source(None), exchange());
    let alice = user("https://staff.example", Mode::Jwt, "alice-token");
    let (a, b) = tokio::join!(
        exchanges.get(&source, &wanted, &alice),
        exchanges.get(&source, &wanted, &alice)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.bearer.expose_secret(), "exchanged");
    assert_eq!(a.lease, b.lease);
    assert_eq!(exchanges.get(&source, &wanted, &alice).await.unwrap().lease, a.lease);
    let form = |values: &[(&str, &str)]| -> Vec<(String, String)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let asked = form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "alice-token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "catalog"),
        ("scope", "read write"),
    ]);
    assert_eq!(*endpoint.forms.lock(), [asked]);
    // another user, and another class, are asked for on their own
    let bob = user("https://staff.example", Mode::Jwt, "bob-token");
    exchanges.get(&source, &wanted, &bob).await.unwrap();
    let elsewhere = TokenExchange { audience: "other".into(), ..wanted };
    exchanges.get(&source, &elsewhere, &alice).await.unwrap();
    assert_eq!(endpoint.forms.lock().len(), 3);
}

#[tokio::test]
async fn a_users_refusal_is_told_from_a_servers_failure_and_neither_is_remembered() {
    let alice = user("https://staff.example", Mode::Jwt, "alice-token");
    for (status, error, is_refusal) in [
        (StatusCode::BAD_REQUEST, "invalid_grant", true),
        (StatusCode::BAD_REQUEST, "invalid_target", true),
        (StatusCode::UNAUTHORIZED, "invalid_client", false),
        (StatusCode::SERVICE_UNAVAILABLE, "", false),
        (StatusCode::TOO_MANY_REQUESTS, "", false),
    ] {
        let endpoint = Endpoint::new(status, json!({ "error": error }));
        let exchanges = Exchanges::new(endpoint.clone());
        for _ in 0..2 {
            let refused = exchanges.get(&source(None), &exchange(), &alice).await.unwrap_err();
            assert_eq!(matches!(refused, GrantError::Refused(_)), is_refusal, "{refused:?}");
            assert!(!format!("{refused} {refused:?}").contains("alice-token"));
            if let GrantError::Unavailable { retry_after, .. } = refused {
                assert_eq!(retry_after, Some(7), "{status}");
            }
        }
        assert_eq!(endpoint.forms.lock().len(), 2);
    }
}

#[test]
fn a_token_is_renewed_before_it_ends_and_a_short_one_after_half_of_its_life() {
    let now = Timestamp::UNIX_EPOCH;
    for (life, renewed) in [(3600, 3300), (600, 300), (60, 30), (0, 0)] {
        let lease = lease(SignedDuration::from_secs(life), now);
        assert_eq!((lease.renew_at.as_second(), lease.ends_at.as_second()), (renewed, life));
    }
}
