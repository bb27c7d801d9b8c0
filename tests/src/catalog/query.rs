//! The part of Elasticsearch's query language that quilt-mcp and quilt3 send, evaluated on one
//! document. What is not known is an error: a query that was silently ignored would find too much.

use serde_json::Value;

/// A query of a kind that the double does not evaluate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported query: {0}")]
pub(super) struct Unsupported(String);

/// Whether `condition` holds of `document`.
pub(super) fn matches(condition: &Value, document: &Value) -> Result<bool, Unsupported> {
    let unsupported = || Unsupported(condition.to_string());
    let clause = condition.as_object().filter(|clause| clause.len() == 1);
    let (kind, body) = clause.and_then(|clause| clause.iter().next()).ok_or_else(unsupported)?;
    match kind.as_str() {
        "match_all" => Ok(true),
        "query_string" => {
            let text = body["query"].as_str().ok_or_else(unsupported)?;
            Ok(contains_any_term(document, text))
        }
        "exists" => {
            let field = body["field"].as_str().ok_or_else(unsupported)?;
            Ok(document.get(field).is_some_and(|value| !value.is_null()))
        }
        "terms" => {
            let (field, wanted) = single(body).ok_or_else(unsupported)?;
            let wanted = wanted.as_array().ok_or_else(unsupported)?;
            let value = document[field].as_str().unwrap_or_default().trim_start_matches('.');
            Ok(wanted.iter().any(|wanted| wanted.as_str() == Some(value)))
        }
        "range" => {
            let (field, bounds) = single(body).ok_or_else(unsupported)?;
            in_range(&document[field], bounds).ok_or_else(unsupported)
        }
        "bool" => all_of(body, document).and_then(|all| Ok(all && any_of(body, document)?)),
        _ => Err(unsupported()),
    }
}

/// `must` and `filter` hold, `must_not` does not.
fn all_of(body: &Value, document: &Value) -> Result<bool, Unsupported> {
    let known = ["must", "filter", "must_not", "should", "minimum_should_match"];
    if let Some(unknown) =
        body.as_object().and_then(|body| body.keys().find(|key| !known.contains(&key.as_str())))
    {
        return Err(Unsupported(format!("bool.{unknown}")));
    }
    for (key, wanted) in [("must", true), ("filter", true), ("must_not", false)] {
        for condition in clauses(&body[key]) {
            if matches(condition, document)? != wanted {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// At least one of `should` holds, where there is one.
fn any_of(body: &Value, document: &Value) -> Result<bool, Unsupported> {
    let should = clauses(&body["should"]);
    for condition in should {
        if matches(condition, document)? {
            return Ok(true);
        }
    }
    Ok(should.is_empty())
}

fn clauses(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

fn single(value: &Value) -> Option<(&String, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next()
}

/// Numbers compare as numbers, text (dates among it) as text.
fn in_range(value: &Value, bounds: &Value) -> Option<bool> {
    let mut inside = true;
    for (bound, limit) in bounds.as_object()? {
        let order = match (value.as_f64(), limit.as_f64()) {
            (Some(value), Some(limit)) => value.partial_cmp(&limit)?,
            _ => value.as_str()?.cmp(limit.as_str()?),
        };
        inside &= match bound.as_str() {
            "gt" => order.is_gt(),
            "gte" => order.is_ge(),
            "lt" => order.is_lt(),
            "lte" => order.is_le(),
            _ => return None,
        };
    }
    Some(inside)
}

/// Elasticsearch's default: one of the terms, in any field. A term matches inside a word, because
/// the double has no analyser; `*` and `?` are wildcards.
fn contains_any_term(document: &Value, text: &str) -> bool {
    let text = text.replace('\\', "").to_lowercase();
    let haystack = document.to_string().to_lowercase();
    let mut terms = text
        .split_whitespace()
        .filter(|term| !["and", "or"].contains(term))
        .map(|term| term.trim_matches(['"', '(', ')']));
    terms.any(|term| contains_pattern(&haystack, term))
}

/// Whether a pattern with `*` (anything) and `?` (one character) occurs somewhere in the text.
fn contains_pattern(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    (0..=text.len()).any(|start| starts_with_pattern(&text[start..], &pattern))
}

fn starts_with_pattern(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => true,
        Some(('*', rest)) => {
            (0..=text.len()).any(|skipped| starts_with_pattern(&text[skipped..], rest))
        }
        Some((wanted, rest)) => text.split_first().is_some_and(|(found, text)| {
            (*wanted == '?' || wanted == found) && starts_with_pattern(text, rest)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(condition: &Value) -> bool {
        let document = json!({
            "key": "notes/alice.txt", "size": 5, "ext": ".txt", "last_modified": "2026-01-01",
        });
        matches(condition, &document).unwrap()
    }

    fn text(query: &str) -> Value {
        json!({ "query_string": { "query": query } })
    }

    #[test]
    fn a_query_string_finds_any_of_its_terms_escaped_or_not() {
        for found in ["alice", "ALICE", "nothing alice", "*", "*.txt", "notes\\/alice", "al?ce"] {
            assert!(holds(&text(found)), "{found}");
        }
        for missed in ["bob", "*.csv", "", "and"] {
            assert!(!holds(&text(missed)), "{missed}");
        }
    }

    #[test]
    fn a_bool_needs_all_of_must_and_filter_and_none_of_must_not() {
        let txt = json!({ "terms": { "ext": ["txt"] } });
        let large = json!({ "range": { "size": { "gt": 5 } } });
        let both =
            |must: &Value, filter: &Value| json!({ "bool": { "must": must, "filter": filter } });
        assert!(holds(&both(&json!([text("alice")]), &json!([txt]))));
        assert!(!holds(&both(&json!([text("alice")]), &json!([txt, large]))));
        assert!(holds(&json!({ "bool": { "must_not": large } })));
        assert!(!holds(&json!({ "bool": { "should": [text("bob"), large] } })));
        assert!(holds(&json!({ "bool": { "must": { "exists": { "field": "key" } } } })));
        assert!(!holds(&json!({ "exists": { "field": "ptr_name" } })));
    }

    #[test]
    fn a_range_compares_dates_as_text() {
        let since = |date: &str| json!({ "range": { "last_modified": { "gte": date } } });
        assert!(holds(&since("2025-12-31")));
        assert!(!holds(&since("2026-01-02")));
    }

    #[test]
    fn what_is_not_known_is_refused_rather_than_ignored() {
        for unknown in [
            json!({ "fuzzy": { "key": "x" } }),
            json!({ "bool": { "must": [], "boost": 2 } }),
            json!({ "range": { "size": { "about": 5 } } }),
            json!({}),
        ] {
            assert!(matches(&unknown, &json!({ "size": 5 })).is_err(), "{unknown}");
        }
    }
}
