//! Whether a document has the shape that its kind's schema says: every deviation, with its place.
//!
//! The schema is the one that a cluster's API server enforces, so both refuse the same documents,
//! but for fields that it does not know: an API server warns and drops them, and here they are
//! refused, since nobody reads a warning of a server that starts. Its rules in CEL are not
//! evaluated; what they say, `crate::validate` says too. This module must not know any kind.

use crate::validate::{FieldError, element, member, quoted};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

/// Notes every way in which `value`, found at `field`, is not what `schema` says.
pub(super) fn check(
    schema: &JSONSchemaProps,
    value: &Value,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    let expected = schema.type_.as_deref();
    if let Some(expected) = expected
        && !is_of_type(value, expected)
    {
        errors.push(wrong_type(value, expected, field));
        return;
    }
    match value {
        Value::Object(members) => check_object(schema, members, field, errors),
        Value::Array(items) => check_list(schema, items, field, errors),
        Value::String(text) => errors.extend(check_text(schema, text, field)),
        Value::Number(number) => errors.extend(check_range(schema, number, field)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn error(field: &str, problem: impl Into<String>, fix: impl Into<String>) -> FieldError {
    FieldError { field: field.into(), problem: problem.into(), fix: fix.into() }
}

fn is_of_type(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn wrong_type(value: &Value, expected: &str, field: &str) -> FieldError {
    let wanted = match expected {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        _ => "a number",
    };
    let (found, fix) = match value {
        Value::Null => ("has no value", format!("write {wanted}, or remove the line")),
        Value::Bool(_) | Value::Number(_) if expected == "string" => {
            ("is not text", "put it in quotes".to_owned())
        }
        Value::Bool(_) => ("is `true` or `false`", format!("write {wanted}")),
        Value::Number(_) => ("is a number", format!("write {wanted}")),
        Value::String(_) => ("is text", format!("write {wanted}")),
        Value::Array(_) => ("is a list", format!("write {wanted}")),
        Value::Object(_) => ("is a mapping", format!("write {wanted}")),
    };
    error(field, found, fix)
}

fn check_object(
    schema: &JSONSchemaProps,
    members: &Map<String, Value>,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    for name in schema.required.iter().flatten() {
        if !members.contains_key(name) {
            errors.push(error(&member(field, name), "is missing", add(schema, name)));
        }
    }
    if let Some(properties) = &schema.properties {
        if schema.x_kubernetes_preserve_unknown_fields != Some(true) {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            known_fields(members, field, &known, errors);
        }
        for (name, value) in members {
            if let Some(property) = properties.get(name)
                && !is_unset(schema, property, name, value)
            {
                check(property, value, &member(field, name), errors);
            }
        }
    } else if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        errors.extend(too_long(members.len(), schema.max_properties, "entries", field));
        for (name, value) in members {
            check(values, value, &member(field, name), errors);
        }
    }
}

/// Whether `name:` without a value means that the field is not there, as it does to an API server.
/// Where a default would step in, or a value is needed, it means that the value was forgotten.
fn is_unset(
    schema: &JSONSchemaProps,
    property: &JSONSchemaProps,
    name: &str,
    value: &Value,
) -> bool {
    let is_required = schema.required.iter().flatten().any(|required| required == name);
    value.is_null() && property.default.is_none() && !is_required
}

/// Removes every field without a value, as an API server does where none is allowed.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What to do about a missing field, in the words of its description.
fn add(schema: &JSONSchemaProps, name: &str) -> String {
    let description = schema
        .properties
        .as_ref()
        .and_then(|properties| properties.get(name)?.description.as_deref());
    let phrase = description.and_then(|text| text.split(['.', ':', ';']).next());
    phrase.map_or_else(|| "add it".to_owned(), |phrase| format!("add it ({phrase})"))
}

/// Notes every field that is none of `known`.
pub(super) fn known_fields(
    members: &Map<String, Value>,
    field: &str,
    known: &[&str],
    errors: &mut Vec<FieldError>,
) {
    for name in members.keys() {
        if !known.contains(&name.as_str()) {
            let fix = suggestion(name, known);
            errors.push(error(&member(field, name), "unknown field", fix));
        }
    }
}

fn check_list(
    schema: &JSONSchemaProps,
    items: &[Value],
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    if is_below(items.len(), schema.min_items) {
        errors.push(error(field, "is empty", "list at least one element"));
    }
    errors.extend(too_long(items.len(), schema.max_items, "elements", field));
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(schema, item, &element(field, index), errors);
        }
    }
}

fn is_below(len: usize, least: Option<i64>) -> bool {
    least.is_some_and(|least| i64::try_from(len).is_ok_and(|len| len < least))
}

/// What is said of a length above its bound. What is too long is not repeated: it may be a secret.
fn too_long(len: usize, most: Option<i64>, of: &str, field: &str) -> Option<FieldError> {
    let most = most.filter(|most| i64::try_from(len).is_ok_and(|len| len > *most))?;
    Some(error(field, format!("has {len} {of}"), format!("use at most {most}")))
}

fn check_text(schema: &JSONSchemaProps, text: &str, field: &str) -> Option<FieldError> {
    if let Some(values) = &schema.enum_ {
        let known: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
        if !known.contains(&text) {
            let problem = format!("{} is not a possible value", quoted(text));
            return Some(error(field, problem, suggestion(text, &known)));
        }
    }
    if is_below(text.len(), schema.min_length) {
        return Some(error(field, "is empty", "write a value"));
    }
    let chars = text.chars().count();
    if let Some(error) = too_long(chars, schema.max_length, "characters", field) {
        return Some(error);
    }
    if schema.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
        let problem = format!("{} is not a point in time", quoted(text));
        let fix = "write it such as `2030-01-31T00:00:00Z`";
        return Some(error(field, problem, fix));
    }
    None
}

