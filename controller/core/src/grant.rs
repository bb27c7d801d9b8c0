//! What a worker may hold for its tenant, and when one grant is better than another.
//!
//! A grant is the only thing in the system that carries a user's credentials to a worker. Its secrets
//! are [`SecretString`]s: they never appear in `Debug`, and are exposed by serialisation in one place,
//! the body of a bind (see [`crate::link`]). This module must not know where grants come from.

use crate::{allowed::Allowed, class::WorkerClass, digest::Digest, identity::Authenticated};
use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// Credentials for one tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Keyed digest of the credential that the grant was made from. It tells two grants of one tenant
    /// apart; nothing can be derived from it.
    pub credential: Digest,
    /// When the grant ends; none = it has no known end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Access to a Quilt catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogGrant>,
    /// Temporary AWS credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsGrant>,
    /// What the user's claims allow of the MCP server's tools; none = they say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,
}

/// Access to a Quilt catalog: the relay presents `bearer` to these two origins and to no other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogGrant {
    /// The catalog's origin, `https://host[:port]`.
    pub origin: String,
    /// The registry's origin.
    pub registry: String,
    /// The user's real bearer.
    #[serde(serialize_with = "expose")]
    pub bearer: SecretString,
    /// How long that is good, where it was made for the user; only who had it made knows. None = as long as the
    /// credential that the user presented.
    #[serde(skip)]
    pub lease: Option<Lease>,
}

/// How long something is good that was made for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When another one should take its place.
    pub renew_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// Temporary AWS credentials. Long-term keys are never granted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsGrant {
    /// The key's id (`ASIA...`).
    pub access_key_id: String,
    /// The secret key.
    #[serde(serialize_with = "expose")]
    pub secret_access_key: SecretString,
    /// The session token that makes the key temporary.
    #[serde(serialize_with = "expose")]
    pub session_token: SecretString,
    /// When the key ends.
    pub expires_at: Timestamp,
    /// The region of the user's data.
    pub region: String,
    /// When newer ones should take their place; only who had them made knows. None = nobody has newer ones for the
    /// same credential.
    #[serde(skip)]
    pub renew_at: Option<Timestamp>,
}

impl NoKeys {
    /// A stable word for logs, metrics and clients.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotAToken => "aws_token_required",
            Self::SaidByHolder => "aws_claims_not_trusted",
            Self::Missing => "aws_keys_missing",
            Self::Unusable(_) => "aws_keys_unusable",
            Self::LongTerm => "aws_keys_long_term",
            Self::NotTheUser => "aws_ambient_user",
            Self::NotForAws => "aws_token_audience",
            Self::TokenRefused => "aws_token_refused",
            Self::TokenEnded => "aws_token_expired",
            Self::Ended => "aws_keys_expired",
        }
    }
}

impl AwsGrant {
    /// Temporary credentials, or none where these are not.
    pub fn temporary(
        access_key_id: String,
        secret_access_key: SecretString,
        session_token: SecretString,
        expires_at: Timestamp,
        region: String,
    ) -> Option<Self> {
        let is_whole = is_temporary(&access_key_id, session_token.expose_secret())
            && !secret_access_key.expose_secret().is_empty();
        is_whole.then_some(Self {
            access_key_id,
            secret_access_key,
            session_token,
            expires_at,
            region,
            renew_at: None,
        })
    }
}

/// Whether keys of AWS have an end: only `ASIA` names a key of STS, and only a session token makes it one.
pub fn is_temporary(access_key_id: &str, session_token: &str) -> bool {
    access_key_id.starts_with("ASIA") && !session_token.is_empty()
}

pub(crate) fn expose<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// Where grants come from: the broker, as the gateway sees it.
#[async_trait]
pub trait GrantSource: Send + Sync + 'static {
    /// What a worker of `class` may hold for this user.
    async fn prepare(&self, class: &WorkerClass, user: &Authenticated)
    -> Result<Grant, GrantError>;
}

/// Why there is no grant. The texts are shown to the user: they name what to do and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The source of credentials refused the user's.
    #[error("{0} refused the credential")]
    Refused(String),
    /// The source of credentials cannot be reached, or failed.
    #[error("{who} is unavailable; try again")]
    Unavailable {
        /// The source.
        who: String,
        /// When it wants to be asked again, seconds; none = it did not say.
        retry_after: Option<u32>,
    },
    /// The user gets no AWS role, or no part of it.
    #[error("no AWS role is given to this user: {0}")]
    RoleDenied(String),
    /// What the user may do is more than one session policy can say.
    #[error(
        "this user's buckets and permissions do not fit into a session policy ({0}); use a token with fewer buckets"
    )]
    PolicyTooLarge(String),
    /// The user's credential leads to no AWS keys.
    #[error("no AWS keys are given to this user: {0}")]
    NoKeys(#[from] NoKeys),
}

impl GrantError {
    /// The source of credentials is unavailable, and did not say until when.
    pub fn unavailable(who: &str) -> Self {
        Self::Unavailable { who: who.to_owned(), retry_after: None }
    }
}

