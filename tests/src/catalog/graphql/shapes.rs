//! Answers in the registry's GraphQL shapes. quilt3 validates each strictly, so every field of its
//! fragments is here, whatever a query selected.

use super::directory::{Account, Directory, Table};
use crate::catalog::world::Bucket;
use serde_json::{Value, json};

/// A moment before everything; the double has no history to tell.
const LONG_AGO: &str = "2026-01-01T00:00:00+00:00";

/// `UserSelection`.
pub(super) fn user(directory: &Directory, account: &Account) -> Value {
    let roles = account.extra_roles.iter().filter_map(|name| role(directory, name));
    json!({
        "__typename": "User",
        "name": account.name,
        "email": account.email,
        "dateJoined": LONG_AGO,
        "lastLogin": LONG_AGO,
        "isActive": account.is_active,
        "isAdmin": account.is_admin,
        "isSsoOnly": false,
        "isService": false,
        "role": role(directory, &account.role),
        "extraRoles": roles.collect::<Vec<_>>(),
    })
}

/// `Me`: what anybody may know of themselves.
pub(super) fn me(directory: &Directory, account: &Account) -> Value {
    let mut me = user(directory, account);
    me["__typename"] = "Me".into();
    me["roles"] = json!([me["role"]]);
    me
}

/// `ManagedRoleSelection`; none where no such role exists.
pub(super) fn role(directory: &Directory, name: &str) -> Option<Value> {
    let role = directory.roles.get(name)?;
    let permissions: Vec<Value> = role
        .buckets
        .iter()
        .map(|bucket| json!({ "bucket": { "name": bucket }, "level": "READ_WRITE" }))
        .collect();
    Some(json!({
        "__typename": "ManagedRole",
        "id": name,
        "name": name,
        "arn": role.arn,
        "policies": [],
        "permissions": permissions,
    }))
}

/// `BucketConfigSelection`, with its tables.
pub(super) fn bucket(directory: &Directory, bucket: &Bucket) -> Value {
    json!({
        "__typename": "BucketConfig",
        "name": bucket.name,
        "title": bucket.name,
        "iconUrl": null,
        "description": "A bucket of the catalog double",
        "overviewUrl": null,
        "tags": [],
        "relevanceScore": 1,
        "lastIndexed": LONG_AGO,
        "snsNotificationArn": null,
        "scannerParallelShardsDepth": null,
        "skipMetaDataIndexing": false,
        "fileExtensionsToIndex": null,
        "indexContentBytes": null,
        "prefixes": [""],
        "browsable": true,
        "tabulatorTables": tables(directory, &bucket.name),
    })
}

fn tables(directory: &Directory, bucket: &str) -> Vec<Value> {
    let of_bucket = |table: &&Table| table.bucket == bucket;
    let shape = |table: &Table| json!({ "name": table.name, "config": table.config });
    directory.tables.iter().filter(of_bucket).map(shape).collect()
}

/// `SsoConfigSelection`.
pub(super) fn sso_config(directory: &Directory) -> Value {
    let Some((text, uploader)) = &directory.sso_config else {
        return Value::Null;
    };
    json!({
        "__typename": "SsoConfig",
        "text": text,
        "timestamp": LONG_AGO,
        "uploader": directory.account(uploader).map(|account| user(directory, account)),
    })
}

/// `InvalidInputSelection` with one error.
pub(super) fn invalid_input(path: &str, name: &str, message: &str) -> Value {
    json!({
        "__typename": "InvalidInput",
        "errors": [{ "path": path, "name": name, "message": message, "context": null }],
    })
}

/// `OperationErrorSelection`.
pub(super) fn operation_error(name: &str, message: &str) -> Value {
    json!({ "__typename": "OperationError", "name": name, "message": message, "context": null })
}

/// What a mutation without a value answers.
pub(super) fn ok() -> Value {
    json!({ "__typename": "Ok" })
}
