//! Which buckets the arguments of a call name.
//!
//! An argument names one by its own name (`bucket`), or by a URI wherever it is (`s3://bucket/key`), in lists and objects
//! too, and in a text that is JSON itself: some servers read such a text as the list that it stands for. What may name a
//! bucket and cannot be read is told apart from what names none. This module must not know tools or users.

use crate::strict_json::Json;
use std::collections::BTreeSet;

/// How deep a text of JSON may be in another.
const MAX_TEXTS: usize = 4;

/// What a call names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// The buckets.
    pub buckets: BTreeSet<String>,
    /// The arguments that name at least one.
    pub arguments: BTreeSet<String>,
}

/// What `arguments` name, where `is_bucket` says of a member's name whether its value is a bucket's. The error is the
/// argument that is not readable.
pub fn named(arguments: &Json<'_>, is_bucket: &dyn Fn(&str) -> bool) -> Result<Named, String> {
    let mut named = Named::default();
    for (name, value) in arguments.members() {
        let mut search = Search { is_bucket, found: BTreeSet::new() };
        let place = Place { is_bucket: is_bucket(name), is_argument: true, texts: 0 };
        search.value(value, place).map_err(|Unreadable| name.to_string())?;
        if !search.found.is_empty() {
            named.arguments.insert(name.to_string());
            named.buckets.append(&mut search.found);
        }
    }
    Ok(named)
}

struct Unreadable;

/// Where a value is.
#[derive(Clone, Copy)]
struct Place {
    /// It stands where a bucket's name does.
    is_bucket: bool,
    /// It is an argument's whole value, which some servers read again if it is a text.
    is_argument: bool,
    /// In how many texts it is.
    texts: usize,
}

struct Search<'f> {
    is_bucket: &'f dyn Fn(&str) -> bool,
    found: BTreeSet<String>,
}

impl Search<'_> {
    fn value(&mut self, value: &Json<'_>, place: Place) -> Result<(), Unreadable> {
        match value {
            Json::Bool(_) | Json::Number(_) | Json::Object(_) if place.is_bucket => Err(Unreadable),
            Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
            Json::Text(text) => self.text(text, place),
            Json::List(items) => {
                let place = Place { is_argument: false, ..place };
                items.iter().try_for_each(|item| self.value(item, place))
            }
            Json::Object(members) => members.iter().try_for_each(|(name, value)| {
                let is_bucket = (self.is_bucket)(name);
                self.value(value, Place { is_bucket, is_argument: false, ..place })
            }),
        }
    }

    fn text(&mut self, text: &str, place: Place) -> Result<(), Unreadable> {
        let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if trimmed.starts_with(['[', '{']) {
            return self.json(trimmed, place);
        }
        if place.is_bucket && text.is_empty() {
            return Ok(()); // as good as absent
        }
        let is_uri = after_scheme(trimmed).is_some();
        if !place.is_bucket && !is_uri {
            return Ok(());
        }
        // what is around it is part of it for some readers and not for others
        let rest = after_scheme(text).unwrap_or(if is_uri { "" } else { text });
        self.found.insert(bucket(rest, is_uri).ok_or(Unreadable)?.to_owned());
        Ok(())
    }

    fn json(&mut self, text: &str, place: Place) -> Result<(), Unreadable> {
        if place.texts == MAX_TEXTS {
            return Err(Unreadable);
        }
        match Json::read(text.as_bytes()) {
            Ok(json) => {
                self.value(&json, Place { is_argument: false, texts: place.texts + 1, ..place })
            }
            // a text that only looks like JSON; but a server that reads arguments twice may read more than is read here
            Err(_) if place.is_bucket || place.is_argument => Err(Unreadable),
            Err(_) => Ok(()),
        }
    }
}

/// What follows `s3://`, or quilt's own form of it.
fn after_scheme(text: &str) -> Option<&str> {
    ["s3://", "quilt+s3://"].into_iter().find_map(|scheme| {
        let head = text.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
    })
}

