//! Which tools a user may call, and with what.
//!
//! A class's policy, what its profile knows of its server's tools ([`quilt`]), and what the user's claims allow make one
//! decision per call: it is allowed, or denied for a reason that says what is missing. Claims only narrow: a user whose
//! credential has none is bound by the class's lists, and by what their credentials may do. This module must not know
//! JSON-RPC, HTTP, or where claims come from.

pub mod buckets;
pub mod quilt;

use crate::{
    allowed::Allowed,
    class::Profile,
    enhanced::Level,
    strict_json::{Json, folded},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a class says of its server's tools.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolPolicy {
    /// The only tools that are offered; none = all that are not denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<BTreeSet<String>>,
    /// Tools that are never offered.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<String>,
    /// By tool, the permissions that claims have to have, in the place of the profile's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, BTreeSet<String>>,
    /// By tool, the arguments that name its buckets, in the place of the profile's own. Each has to be there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bucket_arguments: BTreeMap<String, BTreeSet<String>>,
    /// Whether tools may return signed URLs, which work for whoever has them.
    pub signed_urls: bool,
    /// Whether the list of tools is without those that are denied.
    pub hide_denied: bool,
}

/// A policy, and what is known of the server that it is for.
#[derive(Debug, Clone)]
pub struct Judge {
    policy: ToolPolicy,
    profile: Profile,
}

/// What bounds a user beside the class.
#[derive(Debug, Clone, Copy)]
pub enum Holds<'a> {
    /// Their credential says nothing: what it may do is all that bounds them.
    Everything,
    /// Their claims.
    Only(&'a Allowed),
    /// It is not known, so nothing is theirs.
    Nothing,
}

/// Why a call is denied. The texts are shown to the user; of the arguments they quote names of buckets alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The class does not offer it.
    #[error("The tool {0} is not offered here; use one that tools/list shows")]
    NotOffered(Shown),
    /// It would return signed URLs.
    #[error("The tool {tool} returns signed URLs, which are not offered here{}", hint(*.without))]
    SignedUrls {
        /// The tool.
        tool: Shown,
        /// The argument that makes it return none.
        without: Option<&'static str>,
    },
    /// The claims lack what it needs.
    #[error("Missing required permission(s): {}", .0.join(", "))]
    Missing(Vec<String>),
    /// Nobody said what it needs, and the claims narrow.
    #[error(
        "Missing required permission(s): nothing here says which permissions {0} needs, so no token has them"
    )]
    Unknown(Shown),
    /// A bucket is not one of the user's.
    #[error("Access denied to bucket {0}")]
    Bucket(String),
    /// It would act on buckets that the call does not name.
    #[error(
        "Access denied to buckets that are not named: say in `{argument}` which of yours {tool} is for"
    )]
    Unnamed {
        /// The tool.
        tool: Shown,
        /// The argument that names them.
        argument: String,
    },
    /// An argument may name a bucket, and nobody can say which.
    #[error(
        "Access denied: `{0}` names no bucket in a form that is read; write a bucket's name or `s3://bucket/key`"
    )]
    Unreadable(Shown),
    /// What the user may do is not known.
    #[error("Access denied: what this user may do is not known; send the request again later")]
    Unbound,
}

fn hint(without: Option<&'static str>) -> String {
    without.map_or_else(String::new, |argument| format!("; say `{argument}: false`"))
}

/// A name that a client wrote, as it may be shown: what is no plain word is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Longest name that is shown, bytes.
    const MOST: usize = 128;

    /// A name.
    pub fn of(name: &str) -> Self {
        let is_plain = (1..=Self::MOST).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'`'));
        Self(if is_plain { name.to_owned() } else { "of that name".to_owned() })
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a tool needs of claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The least level.
    pub level: Level,
    /// All of these permissions.
    pub permissions: Vec<String>,
    /// Arguments that have to name the buckets that it acts on; where there is none, it acts on no bucket but those
    /// that its arguments happen to name.
    pub bucket_arguments: Vec<String>,
}

