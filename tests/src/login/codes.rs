//! The clients that an authorization server knows and the codes that it gave them. It turns what a client asks into a code,
//! once, and a code into whose token it is, once, and refuses whatever is not as OAuth 2.1 and RFC 8707 want it, in their
//! words. It must not know HTTP, nor how a token is made.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// What a client asks of the authorization endpoint.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Asked {
    pub(super) response_type: String,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) code_challenge: Option<String>,
    pub(super) code_challenge_method: Option<String>,
    pub(super) resource: Option<String>,
}

/// What a client shows at the token endpoint.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Shown {
    pub(super) grant_type: String,
    pub(super) client_id: String,
    pub(super) code: String,
    pub(super) redirect_uri: String,
    pub(super) code_verifier: String,
    pub(super) resource: Option<String>,
}

/// Whom a token is for, and at what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) user: String,
    pub(super) resource: String,
}

/// Why a client is not asked to come back: where to, nobody knows, or it is told there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The address to come back to is not the client's.
    Here(&'static str),
    /// There.
    There(&'static str),
}

/// Clients and codes.
#[derive(Debug, Default)]
pub(super) struct Codes {
    clients: HashMap<String, Vec<String>>,
    resources: HashSet<String>,
    open: HashMap<String, Code>,
}

#[derive(Debug)]
struct Code {
    asked: Asked,
    granted: Granted,
    challenge: String,
}

impl Codes {
    /// Tokens may be had for this resource.
    pub(super) fn protect(&mut self, resource: &str) {
        self.resources.insert(resource.to_owned());
    }

    /// A client that comes back to one of these addresses, each on its own machine (RFC 8252).
    pub(super) fn register(&mut self, addresses: Vec<String>) -> Result<String, &'static str> {
        let is_loopback = |address: &String| {
            let host =
                address.strip_prefix("http://").and_then(|rest| rest.split([':', '/']).next());
            matches!(host, Some("127.0.0.1" | "localhost"))
        };
        if addresses.is_empty() || !addresses.iter().all(is_loopback) {
            return Err("invalid_redirect_uri");
        }
        let client = uuid::Uuid::new_v4().to_string();
        self.clients.insert(client.clone(), addresses);
        Ok(client)
    }

    /// A code for a user who is logged in.
    pub(super) fn authorize(&mut self, asked: Asked, user: &str) -> Result<String, Refused> {
        let addresses =
            self.clients.get(&asked.client_id).ok_or(Refused::Here("invalid_client"))?;
        if !addresses.contains(&asked.redirect_uri) {
            return Err(Refused::Here("invalid_request"));
        }
        if asked.response_type != "code" {
            return Err(Refused::There("unsupported_response_type"));
        }
        let challenge = asked.code_challenge.clone().filter(|it| it.len() == 43);
        let method = asked.code_challenge_method.as_deref();
        let (Some(challenge), Some("S256"), Some(_)) = (challenge, method, &asked.state) else {
            return Err(Refused::There("invalid_request"));
        };
        let resource = asked.resource.clone().filter(|it| self.resources.contains(it));
        let resource = resource.ok_or(Refused::There("invalid_target"))?;
        let granted = Granted { user: user.to_owned(), resource };
        let code = uuid::Uuid::new_v4().to_string();
        self.open.insert(code.clone(), Code { asked, granted, challenge });
        Ok(code)
    }

    /// What a code is worth. Whatever comes of it, it is worth nothing from then on.
    pub(super) fn redeem(&mut self, shown: &Shown) -> Result<Granted, &'static str> {
        if shown.grant_type != "authorization_code" {
            return Err("unsupported_grant_type");
        }
        if !self.clients.contains_key(&shown.client_id) {
            return Err("invalid_client");
        }
        let Code { asked, granted, challenge } =
            self.open.remove(&shown.code).ok_or("invalid_grant")?;
        let is_the_same =
            asked.client_id == shown.client_id && asked.redirect_uri == shown.redirect_uri;
        if !is_the_same || challenge_of(&shown.code_verifier) != challenge {
            return Err("invalid_grant");
        }
        if shown.resource.as_ref() != Some(&granted.resource) {
            return Err("invalid_target");
        }
        Ok(granted)
    }
}

