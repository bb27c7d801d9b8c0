//! From a verified user and a class to temporary AWS keys: a role, narrowed by a session policy, that is assumed for the
//! user or that their own token is exchanged for; the keys that the token carries; or, for one user, the gateway's own.
//!
//! What is decided is decided as values (`role`, `policy`, `session`, `exchange`, `carried`); `keys` has done once for
//! all who wait what STS must do, and `sts` does it. This module must not know workers, HTTP routing or who presents what.

mod carried;
#[cfg(feature = "sts")]
mod connector;
mod exchange;
mod keys;
mod policy;
mod role;
mod session;
#[cfg(feature = "sts")]
mod sts;

pub use exchange::Exchange;
pub use keys::Keys;
#[cfg(feature = "sts")]
pub use sts::{AwsSts, OwnIdentity};

use async_trait::async_trait;
use jiff::Timestamp;
use patchbay_core::{
    class::{self, CredentialSource, PolicyClaims, SessionPolicy, WorkerClass},
    entitlement::Entitlement,
    grant::{AwsGrant, GrantError, NoKeys},
    id::ClassName,
    identity::{Authenticated, Identity},
    role::RoleArn,
};
use policy::Claimed;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The shortest life that STS gives keys, and the longest.
const LEAST_DURATION: Duration = Duration::from_mins(15);
const MOST_DURATION: Duration = Duration::from_hours(12);

/// What STS is asked for one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assume {
    /// The role.
    pub role: RoleArn,
    /// Who the session says it is for, all of it, and unchangeable in roles that are assumed from it.
    pub source_identity: String,
    /// Tags, all transitive.
    pub tags: BTreeMap<String, String>,
    /// What is left of the role; none = all of it.
    pub policy: Option<String>,
    /// How long keys live: within what STS takes.
    pub duration: Duration,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The region of the endpoint, and of the user's data.
    pub region: String,
    /// An endpoint in the place of the region's own.
    pub endpoint: Option<String>,
    /// The user, for the session's name.
    pub subject: String,
}

/// How a user comes to AWS keys.
#[derive(Debug, Clone)]
pub enum Way {
    /// STS is asked for those of a role.
    Assume(Box<Assume>),
    /// STS is shown the user's token for those of a role.
    Exchange(Box<Exchange>),
    /// The user's token carries them.
    Carried(AwsGrant),
    /// They are the gateway's own, for data in this region.
    Own(String),
}

/// How a user of a class comes to AWS keys; none where the class gives none. Nobody is asked, and there is one way for a
/// class: where it leads nowhere, the user is refused.
pub fn way(
    class: &WorkerClass,
    user: &Authenticated,
    now: Timestamp,
) -> Result<Option<Way>, GrantError> {
    Ok(match &class.credentials {
        CredentialSource::None | CredentialSource::Catalog(_) => None,
        CredentialSource::AssumeRole(source) => {
            Some(Way::Assume(Box::new(assume(source, &class.name, &user.identity)?)))
        }
        CredentialSource::WebIdentity(source) => {
            Some(Way::Exchange(Box::new(exchange::exchange(source, user, now)?)))
        }
        CredentialSource::InlineClaims(source) => {
            Some(Way::Carried(carried::keys(source, user, now)?))
        }
        CredentialSource::Ambient(source) if source.is_for(&user.identity) => {
            Some(Way::Own(source.region.clone()))
        }
        CredentialSource::Ambient(_) => return Err(NoKeys::NotTheUser.into()),
    })
}

/// Assumes roles.
#[async_trait]
pub trait Sts: Send + Sync + 'static {
    /// Keys of the role, in a session of this name, by the gateway's own identity.
    async fn assume(&self, assume: &Assume, session_name: &str) -> Result<AwsGrant, StsError>;

    /// Keys of the role, in a session of this name, by the user's token alone.
    async fn exchange(&self, exchange: &Exchange, session_name: &str)
    -> Result<AwsGrant, StsError>;

    /// Temporary keys of the gateway's own identity, for data in this region.
    async fn own(&self, region: &str) -> Result<AwsGrant, StsError>;
}