/// Whether and how a tool returns signed URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedUrls {
    /// It returns none.
    Never,
    /// It returns nothing else.
    Always,
    /// It returns them unless this argument is `false`.
    Unless(&'static str),
}

impl Judge {
    /// The judge of a class; none where it has nothing to judge by. What a profile's server has to be kept from holds
    /// without a policy too.
    pub fn new(policy: Option<ToolPolicy>, profile: Profile) -> Option<Self> {
        let policy = match (policy, profile) {
            (Some(policy), _) => policy,
            (None, Profile::Quilt) => ToolPolicy { hide_denied: true, ..ToolPolicy::default() },
            (None, Profile::Generic) => return None,
        };
        Some(Self { policy, profile })
    }

    /// Whether denied tools are left out of the list.
    pub const fn hides_denied(&self) -> bool {
        self.policy.hide_denied
    }

    /// Whether `tool` can be called at all, whatever its arguments: those that cannot are not listed.
    pub fn offers(&self, holds: Holds<'_>, tool: &str) -> Result<(), Denied> {
        self.is_listed(tool)?;
        if !self.policy.signed_urls && self.signed_urls(tool) == SignedUrls::Always {
            return Err(Denied::SignedUrls { tool: Shown::of(tool), without: None });
        }
        match holds {
            Holds::Everything => Ok(()),
            Holds::Nothing => Err(Denied::Unbound),
            Holds::Only(allowed) => self.has_permissions(allowed, tool),
        }
    }

    /// Whether `tool` may be called with these arguments.
    pub fn call(
        &self,
        holds: Holds<'_>,
        tool: &str,
        arguments: Option<&Json<'_>>,
    ) -> Result<(), Denied> {
        self.offers(holds, tool)?;
        let nothing = Json::Null;
        let arguments = arguments.unwrap_or(&nothing);
        if let SignedUrls::Unless(argument) = self.signed_urls(tool)
            && !self.policy.signed_urls
            && !is_switched_off(arguments, argument)
        {
            let (tool, without) = (Shown::of(tool), Some(argument));
            return Err(Denied::SignedUrls { tool, without });
        }
        let Holds::Only(allowed) = holds else { return Ok(()) };
        if self.profile == Profile::Quilt && tool == quilt::RESOURCE_TOOL {
            self.resource_argument(allowed, arguments)?;
        }
        self.reaches_buckets(allowed, tool, arguments)
    }

    /// Whether a resource may be read. Only claims bear on it: lists are of tools.
    pub fn resource(&self, holds: Holds<'_>, uri: &str) -> Result<(), Denied> {
        match (holds, self.profile) {
            (Holds::Nothing, _) => Err(Denied::Unbound),
            (Holds::Everything, _) | (Holds::Only(_), Profile::Generic) => Ok(()),
            (Holds::Only(allowed), Profile::Quilt) => {
                let needs = quilt::resource(uri).ok_or_else(|| Denied::Unknown(Shown::of(uri)))?;
                has(allowed, &needs)
            }
        }
    }

    fn is_listed(&self, tool: &str) -> Result<(), Denied> {
        let refused = || Err(Denied::NotOffered(Shown::of(tool)));
        // a server that reads names in any case must not be told a denied one in another
        let same = |name: &String| folded(name) == folded(tool);
        if self.policy.deny.iter().any(same) {
            return refused();
        }
        match &self.policy.allow {
            Some(allow) if allow.contains(tool) => Ok(()),
            Some(_) => refused(),
            None if !tool.bytes().all(|byte| byte.is_ascii_graphic()) => refused(),
            None if self.profile == Profile::Quilt && quilt::is_withheld(&folded(tool)) => {
                refused()
            }
            None => Ok(()),
        }
    }

    fn signed_urls(&self, tool: &str) -> SignedUrls {
        match self.profile {
            Profile::Generic => SignedUrls::Never,
            Profile::Quilt => quilt::signed_urls(tool),
        }
    }

