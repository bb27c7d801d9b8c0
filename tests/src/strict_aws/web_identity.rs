//! What STS does with a token of somebody else's: it asks which OIDC provider of the account the token is of, and
//! whether the role trusts that one with it.
//!
//! Neither moto nor Patchbay has a part in it. This module must not know sessions or keys.

use super::asked::Form;
use crate::catalog::keys::SigningKey;
use anyhow::Context as _;
use http::StatusCode;
use iam_rs::{
    Arn, Context, Decision, IAMPolicy, IAMRequest, Principal, PrincipalId, evaluate_policy,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

/// The OIDC providers of an account, and what its roles trust.
#[derive(Default)]
pub(super) struct Trusted {
    providers: Mutex<Vec<Provider>>,
    roles: Mutex<BTreeMap<String, Value>>,
}

struct Provider {
    issuer: String,
    audience: String,
    key: DecodingKey,
}

/// Why STS gives nothing, by its own code.
#[derive(Debug)]
pub(super) struct NotTrusted {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) why: String,
}

impl NotTrusted {
    fn token(why: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, "InvalidIdentityToken");
        Self { status, code, why: why.into() }
    }
}

impl Trusted {
    /// As IAM is told of an issuer: its URL, for whom its tokens are, and its key.
    pub(super) fn add(&self, issuer: &str, audience: &str, key: &SigningKey) {
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        self.providers.lock().push(Provider { issuer, audience, key: key.decoding().clone() });
    }

    /// A role's trust policy, as one writes it for that issuer and audience.
    pub(super) fn let_assume(&self, role: &str, issuer: &str, audience: &str) {
        let host = host(issuer);
        let condition = json!({ "StringEquals": { format!("{host}:aud"): audience } });
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": provider_arn(role, host) },
            "Action": ACTION,
            "Condition": condition,
            // a trust policy has none, and the evaluator wants one
            "Resource": "*",
        }] });
        self.roles.lock().insert(role.to_owned(), policy);
    }

    /// Whether the token in this form may have the role in it.
    pub(super) fn check(&self, form: &Form) -> Result<(), NotTrusted> {
        let missing = || NotTrusted::token("no role or no token");
        let (role, token) =
            form.get("RoleArn").zip(form.get("WebIdentityToken")).ok_or_else(missing)?;
        let claims = self.verified(token)?;
        let denied = || NotTrusted {
            status: StatusCode::FORBIDDEN,
            code: "AccessDenied",
            why: format!("Not authorized to perform {ACTION}"),
        };
        match self.trusts(role, &claims) {
            Ok(true) => Ok(()),
            _ => Err(denied()),
        }
    }

    fn verified(&self, token: &str) -> Result<Value, NotTrusted> {
        let unknown = || NotTrusted::token("No OpenIDConnect provider found in your account");
        let said = jsonwebtoken::dangerous::insecure_decode::<Value>(token);
        let said = said.map_err(|_| NotTrusted::token("The token is no JWT"))?.claims;
        let providers = self.providers.lock();
        let provider = providers.iter().find(|it| said["iss"] == it.issuer.as_str());
        let provider = provider.ok_or_else(unknown)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.set_issuer(&[&provider.issuer]);
        validation.set_audience(&[&provider.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Value>(token, &provider.key, &validation);
        claims.map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => NotTrusted {
                status: StatusCode::BAD_REQUEST,
                code: "ExpiredTokenException",
                why: "Token expired".into(),
            },
            ErrorKind::InvalidAudience => NotTrusted::token("Incorrect token audience"),
            _ => NotTrusted::token("Couldn't verify the token's signature"),
        })
    }

    fn trusts(&self, role: &str, claims: &Value) -> anyhow::Result<bool> {
        let policy = self.roles.lock().get(role).cloned().context("it trusts nobody")?;
        let providers = self.providers.lock();
        let provider = providers.iter().find(|it| claims["iss"] == it.issuer.as_str());
        let provider = provider.context("no provider")?;
        let host = host(&provider.issuer);
        let subject = claims["sub"].as_str().context("no subject")?;
        // of several audiences, it is the one that the provider knows
        let context = Context::new()
            .with_string(format!("{host}:aud"), &provider.audience)
            .with_string(format!("{host}:sub"), subject);
        let principal = Principal::Federated(PrincipalId::String(provider_arn(role, host)));
        let request = IAMRequest::new_with_context(principal, ACTION, Arn::parse(role)?, context);
        let policy = IAMPolicy::from_json(&policy.to_string())?;
        Ok(evaluate_policy(&policy, &request)? == Decision::Allow)
    }
}

fn host(issuer: &str) -> &str {
    issuer.trim_start_matches("https://")
}

/// The provider of an issuer in the role's account.
fn provider_arn(role: &str, host: &str) -> String {
    let account = role.split(':').nth(4).unwrap_or_default();
    format!("arn:aws:iam::{account}:oidc-provider/{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://login.example";
    const ROLE: &str = "arn:aws:iam::123456789012:role/r";

    fn asked(trusted: &Trusted, key: &SigningKey, spoil: impl FnOnce(&mut Value)) -> &'static str {
        let mut claims = json!({ "iss": ISSUER, "aud": ["gateway", "aws"], "sub": "alice", "exp": 4_102_444_800_u64 });
        spoil(&mut claims);
        let token = key.sign(&claims).unwrap();
        let form = [("RoleArn", ROLE.to_owned()), ("WebIdentityToken", token)];
        let form = form.map(|(name, value)| (name.to_owned(), value)).into();
        trusted.check(&form).map_or_else(|refused| refused.code, |()| "ok")
    }

    #[test]
    fn a_token_is_taken_by_its_key_its_audience_its_end_and_the_roles_trust() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let trusted = Trusted::default();
        assert_eq!(asked(&trusted, &key, |_| {}), "InvalidIdentityToken");
        trusted.add(ISSUER, "aws", &key);
        assert_eq!(asked(&trusted, &key, |_| {}), "AccessDenied", "no role trusts it yet");
        trusted.let_assume(ROLE, ISSUER, "other");
        assert_eq!(asked(&trusted, &key, |_| {}), "AccessDenied");
        trusted.let_assume(ROLE, ISSUER, "aws");
        assert_eq!(asked(&trusted, &key, |_| {}), "ok");
        assert_eq!(asked(&trusted, &other, |_| {}), "InvalidIdentityToken");
        assert_eq!(
            asked(&trusted, &key, |it| it["aud"] = json!("gateway")),
            "InvalidIdentityToken"
        );
        assert_eq!(
            asked(&trusted, &key, |it| it["iss"] = json!("https://x")),
            "InvalidIdentityToken"
        );
        assert_eq!(asked(&trusted, &key, |it| it["exp"] = json!(1)), "ExpiredTokenException");
    }
}
