//! The world that the double serves: users, their roles, buckets, objects and packages, and the key
//! with which the registry assumes roles. `tests/python/moto_setup.py` makes it and prints this
//! JSON.
//!
//! Values only: this module must not know HTTP, and nothing in it changes after it was read.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Everything that a catalog knows before its first request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct World {
    /// Where STS (and S3) is: scheme, host and port.
    pub aws_endpoint: String,
    /// The AWS region of everything.
    pub region: String,
    /// The registry's own AWS key; it may assume the users' roles and nothing else.
    pub registry_key: AwsKey,
    /// The users, in the order in which they are listed.
    pub users: Vec<Member>,
}

impl World {
    /// Users who have nothing, and an AWS at whose address nobody listens: for who only asks whose a credential is.
    pub fn without_aws(names: &[&str]) -> Self {
        let member = |name: &&str| Member {
            name: (*name).to_owned(),
            email: format!("{name}@example.com"),
            is_admin: false,
            role_arn: None,
            buckets: Vec::new(),
        };
        Self {
            aws_endpoint: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
            registry_key: AwsKey { access_key_id: "none".into(), secret_access_key: "none".into() },
            users: names.iter().map(member).collect(),
        }
    }
}

/// A long-lived AWS key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsKey {
    /// Public part.
    pub access_key_id: String,
    /// Secret part.
    pub secret_access_key: SecretString,
}

/// One user and what is theirs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// The name: `sub` of their tokens.
    pub name: String,
    /// Address.
    pub email: String,
    /// Whether they may use `admin`.
    pub is_admin: bool,
    /// The role that the registry assumes for them; without one they get no credentials (403).
    pub role_arn: Option<String>,
    /// The buckets that they may see.
    pub buckets: Vec<Bucket>,
}

/// A bucket as the search index sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Indexed objects.
    pub objects: Vec<Object>,
    /// Indexed packages.
    pub packages: Vec<Package>,
}

/// An object in a bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// RFC 3339.
    pub last_modified: String,
    /// Media type.
    pub content_type: String,
    /// Version.
    pub version_id: String,
    /// Content, for the index.
    pub text: String,
}

/// A Quilt package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// `owner/name`.
    pub name: String,
    /// Top hash of the latest revision.
    pub hash: String,
    /// RFC 3339.
    pub last_modified: String,
    /// The files in it.
    pub entries: Vec<Entry>,
}

/// A file in a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Logical key.
    pub key: String,
    /// `s3://` URL with the version.
    pub physical_key: String,
    /// Bytes.
    pub size: u64,
    /// Content hash.
    pub hash: String,
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// alice, an administrator, and bob, each with a bucket of one object and one package.
    pub(crate) fn world() -> World {
        World {
            aws_endpoint: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
            registry_key: AwsKey {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: "made-up".into(),
            },
            users: vec![member("alice", true), member("bob", false)],
        }
    }

    fn member(name: &str, is_admin: bool) -> Member {
        let bucket = format!("b-{name}");
        Member {
            name: name.into(),
            email: format!("{name}@example.com"),
            is_admin,
            role_arn: Some(format!("arn:aws:iam::123456789012:role/role-{name}")),
            buckets: vec![Bucket {
                objects: vec![Object {
                    key: format!("notes/{name}.txt"),
                    size: 5,
                    last_modified: "2026-01-01T00:00:00Z".into(),
                    content_type: "text/plain".into(),
                    version_id: "v1".into(),
                    text: format!("hello of {name}"),
                }],
                packages: vec![Package {
                    name: format!("{name}/demo"),
                    hash: "ab".repeat(32),
                    last_modified: "2026-01-01T00:00:00Z".into(),
                    entries: vec![Entry {
                        key: "measurements.csv".into(),
                        physical_key: format!("s3://{bucket}/{name}/demo/measurements.csv"),
                        size: 3,
                        hash: "x".into(),
                    }],
                }],
                name: bucket,
            }],
        }
    }
}