    /// What a tool needs; none where nobody said.
    fn needs(&self, tool: &str) -> Option<Needs> {
        let known = match self.profile {
            // what nobody knows anything of needs nothing
            Profile::Generic => Some(Needs::nothing()),
            Profile::Quilt => quilt::needs(tool),
        };
        let (permissions, arguments) =
            (self.policy.permissions.get(tool), self.policy.bucket_arguments.get(tool));
        if known.is_none() && permissions.is_none() {
            return None;
        }
        let mut needs = known.unwrap_or_else(Needs::nothing);
        if let Some(permissions) = permissions {
            needs.level = Level::Read;
            needs.permissions = permissions.iter().cloned().collect();
        }
        if let Some(arguments) = arguments {
            needs.bucket_arguments = arguments.iter().cloned().collect();
        }
        Some(needs)
    }

    fn has_permissions(&self, allowed: &Allowed, tool: &str) -> Result<(), Denied> {
        let needs = self.needs(tool).ok_or_else(|| Denied::Unknown(Shown::of(tool)))?;
        has(allowed, &needs)
    }

    /// Every bucket that the arguments name is one of the user's, and those that have to be named are.
    fn reaches_buckets(
        &self,
        allowed: &Allowed,
        tool: &str,
        arguments: &Json<'_>,
    ) -> Result<(), Denied> {
        if allowed.reaches_all() {
            return Ok(());
        }
        let needs = self.needs(tool).unwrap_or_else(Needs::nothing);
        let mut known: BTreeSet<String> =
            needs.bucket_arguments.iter().map(|it| folded(it)).collect();
        if self.profile == Profile::Quilt {
            known.extend(quilt::BUCKET_ARGUMENTS.map(folded));
        }
        let named = buckets::named(arguments, &|name| known.contains(&folded(name)))
            .map_err(|argument| Denied::Unreadable(Shown::of(&argument)))?;
        if let Some(other) = named.buckets.iter().find(|bucket| !allowed.reaches(bucket)) {
            return Err(Denied::Bucket(other.clone()));
        }
        let unnamed = needs.bucket_arguments.iter().find(|it| !named.arguments.contains(*it));
        match unnamed {
            Some(argument) => {
                Err(Denied::Unnamed { tool: Shown::of(tool), argument: argument.clone() })
            }
            None => Ok(()),
        }
    }

    /// A tool that reads a resource is that resource's reader.
    fn resource_argument(&self, allowed: &Allowed, arguments: &Json<'_>) -> Result<(), Denied> {
        let is_uri = |name: &str| folded(name) == quilt::RESOURCE_ARGUMENT;
        arguments.members().iter().filter(|(name, _)| is_uri(name)).try_for_each(|(name, value)| {
            match value {
                Json::Null => Ok(()),
                Json::Text(uri) => self.resource(Holds::Only(allowed), uri),
                _ => Err(Denied::Unreadable(Shown::of(name))),
            }
        })
    }
}

impl Needs {
    const fn nothing() -> Self {
        Self { level: Level::Read, permissions: Vec::new(), bucket_arguments: Vec::new() }
    }
}

fn has(allowed: &Allowed, needs: &Needs) -> Result<(), Denied> {
    let level = (allowed.level < needs.level).then(|| format!("level {}", needs.level.as_str()));
    let permissions = needs.permissions.iter().filter(|it| !allowed.permissions.contains(*it));
    let missing: Vec<String> = level.into_iter().chain(permissions.cloned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(Denied::Missing(missing)) }
}

/// Whether `argument` is `false`, and no other could be taken for it.
fn is_switched_off(arguments: &Json<'_>, argument: &str) -> bool {
    let like = folded(argument);
    let mut same = arguments.members().iter().filter(|(name, _)| folded(name) == like);
    let first = same.next().map(|(name, value)| name == argument && *value == Json::Bool(false));
    first == Some(true) && same.next().is_none()
}

#[cfg(test)]
mod tests;