/// The bucket's name at the beginning of a URI's rest, or that is the whole text. The characters of such names, and no
/// others: what a reader would drop or decode is in none.
fn bucket(text: &str, is_uri: bool) -> Option<&str> {
    let name = if is_uri { text.split(['/', '?', '#']).next()? } else { text };
    let is_name = (1..=255).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(arguments: &Value) -> Result<Vec<String>, String> {
        let text = arguments.to_string();
        let json = Json::read(text.as_bytes()).unwrap();
        let found = named(&json, &|name| ["bucket", "s3_uris"].contains(&name))?;
        Ok(found.buckets.into_iter().collect())
    }

    #[test]
    fn a_bucket_is_named_by_an_argument_or_by_a_uri_wherever_it_is() {
        for (arguments, expected) in [
            (json!({"bucket": "a"}), &["a"][..]),
            (json!({"bucket": "s3://a"}), &["a"]),
            (json!({"bucket": "s3://a/k?x#y"}), &["a"]),
            (json!({"bucket": ["a", "s3://b/", null]}), &["a", "b"]),
            (json!({"bucket": ""}), &[]),
            (json!({"bucket": null}), &[]),
            (json!({"x": "S3://a/k"}), &["a"]),
            (json!({"x": "quilt+s3://a#package=p/q"}), &["a"]),
            (json!({"x": [{"y": {"z": ["s3://a/k"]}}]}), &["a"]),
            (json!({"items": [{"key": "k", "bucket": "a"}]}), &["a"]),
            (json!({"s3_uris": "[\"s3://a/k\", \"b\"]"}), &["a", "b"]),
            (json!({"x": "{\"bucket\": \"a\", \"y\": \"[\\\"s3://b\\\"]\"}"}), &["a", "b"]),
            (json!({"x": "no URI s3://a/k", "y": 1, "z": true}), &[]),
        ] {
            assert_eq!(of(&arguments).unwrap(), expected, "{arguments}");
        }
        let json = Json::read(br#"{"bucket":"a","x":"b","s3_uris":[]}"#).unwrap();
        let found = named(&json, &|name| ["bucket", "s3_uris"].contains(&name)).unwrap();
        assert_eq!(found.arguments, BTreeSet::from(["bucket".to_owned()]));
    }

    #[test]
    fn what_may_name_a_bucket_and_cannot_be_read_is_told() {
        let nested = (0..6).fold("[\"s3://b\"]".to_owned(), |text, _| json!([text]).to_string());
        for arguments in [
            json!({"bucket": 1}),
            json!({"bucket": {"name": "a"}}),
            json!({"bucket": "*"}),
            json!({"bucket": "a b"}),
            json!({"bucket": " a"}),
            json!({"bucket": "a/b"}),
            json!({"bucket": "arn:aws:s3:us-east-1:1:accesspoint/x"}),
            json!({"bucket": "s3:a"}),
            json!({"bucket": "[\"a\""}),
            json!({"s3_uris": "[NaN, \"s3://a\"]"}),
            json!({"x": "[NaN, \"s3://a\"]"}),
            json!({"x": "{\"y\": 1, \"y\": \"s3://a\"}"}),
            json!({"x": "s3://"}),
            json!({"x": " s3://a/k"}),
            json!({"x": "\u{1}s3://a/k"}),
            json!({"x": "s3://a\tb/k"}),
            json!({"x": "s3://user@a/k"}),
            json!({"x": "s3://a%62/k"}),
            json!({"x": "s3://ａ/k"}),
            json!({"x": nested}),
        ] {
            assert!(of(&arguments).is_err(), "{arguments}: {:?}", of(&arguments));
        }
        // deep inside, text that only looks like JSON is text
        assert_eq!(of(&json!({"items": [{"text": "[draft] {x"}]})), Ok(vec![]));
    }

    fn wrapped(uri: &str, wraps: &[u8]) -> Value {
        wraps.iter().fold(json!(uri), |value, wrap| match wrap % 4 {
            0 => json!([value]),
            1 => json!({"x": value}),
            2 => json!({"x": 1, "bucket_like": [value]}),
            // a text in a text: only a list or an object is read again
            _ => json!(json!([value]).to_string()),
        })
    }

    proptest! {
        #[test]
        fn no_wrapping_hides_a_uri(name in "[a-z0-9.-]{3,63}", wraps in proptest::collection::vec(0u8..4, 0..8)) {
            let value = wrapped(&format!("s3://{name}/key"), &wraps);
            // found, or not read at all where too many texts are in one another
            if let Ok(found) = of(&json!({ "x": value })) {
                prop_assert_eq!(found, [name]);
            }
        }

        #[test]
        fn any_text_of_a_bucket_argument_is_a_name_or_unreadable(text in ".+") {
            if let Ok(found) = of(&json!({ "bucket": text })) {
                for name in found {
                    prop_assert!(text.contains(&name));
                }
            }
        }
    }
}
