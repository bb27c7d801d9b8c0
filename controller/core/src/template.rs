//! From a class's templates and what a worker was granted to the texts of files and variables.
//!
//! The language is small and strict: `${name}` is a value as it is, `${json:name}` is the value as the inside of a
//! string of JSON, `$$` is a dollar, and any other `$` is an error. A value as it is may hold no character that means
//! something in JSON, YAML, TOML, INI or a shell: what a user's identity or an issuer of keys says never becomes more
//! than a value. This module is pure; it must not know where texts go.

use crate::{grant::AwsGrant, link::User};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// A file is at most this long once values are in it, bytes.
pub const MOST_FILE_BYTES: usize = 32 * 1024;
/// A variable is at most this long once values are in it, bytes.
pub const MOST_VARIABLE_BYTES: usize = 8 * 1024;

/// What a class has made of its users' credentials, where its MCP server can use neither of Patchbay's own ways.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Templates {
    /// Files below HOME, written at each bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileTemplate>,
    /// Variables of a server that is started at bind, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Template>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileTemplate {
    /// Where, below HOME.
    pub path: String,
    /// What it says.
    pub template: Template,
}

impl Templates {
    /// Whether nothing is made.
    pub fn is_none(&self) -> bool {
        self.files.is_empty() && self.env.is_empty()
    }

    /// Whether anything in it says who the user is.
    pub fn name_the_user(&self) -> bool {
        self.all().any(|template| template.asks(Placeholder::is_of_user))
    }

    /// Whether anything that cannot be renewed holds AWS keys.
    pub fn env_holds_keys(&self) -> bool {
        self.env.values().any(|template| template.asks(Placeholder::is_of_aws))
    }

    fn all(&self) -> impl Iterator<Item = &Template> {
        self.files.iter().map(|file| &file.template).chain(self.env.values())
    }
}

/// A text with places for values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Form, Placeholder),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain,
    /// As the inside of a string of JSON.
    Json,
}

/// What `json:` in front of a placeholder's name asks for.
pub const JSON: &str = "json:";

/// Something that a text can have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// The id of the user's AWS key.
    AwsAccessKeyId,
    /// Its secret.
    AwsSecretAccessKey,
    /// The token that makes it temporary.
    AwsSessionToken,
    /// When it ends: RFC 3339, in UTC, in whole seconds.
    AwsExpiration,
    /// The region of the user's data.
    AwsRegion,
    /// Who vouches for the user.
    UserIssuer,
    /// The user's name there.
    UserSubject,
}

impl Placeholder {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AwsAccessKeyId,
        Self::AwsSecretAccessKey,
        Self::AwsSessionToken,
        Self::AwsExpiration,
        Self::AwsRegion,
        Self::UserIssuer,
        Self::UserSubject,
    ];

    /// Its name in a template.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwsAccessKeyId => "aws.accessKeyId",
            Self::AwsSecretAccessKey => "aws.secretAccessKey",
            Self::AwsSessionToken => "aws.sessionToken",
            Self::AwsExpiration => "aws.expiration",
            Self::AwsRegion => "aws.region",
            Self::UserIssuer => "user.issuer",
            Self::UserSubject => "user.subject",
        }
    }

    const fn is_of_user(self) -> bool {
        matches!(self, Self::UserIssuer | Self::UserSubject)
    }

    const fn is_of_aws(self) -> bool {
        !self.is_of_user()
    }

    fn value(self, values: Values<'_>) -> Option<Cow<'_, str>> {
        let Values { aws, user } = values;
        Some(match self {
            Self::AwsAccessKeyId => aws?.access_key_id.as_str().into(),
            Self::AwsSecretAccessKey => aws?.secret_access_key.expose_secret().into(),
            Self::AwsSessionToken => aws?.session_token.expose_secret().into(),
            Self::AwsExpiration => whole_seconds(aws?.expires_at).into(),
            Self::AwsRegion => aws?.region.as_str().into(),
            Self::UserIssuer => user?.issuer.as_str().into(),
            Self::UserSubject => user?.subject.as_str().into(),
        })
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// RFC 3339 without fractions: some readers take no other.
fn whole_seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What can be put into a text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// The user's AWS keys.
    pub aws: Option<&'a AwsGrant>,
    /// Who the user is.
    pub user: Option<&'a User>,
}

/// A text that is no template. It may be a secret that was pasted where a template belongs, so only what can be no
/// secret of it is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A dollar that means nothing.
    #[error("has a `$` that begins no placeholder, at character {0}")]
    Dollar(usize),
    /// A name that means nothing.
    #[error("has a placeholder that there is not, at character {0}")]
    Unknown(usize),
    /// A character that no file of text and no variable has.
    #[error("contains a zero byte")]
    Zero,
}

/// A text that cannot be made. No value is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The grant has no such value.
    #[error("nothing was granted for `{0}`")]
    NoValue(Placeholder),
    /// The value has a character that may end where it stands.
    #[error(
        "the value of `{0}` has a character that is not written as it is; use `json:`, in quotes"
    )]
    Unsafe(Placeholder),
    /// The text is too long.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        if text.contains('\0') {
            return Err(InvalidTemplate::Zero);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        // characters, not bytes: that is what an editor counts
        let position = |rest: &str| 1 + text.chars().count() - rest.chars().count();
        while let Some((before, from)) = rest.split_once('$') {
            let at = position(from) - 1;
            parts.push(Part::Text(before.to_owned()));
            if let Some(after) = from.strip_prefix('$') {
                parts.push(Part::Text("$".to_owned()));
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let (name, after) = inside.ok_or(InvalidTemplate::Dollar(at))?;
            parts.push(placeholder(name).ok_or(InvalidTemplate::Unknown(at))?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The text with the values in it, of at most `limit` bytes.
    pub fn render(&self, values: Values<'_>, limit: usize) -> Result<SecretString, RenderError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(form, name) => {
                    let value = name.value(values).ok_or(RenderError::NoValue(*name))?;
                    match form {
                        Form::Plain if value.chars().all(is_plain) => text.push_str(&value),
                        Form::Plain => return Err(RenderError::Unsafe(*name)),
                        Form::Json => text.push_str(&inside_json(&value)),
                    }
                }
            }
            if text.len() > limit {
                return Err(RenderError::TooLong(limit));
            }
        }
        Ok(text.into())
    }

    /// Whether a placeholder of this kind is in it.
    fn asks(&self, is_of: fn(Placeholder) -> bool) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(_, name) if is_of(*name)))
    }

    /// The first AWS placeholder that is in it.
    pub fn first_of_aws(&self) -> Option<Placeholder> {
        self.parts.iter().find_map(|part| match part {
            Part::Value(_, name) if name.is_of_aws() => Some(*name),
            _ => None,
        })
    }
}

fn placeholder(said: &str) -> Option<Part> {
    let (form, name) = match said.strip_prefix(JSON) {
        Some(name) => (Form::Json, name),
        None => (Form::Plain, said),
    };
    let known = Placeholder::ALL.into_iter().find(|known| known.as_str() == name)?;
    Some(Part::Value(form, known))
}

/// What names of users, issuers and keys are made of, and what means nothing to a reader of configuration: letters and
/// digits of any script, and these.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "-_.:/+=@".contains(c)
}

/// The value as a string of JSON, without its quotes. TOML and YAML read the same escapes in double quotes, and want
/// some that JSON does not: TOML takes no DEL, and to YAML some characters end a line.
fn inside_json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    let inside = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or_default();
    let escaped = inside.chars().map(|c| match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        _ => c.to_string(),
    });
    escaped.collect()
}

impl TryFrom<String> for Template {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, InvalidTemplate> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests;
