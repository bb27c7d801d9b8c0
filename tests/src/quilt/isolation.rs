//! What two users of `quilt-mcp` do, each as themselves and on the other's things, and what must come of it,
//! wherever their workers run. Values in, verdicts out.

use super::call;
use crate::catalog::record::Seen;
use anyhow::{bail, ensure};
use serde_json::{Value, json};

/// The arguments of `bucket_objects_list`, without the signed URLs that the profile withholds.
pub fn listing(bucket: &str) -> Value {
    json!({ "bucket": bucket, "include_signed_urls": false })
}

/// Every class of tool that a shared server would mix up, on one's own things and on the other's.
pub fn calls_of(own: &str, other: &str) -> Vec<Value> {
    let (mine, theirs) = (format!("b-{own}"), format!("b-{other}"));
    let note = |user: &str| format!("s3://b-{user}/notes/{user}.txt");
    vec![
        call("bucket_objects_list", listing(&mine)),
        call("bucket_objects_list", listing(&theirs)),
        call("bucket_object_info", json!({ "s3_uri": note(own) })),
        call("bucket_object_text", json!({ "s3_uri": note(own) })),
        call("bucket_object_text", json!({ "s3_uri": note(other) })),
        call(
            "bucket_objects_put",
            json!({
                "bucket": mine, "items": [{ "key": "new.txt", "text": format!("by {own}") }],
            }),
        ),
        call(
            "bucket_objects_put",
            json!({
                "bucket": theirs, "items": [{ "key": "new.txt", "text": format!("by {own}") }],
            }),
        ),
        call(
            "package_browse",
            json!({
                "package_name": format!("{own}/demo"), "registry": format!("s3://{mine}"),
                "include_signed_urls": false,
            }),
        ),
        call(
            "package_browse",
            json!({
                "package_name": format!("{other}/demo"), "registry": format!("s3://{theirs}"),
                "include_signed_urls": false,
            }),
        ),
        call(
            "package_create",
            json!({
                "package_name": format!("{own}/made"), "s3_uris": [note(own)],
                "registry": format!("s3://{mine}"),
            }),
        ),
        call("search_catalog", json!({ "query": "note", "scope": "file", "bucket": mine })),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
        call("search_catalog", json!({ "query": "demo", "scope": "package" })),
        call("bucket_list", json!({})),
        call("tabulator_tables_list", json!({ "bucket": mine })),
        call("admin_user_get", json!({ "name": "bob" })),
    ]
}

/// What must be so of what the calls of [`calls_of`] said, in order.
pub fn check(own: &str, other: &str, said: &[String]) -> anyhow::Result<()> {
    let is_denied = |text: &str| {
        let text = text.to_lowercase();
        text.contains("accessdenied") || text.contains("access denied") || text.contains("403")
    };
    let [
        list_own,
        list_other,
        info,
        text_own,
        text_other,
        put_own,
        put_other,
        browse_own,
        browse_other,
        create,
        search_bucket,
        search_global,
        search_packages,
        buckets,
        tables,
        users,
    ] = said
    else {
        bail!("{} results", said.len())
    };
    let note = format!("notes/{own}.txt");
    let promises = [
        ("lists its own bucket", list_own.contains(&note), list_own),
        ("is denied the other's bucket", is_denied(list_other), list_other),
        ("sees its own object", info.contains(&note) && !is_denied(info), info),
        ("reads its own object", text_own.contains(&format!("only {own} may read")), text_own),
        ("is denied the other's object", is_denied(text_other), text_other),
        ("writes to its own bucket", !is_denied(put_own) && put_own.contains("new.txt"), put_own),
        ("is denied writing to the other's", is_denied(put_other), put_other),
        ("browses its own package", browse_own.contains("measurements.csv"), browse_own),
        ("is denied the other's package", !browse_other.contains("measurements.csv"), browse_other),
        ("creates a package", create.contains(&format!("{own}/made")), create),
        ("finds its own file", search_bucket.contains(&note), search_bucket),
        ("finds its own globally", search_global.contains(&format!("b-{own}")), search_global),
        (
            "finds its own package",
            search_packages.contains(&format!("{own}/demo")),
            search_packages,
        ),
        ("sees its own bucket alone", buckets.contains(&format!("b-{own}")), buckets),
        ("lists tabulator tables", !tables.to_lowercase().contains("unauthorized"), tables),
        (
            // alice administers the catalog and bob does not: the catalog's answer to each
            "administers as itself",
            users.contains("bob@example.com") == (own == "alice"),
            users,
        ),
    ];
    for (promise, holds, text) in promises {
        ensure!(holds, "{own}: {promise}: {text}");
    }
    for text in [list_own, info, text_own, browse_own, search_global, search_packages, buckets] {
        ensure!(!text.contains(&format!("b-{other}")), "{own} sees {other}'s: {text}");
    }
    Ok(())
}

/// Everything that the catalog and the registry saw carried one of these users' real credentials; only
/// what needs none was asked without.
pub fn check_bearers(seen: &[Seen], real: &[&str]) -> anyhow::Result<()> {
    ensure!(seen.len() > 10, "the catalog saw next to nothing: {seen:?}");
    for request in seen {
        match &request.bearer {
            Some(bearer) => {
                ensure!(real.contains(&bearer.as_str()), "a strange bearer: {request:?}");
            }
            None => ensure!(
                request.path == "/config.json" || request.path == "/.well-known/jwks.json",
                "asked without a credential: {request:?}"
            ),
        }
    }
    Ok(())
}