fn check_range(
    schema: &JSONSchemaProps,
    number: &serde_json::Number,
    field: &str,
) -> Option<FieldError> {
    let value = number.as_f64()?;
    let too_small = schema.minimum.is_some_and(|least| value < least);
    let too_large = schema.maximum.is_some_and(|most| value > most);
    if !too_small && !too_large {
        return None;
    }
    let fix = match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => format!("use {least} to {most}"),
        (Some(least), None) => format!("use at least {least}"),
        (None, Some(most)) => format!("use at most {most}"),
        (None, None) => return None,
    };
    Some(error(field, format!("{number} is out of range"), fix))
}

/// The known word that was probably meant, or all of them.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (distance(word, known), known))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, nearest)) if distance <= 1 + nearest.len() / 5 => {
            format!("did you mean `{nearest}`?")
        }
        _ => {
            let words: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("use one of {}", words.join(", "))
        }
    }
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to make
/// one word of the other, letters of the other case being the same (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // a word of a document may be as long as the file, and no known one is
    let a: Vec<char> = a.chars().take(100).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut above_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&previous, j) + usize::from(x != y);
            let removed = at(&previous, j + 1) + 1;
            let inserted = at(&row, j) + 1;
            let is_swap = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swapped = if is_swap { at(&above_previous, j - 1) + 1 } else { usize::MAX };
            row.push(replaced.min(removed).min(inserted).min(swapped));
        }
        above_previous = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(schema: Value, value: &Value) -> Vec<String> {
        let schema: JSONSchemaProps = serde_json::from_value(schema).unwrap();
        let mut errors = Vec::new();
        check(&schema, value, "spec", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_deviation_is_noted() {
        let schema = json!({
            "type": "object",
            "required": ["image", "command"],
            "properties": {
                "image": {"type": "string", "description": "The image. Of the server."},
                "command": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                "warm": {"type": "integer", "minimum": 0, "maximum": 9},
                "kind": {"type": "string", "enum": ["http", "stdio"]},
                "on": {"type": "boolean"},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
                "at": {"type": "string", "format": "date-time"},
                "count": {"type": "integer", "default": 1},
            },
        });
        let value = json!({
            "comand": ["/x"], "warm": 10, "kind": "htp", "on": "yes", "env": {"A": 1, "B": null},
            "at": "tomorrow", "count": null,
        });
        let mut errors = found(schema.clone(), &value);
        errors.sort();
        assert_eq!(
            errors,
            [
                "spec.at: `tomorrow` is not a point in time; write it such as \
                 `2030-01-31T00:00:00Z`",
                "spec.comand: unknown field; did you mean `command`?",
                "spec.command: is missing; add it",
                "spec.count: has no value; write a whole number, or remove the line",
                "spec.env.A: is not text; put it in quotes",
                "spec.env.B: has no value; write text, or remove the line",
                "spec.image: is missing; add it (The image)",
                "spec.kind: `htp` is not a possible value; did you mean `http`?",
                "spec.on: is text; write `true` or `false`",
                "spec.warm: 10 is out of range; use 0 to 9",
            ]
        );
        let good = json!({"image": "", "command": ["a"], "at": null, "warm": 9, "on": false});
        assert_eq!(found(schema.clone(), &good), Vec::<String>::new());
        assert_eq!(
            found(schema.clone(), &json!({"image": "i", "command": []})),
            ["spec.command: is empty; list at least one element"]
        );
        assert_eq!(
            found(schema, &json!({"image": null, "command": ["a"]})),
            ["spec.image: has no value; write text, or remove the line"]
        );
    }

    #[test]
    fn what_is_too_large_is_refused_and_not_repeated() {
        let text = json!({"type": "string", "maxLength": 3});
        let list = json!({"type": "array", "maxItems": 1, "items": {"type": "string"}});
        let map = json!({
            "type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"},
        });
        for (schema, good, bad, said) in [
            (text, json!("äöü"), json!("pb_k_secret"), "has 11 characters; use at most 3"),
            (list, json!(["a"]), json!(["a", "b"]), "has 2 elements; use at most 1"),
            (map, json!({"a": "1"}), json!({"a": "1", "b": "2"}), "has 2 entries; use at most 1"),
        ] {
            assert!(found(schema.clone(), &good).is_empty());
            assert_eq!(found(schema, &bad), [format!("spec: {said}")]);
        }
    }

    #[test]
    fn a_whole_number_is_no_fraction_and_no_text() {
        let schema = json!({"type": "integer"});
        assert_eq!(found(schema.clone(), &json!(1.5)), ["spec: is a number; write a whole number"]);
        assert_eq!(found(schema, &json!("1")), ["spec: is text; write a whole number"]);
    }

    #[test]
    fn free_form_objects_take_any_field() {
        let schema = json!({
            "type": "array",
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        });
        assert!(found(schema.clone(), &json!([{"key": "k", "effect": 1}])).is_empty());
        assert_eq!(found(schema, &json!(["x"])), ["spec[0]: is text; write a mapping"]);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["command", "env", "idleTimeout"];
        assert_eq!(suggestion("idletimeout", &known), "did you mean `idleTimeout`?");
        assert_eq!(suggestion("cmomand", &known), "did you mean `command`?");
        assert_eq!(suggestion("args", &known), "use one of `command`, `env`, `idleTimeout`");
    }

    #[test]
    fn distances_count_single_letters_and_swaps() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("abc", "ABC", 0),
            ("abc", "axc", 1),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
