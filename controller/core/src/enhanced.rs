//! The claims of a Quilt catalog's *enhanced* token, from their short and compressed forms to what they allow.
//!
//! The meaning is that of the catalog's own front end (quiltdata/quilt, `jwt-decompression-utils.js`), to the letter
//! where claims say something. Where they do not, that code has defaults, one of which lets a broken token read; here
//! nothing is allowed that is not said (issue 4). Claims narrow what a user may do. They never say who the user is, and
//! this module must not know how a token was verified.

mod bounds;

pub use bounds::{Bounds, LevelPermissions, RoleBounds};

use data_encoding::BASE64_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The permissions that have a short code (`EnhancedTokenGenerator`). A code that is none stands for itself.
const CODES: [(&str, &str); 8] = [
    ("g", "s3:GetObject"),
    ("p", "s3:PutObject"),
    ("d", "s3:DeleteObject"),
    ("l", "s3:ListBucket"),
    ("la", "s3:ListAllMyBuckets"),
    ("gv", "s3:GetObjectVersion"),
    ("pa", "s3:PutObjectAcl"),
    ("amu", "s3:AbortMultipartUpload"),
];

/// The bucket that means all of them, where permissions are checked.
pub const ALL_BUCKETS: &str = "*";

/// From a short code to the permission that it stands for, beside those of every catalog.
pub type Codes = BTreeMap<String, String>;

/// From another name of a role to the one by which it counts.
pub type Aliases = BTreeMap<String, String>;

/// Whether every catalog's tokens mean the same by this permission code.
pub fn is_common_code(code: &str) -> bool {
    CODES.iter().any(|(common, _)| *common == code)
}

/// What the claims of one token say. Lists are sets: neither order nor repetition means anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnhancedClaims {
    /// As the token says it; the front end always says `w`, so nothing is decided by it.
    pub scope: String,
    /// How much the user's role may do.
    pub level: Level,
    /// The actions that are allowed, in the words of IAM (`s3:GetObject`).
    pub permissions: BTreeSet<String>,
    /// The user's roles at the catalog.
    pub roles: BTreeSet<String>,
    /// The buckets that they may be done in; [`ALL_BUCKETS`] is all of them.
    pub buckets: BTreeSet<String>,
    /// What could not be read, and so allows nothing: for whoever wonders why.
    pub flaws: BTreeSet<Flaw>,
}

/// What is wrong with an enhanced token that is good otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// It says no level, so it is the least.
    NoLevel,
    /// Nobody knows its level, so it is the least.
    UnknownLevel,
    /// Its buckets are in a form (`_type`) that nobody knows.
    UnknownForm,
    /// Its buckets are in a form that is known, and cannot be read.
    CorruptBuckets,
}

impl Flaw {
    /// A stable word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoLevel => "no_level",
            Self::UnknownLevel => "unknown_level",
            Self::UnknownForm => "unknown_form_of_buckets",
            Self::CorruptBuckets => "corrupt_buckets",
        }
    }
}

/// How much a role may do. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Look. Also what an absent level means, and one that nobody knows.
    #[default]
    Read,
    /// Change.
    Write,
    /// Rule.
    Admin,
}

impl Level {
    /// The level's word in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    fn of(word: &str) -> Result<Self, Flaw> {
        let levels = [Self::Admin, Self::Write, Self::Read];
        let flaw = if word.is_empty() { Flaw::NoLevel } else { Flaw::UnknownLevel };
        levels.into_iter().find(|it| it.as_str() == word).ok_or(flaw)
    }
}

impl EnhancedClaims {
    /// What a token's payload says. `codes` are those of this catalog, beside the eight of every one, which they may not
    /// change: a code that could mean one thing here and another there would be a hole.
    ///
    /// Nothing is refused. What cannot be read allows nothing, and what can be read in the same token still counts. The
    /// result is bounded by the payload: at most 255 times as long.
    pub fn expand(payload: &Map<String, Value>, codes: &Codes) -> Self {
        let level = Level::of(first_word(payload, ["l", "level"]));
        let buckets = match payload.get("buckets") {
            Some(Value::Array(listed)) => Ok(names(listed).collect()),
            _ => payload.get("b").map_or_else(|| Ok(BTreeSet::new()), buckets),
        };
        Self {
            flaws: level.err().into_iter().chain(buckets.as_ref().err().copied()).collect(),
            // the short form wins here, and the long one below: the front end writes both, and they agree
            scope: first_word(payload, ["s", "scope"]).to_owned(),
            level: level.unwrap_or_default(),
            permissions: match payload.get("permissions") {
                Some(Value::Array(listed)) => words(listed).map(str::to_owned).collect(),
                _ => words(list(payload.get("p"))).map(|code| permission(code, codes)).collect(),
            },
            roles: match payload.get("roles") {
                Some(Value::Array(listed)) => words(listed).map(str::to_owned).collect(),
                _ => words(list(payload.get("r"))).map(str::to_owned).collect(),
            },
            buckets: buckets.unwrap_or_default(),
        }
    }

