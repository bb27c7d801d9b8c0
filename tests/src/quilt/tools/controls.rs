//! What stands against the checks of search: that a scope finds nothing for who lacks the right, and that what is not shown
//! is not shown without Patchbay either. Values in, counts out.

use super::{Check, Must, succeeded};
use crate::quilt::call;
use serde_json::{Value, json};

/// Searches in each scope for what is somebody's and nobody else's: over everything, and in their bucket.
pub fn searches_for(owner: &str) -> Vec<Value> {
    let bucket = format!("b-{owner}");
    let of_scope = |scope: &str| {
        let everywhere = json!({ "query": owner, "scope": scope, "limit": 10 });
        let mut there = everywhere.clone();
        there["bucket"] = json!(bucket);
        [everywhere, there].map(|arguments| call("search_catalog", arguments))
    };
    ["global", "file", "package"].into_iter().flat_map(of_scope).collect()
}

/// How many results a search had. One that failed found not even nothing.
pub fn found(said: &str) -> anyhow::Result<usize> {
    let answer = succeeded(said)?;
    let results = answer["results"].as_array();
    results.map(Vec::len).ok_or_else(|| anyhow::anyhow!("no results are told: {said}"))
}

impl Check {
    /// The words in which it says that what it needs is not here, if that is demanded of it.
    pub const fn lacks(&self) -> Option<&'static str> {
        match self.must {
            Must::Lack(_, words) => Some(words),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_failed_did_not_find_nothing() {
        assert_eq!(found(r#"{"success":true,"results":[]}"#).unwrap(), 0);
        assert_eq!(found(r#"{"success":true,"results":[{"id":1}]}"#).unwrap(), 1);
        for failed in [r#"{"success":false,"results":[]}"#, r#"{"success":true}"#, "Error"] {
            assert!(found(failed).is_err(), "{failed}");
        }
    }
}