/// Why STS gave no keys. The texts are for logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// The role's trust policy, or the gateway's own, does not allow it.
    #[error(
        "the role cannot be assumed: its trust policy, or the gateway's own policy, does not allow it"
    )]
    Denied,
    /// Policy and tags together are too large in AWS's own packing.
    #[error("AWS cannot pack the session policy and tags")]
    PackedTooLarge,
    /// Too many requests.
    #[error("STS is asked too often")]
    Throttled,
    /// STS failed, or cannot be reached.
    #[error("STS failed: {0}")]
    Failed(String),
    /// The gateway's own credentials are not good.
    #[error(
        "the gateway's own AWS credentials are not accepted ({0}); give its service account a role (IRSA or Pod \
         Identity), or renew the credentials of its environment"
    )]
    OwnCredentials(String),
    /// STS does not take what it is asked.
    #[error(
        "STS does not take the request ({0}); is the class's `duration` longer than the role's maximum session \
         duration?"
    )]
    Invalid(String),
    /// AWS does not take the user's token.
    #[error(
        "AWS does not take the user's token ({0}); the role's account needs an OIDC provider of its issuer and audience"
    )]
    TokenRefused(String),
    /// AWS says that the user's token has ended.
    #[error("the user's token has ended")]
    TokenEnded,
    /// STS gave something else than temporary keys.
    #[error("STS answered without temporary keys")]
    NotTemporary,
}

/// What to ask STS for a user of a class.
pub(crate) fn assume(
    source: &class::AssumeRole,
    class: &ClassName,
    identity: &Identity,
) -> Result<Assume, GrantError> {
    let (role, policy) = role_and_policy(source, identity)?;
    Ok(Assume {
        role,
        source_identity: session::source_identity(&identity.issuer, &identity.subject),
        tags: session::tags(identity, &identity.tenant(class), &source.tags),
        policy,
        duration: duration(source),
        external_id: source.external_id.clone(),
        region: source.region.clone(),
        endpoint: source.endpoint.clone(),
        subject: identity.subject.clone(),
    })
}

/// The user's role, and what is left of it; none = all of it.
fn role_and_policy(
    source: &class::AssumeRole,
    identity: &Identity,
) -> Result<(RoleArn, Option<String>), GrantError> {
    let role = role::role(&source.role, identity)
        .map_err(|error| GrantError::RoleDenied(error.to_string()))?;
    let policy = match claimed(source.claims.as_ref(), &identity.entitlement) {
        Some(claimed) => Some(
            policy::session_policy(&claimed, role.partition())
                .map_err(|too_large| GrantError::PolicyTooLarge(too_large.to_string()))?,
        ),
        None if source.session_policy == SessionPolicy::Required => {
            let why = "the class needs a token whose claims say which buckets and permissions are the user's";
            return Err(GrantError::RoleDenied(why.into()));
        }
        None => None,
    };
    Ok((role, policy))
}

/// How long keys are asked for: within what STS gives.
fn duration(source: &class::AssumeRole) -> Duration {
    source.duration.clamp(LEAST_DURATION, MOST_DURATION)
}

impl Assume {
    /// The session's name, for one that begins now.
    fn session_name(&self, now: Timestamp) -> String {
        session::session_name(&self.subject, now.as_second())
    }
}

/// What the claims narrow a user to; none where they do not speak of it. Of a standard token's two claims one alone
/// leaves nothing of the other.
fn claimed(names: Option<&PolicyClaims>, entitlement: &Entitlement) -> Option<Claimed> {
    if let Some(enhanced) = &entitlement.enhanced {
        let (permissions, buckets) = (enhanced.permissions.clone(), enhanced.buckets.clone());
        return Some(Claimed { permissions, buckets });
    }
    let PolicyClaims { buckets, permissions } = names?;
    let (buckets, permissions) =
        (entitlement.claims.get(buckets), entitlement.claims.get(permissions));
    (buckets.is_some() || permissions.is_some())
        .then(|| Claimed { permissions: words(permissions), buckets: words(buckets) })
}

/// A list of texts, or one text with words between spaces, as `scope` has them (RFC 8693, 4.2).
fn words(claim: Option<&Value>) -> BTreeSet<String> {
    match claim {
        Some(Value::String(text)) => text.split(' ').map(str::to_owned).collect(),
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
