//! Search over the world's objects and packages: which indexes a request may name, and which
//! documents it finds there. Pure; it answers in Elasticsearch's words.

use super::{
    query::{self, Unsupported},
    world::{Bucket, Member},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Hits answered where the request names no size.
const DEFAULT_SIZE: usize = 10;

/// The parameters of `GET /api/search`.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    /// Comma-separated: `bucket` for its objects, `bucket_packages` for its packages.
    pub index: String,
    /// `freeform` (with `body`) or `search` (with `query`).
    pub action: String,
    /// Elasticsearch's query language, as JSON.
    pub body: Option<String>,
    /// A query string.
    pub query: Option<String>,
    /// At most so many hits.
    pub size: Option<usize>,
}

/// Why a search is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum SearchError {
    /// A wildcard names everybody's indexes at once.
    #[error("index patterns are not allowed")]
    Wildcard,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The query uses what the double does not know: better refused than answered wrongly.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// Answers a search of `user`, who finds nothing in indexes that are not theirs.
pub(super) fn search(user: &Member, request: &Request) -> Result<Value, SearchError> {
    let indexes: Vec<&str> = request.index.split(',').filter(|name| !name.is_empty()).collect();
    let is_pattern = |name: &&str| name.contains(['*', '?']) || *name == "_all";
    if indexes.is_empty() || indexes.iter().any(is_pattern) {
        return Err(SearchError::Wildcard);
    }
    let body = body(request)?;
    let condition = body.get("query").cloned().unwrap_or_else(|| json!({ "match_all": {} }));
    let number = |name| body.get(name).and_then(Value::as_u64).and_then(|n| n.try_into().ok());
    let from: usize = number("from").unwrap_or(0);
    let size: usize = number("size").or(request.size).unwrap_or(DEFAULT_SIZE);

    let mut hits = Vec::new();
    for index in indexes {
        for (id, source) in documents(user, index) {
            if query::matches(&condition, &source)? {
                hits.push(json!({ "_index": index, "_id": id, "_score": 1.0, "_source": source }));
            }
        }
    }
    let total = hits.len();
    let hits: Vec<Value> = hits.into_iter().skip(from).take(size).collect();
    Ok(json!({
        "took": 1,
        "timed_out": false,
        "hits": { "total": { "value": total, "relation": "eq" }, "hits": hits },
    }))
}

fn body(request: &Request) -> Result<Value, SearchError> {
    let missing = |what: &str| SearchError::Invalid(format!("missing parameter: {what}"));
    match request.action.as_str() {
        "freeform" => {
            let body = request.body.as_deref().ok_or_else(|| missing("body"))?;
            serde_json::from_str(body)
                .map_err(|error| SearchError::Invalid(format!("body is not JSON: {error}")))
        }
        "search" => {
            let text = request.query.as_deref().ok_or_else(|| missing("query"))?;
            Ok(json!({ "query": { "query_string": { "query": text } } }))
        }
        other => Err(SearchError::Invalid(format!("unknown action: {other}"))),
    }
}

fn documents(user: &Member, index: &str) -> Vec<(String, Value)> {
    let named = |name: &str| user.buckets.iter().find(|bucket| bucket.name == name);
    match index.strip_suffix("_packages") {
        Some(name) => named(name).map(package_documents).unwrap_or_default(),
        None => named(index).map(object_documents).unwrap_or_default(),
    }
}

fn object_documents(bucket: &Bucket) -> Vec<(String, Value)> {
    let document = |object: &super::world::Object| {
        let extension = object.key.rsplit_once('.').map_or("", |(_, extension)| extension);
        let source = json!({
            "key": object.key,
            "size": object.size,
            "last_modified": object.last_modified,
            "content_type": object.content_type,
            "ext": format!(".{extension}"),
            "version_id": object.version_id,
            "content": object.text,
        });
        (format!("{}:{}", object.key, object.version_id), source)
    };
    bucket.objects.iter().map(document).collect()
}

/// A document for each package's pointer and one for each of its entries.
fn package_documents(bucket: &Bucket) -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    for package in &bucket.packages {
        let pointer = json!({
            "ptr_name": package.name,
            "ptr_tag": "latest",
            "ptr_last_modified": package.last_modified,
            "mnfst_hash": package.hash,
        });
        documents.push((format!("ptr:{}:latest", package.name), pointer));
        for entry in &package.entries {
            let source = json!({
                "mnfst_name": package.name,
                "mnfst_hash": package.hash,
                "entry_pk": entry.physical_key,
                "entry_lk": entry.key,
                "entry_size": entry.size,
                "entry_hash": { "type": "sha2-256-chunked", "value": entry.hash },
                "entry_metadata": { "last_modified": package.last_modified },
            });
            documents.push((format!("entry:{}:{}", package.hash, entry.key), source));
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::world::samples;

    fn find(user: usize, index: &str, text: &str) -> Result<Vec<String>, SearchError> {
        let world = samples::world();
        let body = json!({ "query": { "query_string": { "query": text } }, "size": 50 });
        let request = Request {
            index: index.into(),
            action: "freeform".into(),
            body: Some(body.to_string()),
            query: None,
            size: None,
        };
        let answer = search(&world.users[user], &request)?;
        let hits = answer["hits"]["hits"].as_array().unwrap().clone();
        Ok(hits.iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn a_user_finds_objects_packages_and_entries_of_their_own_bucket() {
        assert_eq!(find(0, "b-alice", "hello").unwrap(), ["notes/alice.txt:v1"]);
        let packages = find(0, "b-alice_packages", "*").unwrap();
        assert_eq!(packages[0], "ptr:alice/demo:latest");
        assert!(packages[1].ends_with(":measurements.csv"));
        assert_eq!(find(0, "b-alice,b-alice_packages", "*").unwrap().len(), 3);
    }

    #[test]
    fn a_user_finds_nothing_in_the_bucket_of_another() {
        assert!(find(0, "b-bob,b-bob_packages", "*").unwrap().is_empty());
    }

    #[test]
    fn a_wildcard_is_refused() {
        for index in ["_all", "*", "*_packages", "b-alice,b-*", ""] {
            assert!(matches!(find(0, index, "*"), Err(SearchError::Wildcard)), "{index}");
        }
    }

    #[test]
    fn from_and_size_cut_the_hits_and_not_the_total() {
        let world = samples::world();
        let request = Request {
            index: "b-alice,b-alice_packages".into(),
            action: "freeform".into(),
            body: Some(json!({ "from": 1, "size": 1 }).to_string()),
            query: None,
            size: Some(10),
        };
        let answer = search(&world.users[0], &request).unwrap();
        assert_eq!(answer["hits"]["total"]["value"], 3);
        assert_eq!(answer["hits"]["hits"].as_array().unwrap().len(), 1);
        assert_eq!(answer["hits"]["hits"][0]["_id"], "ptr:alice/demo:latest");
    }
}