    /// The same with every role under the name by which it counts. An alias is looked up once: one of an alias is a
    /// name of its own.
    #[must_use]
    pub fn with_roles_by(mut self, aliases: &Aliases) -> Self {
        let name = |role: String| aliases.get(&role).cloned().unwrap_or(role);
        self.roles = self.roles.into_iter().map(name).collect();
        self
    }

    /// What decides, in one form: two tokens that allow the same say the same here. The scope decides nothing.
    pub fn canonical(&self) -> Value {
        json!({
            "level": self.level.as_str(),
            "permissions": self.permissions,
            "roles": self.roles,
            "buckets": self.buckets,
        })
    }

    /// Whether `permission` is allowed in `bucket`.
    pub fn allows(&self, permission: &str, bucket: &str) -> bool {
        self.permissions.contains(permission) && self.reaches(bucket)
    }

    /// Whether a bucket is one of the user's.
    pub fn reaches(&self, bucket: &str) -> bool {
        self.buckets.contains(ALL_BUCKETS) || self.buckets.contains(bucket)
    }
}

/// The first of these claims that is a text and not empty.
fn first_word<'a>(payload: &'a Map<String, Value>, claims: [&str; 2]) -> &'a str {
    let mut texts = claims.into_iter().filter_map(|claim| payload.get(claim)?.as_str());
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

fn list(claim: Option<&Value>) -> &[Value] {
    claim.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list; what else is in it says nothing.
fn words(list: &[Value]) -> impl Iterator<Item = &str> {
    list.iter().filter_map(Value::as_str)
}

fn permission(code: &str, codes: &Codes) -> String {
    let known = CODES.iter().find(|(short, _)| *short == code).map(|(_, name)| *name);
    known.or_else(|| codes.get(code).map(String::as_str)).unwrap_or(code).to_owned()
}

/// The longest name of a bucket there ever was. It bounds what a long prefix before many short names comes to.
const MAX_NAME: usize = 255;

fn names(list: &[Value]) -> impl Iterator<Item = String> {
    words(list).filter(|name| (1..=MAX_NAME).contains(&name.len())).map(str::to_owned)
}

/// The buckets of claim `b`: a list, or `{_type, _data}`.
fn buckets(claim: &Value) -> Result<BTreeSet<String>, Flaw> {
    let compressed = match claim {
        Value::Object(compressed) => compressed,
        Value::Array(listed) => return Ok(names(listed).collect()),
        _ => return Err(Flaw::CorruptBuckets),
    };
    let kind = compressed.get("_type").and_then(Value::as_str);
    match (kind, compressed.get("_data")) {
        (Some("groups"), Some(Value::Object(groups))) => Ok(prefixed(groups, |_| true)),
        (Some("patterns"), Some(Value::Object(patterns))) => {
            Ok(prefixed(patterns, |kind| kind == "quilt"))
        }
        (Some("compressed"), Some(Value::String(text))) => compressed_list(text),
        (Some("groups" | "patterns" | "compressed"), _) => Err(Flaw::CorruptBuckets),
        _ => Err(Flaw::UnknownForm),
    }
}

/// The names of each list, with its key before them where `has_prefix` says so.
fn prefixed(lists: &Map<String, Value>, has_prefix: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let of_key = |(key, listed): (&String, &Value)| -> Vec<String> {
        if !has_prefix(key) {
            return names(list(Some(listed))).collect();
        }
        let room = MAX_NAME.saturating_sub(key.len() + 1);
        let rest = words(list(Some(listed))).filter(|rest| rest.len() <= room);
        rest.map(|rest| format!("{key}-{rest}")).collect()
    };
    lists.iter().flat_map(of_key).collect()
}

/// A list in JSON in base 64, padded or not.
fn compressed_list(text: &str) -> Result<BTreeSet<String>, Flaw> {
    let decoded = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes());
    let listed = decoded.ok().and_then(|json| serde_json::from_slice::<Vec<Value>>(&json).ok());
    listed.map(|listed| names(&listed).collect()).ok_or(Flaw::CorruptBuckets)
}

#[cfg(test)]
mod tests;
