//! From a verified user and a class to temporary AWS keys: a role, narrowed by a session policy, assumed for the user.
//!
//! What is decided is decided as values (`role`, `policy`, `session`); `keys` has it done once for all who wait, and
//! `sts` does it. This module must not know workers, HTTP routing or who presents what.

mod connector;
mod keys;
mod policy;
mod role;
mod session;
mod sts;

pub use keys::Keys;
pub use sts::AwsSts;

use async_trait::async_trait;
use jiff::Timestamp;
use patchbay_core::{
    class::{self, PolicyClaims, SessionPolicy},
    entitlement::Entitlement,
    grant::{AwsGrant, GrantError},
    id::ClassName,
    identity::Identity,
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

/// Assumes roles.
#[async_trait]
pub trait Sts: Send + Sync + 'static {
    /// Keys of the role, in a session of this name.
    async fn assume(&self, assume: &Assume, session_name: &str) -> Result<AwsGrant, StsError>;
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
    Ok(Assume {
        role,
        source_identity: session::source_identity(&identity.issuer, &identity.subject),
        tags: session::tags(identity, &identity.tenant(class), &source.tags),
        policy,
        duration: source.duration.clamp(LEAST_DURATION, MOST_DURATION),
        external_id: source.external_id.clone(),
        region: source.region.clone(),
        endpoint: source.endpoint.clone(),
        subject: identity.subject.clone(),
    })
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