/// Why a credential leads to no AWS keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// It is none that an issuer signed.
    #[error("this needs a signed token, and the credential is none; present a token of the issuer")]
    NotAToken,
    /// Whoever holds it can have made its claims.
    #[error(
        "whoever holds this token can have made its claims, and such claims give no keys; ask your platform operator"
    )]
    SaidByHolder,
    /// It carries none.
    #[error("the token carries none; get one in which the issuer has put temporary keys")]
    Missing,
    /// What it carries are no keys, or they are of another region than the class's.
    #[error("{0}; ask the issuer of the token")]
    Unusable(&'static str),
    /// It carries keys that do not end.
    #[error(
        "the token carries long-term keys, which are never used; the issuer must put temporary ones (`ASIA`, with \
         a session token) into it"
    )]
    LongTerm,
    /// The class gives the gateway's own identity to somebody else.
    #[error(
        "the class gives this machine's own AWS identity to one user, by name, and that is another; ask for a class of your own"
    )]
    NotTheUser,
    /// It is not meant for whoever would exchange it.
    #[error("the token was not issued for AWS too; get one whose `aud` names what the class says")]
    NotForAws,
    /// AWS does not take it.
    #[error(
        "AWS does not take the token: it knows its issuer not, or not for this audience; ask your platform operator"
    )]
    TokenRefused,
    /// It has ended, or AWS says so.
    #[error("the token has ended; get a new one")]
    TokenEnded,
    /// Its keys have ended, or do so before they could be used.
    #[error("the keys in the token have ended; get a new token")]
    Ended,
}

/// What decides between two grants of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantStanding {
    /// Tells the credential that it was made from.
    pub credential: Digest,
    /// When the grant ends; none = it has no known end.
    pub expires_at: Option<Timestamp>,
    /// The grant's own provider refused it (a 401 seen by the relay).
    pub refused_upstream: bool,
}

impl GrantStanding {
    /// Whether a worker that holds a grant of this standing should take `offered` instead.
    ///
    /// It should if the current one has expired, was refused upstream, or ends earlier; otherwise the
    /// offer changes nothing, so that two live tokens of one user that alternate do not flap the grant
    /// (DESIGN, life of a worker, step 5). Of two that have no end, such as API keys, the one that was
    /// presented last counts: whoever rolls a key presents the new one, and then revokes the old one
    /// (ADR 20).
    pub fn yields_to(&self, offered: &Grant, now: Timestamp) -> bool {
        let expired = self.expires_at.is_some_and(|end| end <= now);
        let counts_less = match (self.expires_at, offered.expires_at) {
            (Some(current), Some(offered)) => current < offered,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.credential != offered.credential,
        };
        expired || self.refused_upstream || counts_less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn offered(credential: &str, end: Option<i64>) -> Grant {
        Grant {
            credential: Digest::of(credential.as_bytes()),
            expires_at: end.map(at),
            catalog: None,
            aws: None,
            allowed: None,
        }
    }

    fn live(credential: &str, end: Option<i64>) -> GrantStanding {
        let Grant { credential, expires_at, .. } = offered(credential, end);
        GrantStanding { credential, expires_at, refused_upstream: false }
    }

    #[test]
    fn a_later_end_replaces_and_an_earlier_one_does_not() {
        assert!(live("a", Some(100)).yields_to(&offered("b", Some(200)), at(0)));
        assert!(live("a", Some(100)).yields_to(&offered("a", Some(200)), at(0)));
        assert!(!live("a", Some(200)).yields_to(&offered("b", Some(100)), at(0)));
        assert!(!live("a", Some(100)).yields_to(&offered("b", Some(100)), at(0)));
    }

    #[test]
    fn an_expired_or_refused_grant_yields_to_anything() {
        assert!(live("a", Some(100)).yields_to(&offered("b", Some(50)), at(100)));
        let refused = GrantStanding { refused_upstream: true, ..live("a", None) };
        assert!(refused.yields_to(&offered("b", Some(1)), at(0)));
        assert!(refused.yields_to(&offered("a", None), at(0)));
    }

    #[test]
    fn a_grant_without_end_outlives_every_one_that_ends_and_gives_way_to_a_newer_one_without() {
        assert!(live("a", Some(100)).yields_to(&offered("b", None), at(0)));
        assert!(!live("a", None).yields_to(&offered("b", Some(100)), at(0)));
        assert!(!live("a", None).yields_to(&offered("a", None), at(0)));
        assert!(live("a", None).yields_to(&offered("b", None), at(0)));
    }

    #[test]
    fn two_live_grants_of_which_one_ends_never_replace_each_other_in_turn() {
        for (a, b) in [(Some(1), Some(2)), (Some(2), Some(2)), (None, Some(2))] {
            let there = live("a", a).yields_to(&offered("b", b), at(0));
            let back = live("b", b).yields_to(&offered("a", a), at(0));
            assert!(!(there && back), "{a:?} {b:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let grant = Grant {
            credential: Digest::of(b"x"),
            expires_at: None,
            catalog: Some(CatalogGrant {
                origin: "https://c".into(),
                registry: "https://r".into(),
                bearer: "hunter2".into(),
                lease: None,
            }),
            aws: Some(AwsGrant {
                access_key_id: "ASIAX".into(),
                secret_access_key: "hunter3".into(),
                session_token: "hunter4".into(),
                expires_at: at(0),
                region: "us-east-1".into(),
                renew_at: None,
            }),
            allowed: None,
        };
        assert!(!format!("{grant:?}").contains("hunter"));
    }

    #[test]
    fn a_long_term_key_is_never_granted() {
        let keys = |id: &str, token: &str| {
            AwsGrant::temporary(id.into(), "s".into(), token.into(), at(0), "us-east-1".into())
        };
        assert!(keys("ASIAX", "token").is_some());
        assert!(keys("AKIAX", "token").is_none() && keys("ASIAX", "").is_none());
    }
}