/// The challenge of a verifier (RFC 7636, S256).
fn challenge_of(verifier: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: &str = "https://gateway.example/mcp";
    const BACK: &str = "http://127.0.0.1:7777/callback";
    /// The pair of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn known() -> (Codes, Asked) {
        let mut codes = Codes::default();
        codes.protect(RESOURCE);
        let client_id = codes.register(vec![BACK.into()]).unwrap();
        let asked = Asked {
            response_type: "code".into(),
            client_id,
            redirect_uri: BACK.into(),
            state: Some("a state".into()),
            code_challenge: Some(CHALLENGE.into()),
            code_challenge_method: Some("S256".into()),
            resource: Some(RESOURCE.into()),
        };
        (codes, asked)
    }

    fn shown(client_id: &str, code: String) -> Shown {
        Shown {
            grant_type: "authorization_code".into(),
            client_id: client_id.into(),
            code,
            redirect_uri: BACK.into(),
            code_verifier: VERIFIER.into(),
            resource: Some(RESOURCE.into()),
        }
    }

    #[test]
    fn a_code_is_worth_its_users_token_at_the_resource_once() {
        let (mut codes, asked) = known();
        let shown = shown(&asked.client_id.clone(), codes.authorize(asked, "alice").unwrap());
        let granted = Granted { user: "alice".into(), resource: RESOURCE.into() };
        assert_eq!(codes.redeem(&shown), Ok(granted));
        assert_eq!(codes.redeem(&shown), Err("invalid_grant"));
    }

    /// What a client does wrongly at the token endpoint.
    type Wrong = fn(&mut Shown);

    #[test]
    fn what_is_not_as_it_was_asked_is_refused_and_spends_the_code() {
        let wrongs: [(Wrong, &str); 6] = [
            (|it| it.code_verifier = CHALLENGE.into(), "invalid_grant"),
            (|it| it.redirect_uri = "http://127.0.0.1:7778/callback".into(), "invalid_grant"),
            (|it| it.code = "another".into(), "invalid_grant"),
            (|it| it.resource = Some("https://other.example/mcp".into()), "invalid_target"),
            (|it| it.resource = None, "invalid_target"),
            (|it| it.grant_type = "password".into(), "unsupported_grant_type"),
        ];
        for (index, (wrong, error)) in wrongs.into_iter().enumerate() {
            let (mut codes, asked) = known();
            let good = shown(&asked.client_id.clone(), codes.authorize(asked, "alice").unwrap());
            let mut bad = good.clone();
            wrong(&mut bad);
            assert_eq!(codes.redeem(&bad), Err(error), "{index}");
            let was_shown = bad.code == good.code && bad.grant_type == good.grant_type;
            assert_eq!(codes.redeem(&good).is_err(), was_shown, "{index}");
        }
    }

    #[test]
    fn a_code_is_nothing_to_another_client() {
        let (mut codes, asked) = known();
        let code = codes.authorize(asked, "alice").unwrap();
        let other = codes.register(vec![BACK.into()]).unwrap();
        assert_eq!(codes.redeem(&shown("nobody", code.clone())), Err("invalid_client"));
        assert_eq!(codes.redeem(&shown(&other, code)), Err("invalid_grant"));
    }

    /// What a client asks wrongly.
    type Amiss = fn(&mut Asked);

    #[test]
    fn no_code_is_given_for_a_request_that_is_not_strict() {
        let wrongs: [(Amiss, Refused); 8] = [
            (|it| it.client_id = "nobody".into(), Refused::Here("invalid_client")),
            (|it| it.redirect_uri = format!("{BACK}/"), Refused::Here("invalid_request")),
            (|it| it.response_type = "token".into(), Refused::There("unsupported_response_type")),
            (|it| it.code_challenge = None, Refused::There("invalid_request")),
            (
                |it| it.code_challenge_method = Some("plain".into()),
                Refused::There("invalid_request"),
            ),
            (|it| it.state = None, Refused::There("invalid_request")),
            (|it| it.resource = None, Refused::There("invalid_target")),
            (|it| it.resource = Some(format!("{RESOURCE}/")), Refused::There("invalid_target")),
        ];
        for (index, (wrong, refused)) in wrongs.into_iter().enumerate() {
            let (mut codes, mut asked) = known();
            wrong(&mut asked);
            assert_eq!(codes.authorize(asked, "alice"), Err(refused), "{index}");
        }
    }

    #[test]
    fn clients_come_back_to_their_own_machine_alone() {
        let mut codes = Codes::default();
        for address in ["https://evil.example/", "http://127.0.0.1.evil.example/", "app:/back"] {
            assert_eq!(codes.register(vec![address.into()]), Err("invalid_redirect_uri"));
        }
        assert_eq!(codes.register(vec![]), Err("invalid_redirect_uri"));
    }
}
