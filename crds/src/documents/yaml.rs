//! From the text of a file to one tree per document, and the line of every field in it.
//!
//! A file is cut at its document markers first, so that a mistake in one document hides none in the
//! others. This module must not know any kind.

use crate::validate::{element, member};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::{
    Location, MessageFormatter as _, Spanned, UserMessageFormatter, alias_limits, budget, options,
};
use std::{collections::BTreeMap, fmt};

/// The text of one document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    text: &'a str,
    /// How many lines of the file come before it.
    lines_before: u32,
}

impl Part<'_> {
    /// The line of a place in the document, counted in the file.
    fn line(&self, place: Location) -> u32 {
        let line = u32::try_from(place.line()).unwrap_or(u32::MAX);
        line.saturating_add(self.lines_before)
    }
}

/// One document.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    /// The line of each field in the file, from 1, by the field's path.
    pub(super) lines: BTreeMap<String, u32>,
}

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// The line in the file, from 1.
    pub(super) line: Option<u32>,
    pub(super) problem: String,
}

/// Cuts a file at its document markers. `---` and `...` at the start of a line are markers even
/// within a block of text (YAML 1.2, rule c-forbidden), so lines are all that needs to be known.
pub(super) fn split(text: &str) -> Vec<Part<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_marker = |line: &str, marker: &str| {
        line.strip_prefix(marker)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut parts = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let mut only_prologue = true; // blank lines, comments and directives belong to what follows
    let (mut offset, mut line_number) = (0, 0);
    for line in text.split_inclusive('\n') {
        let is_start = is_marker(line, "---");
        if is_start && !only_prologue {
            parts.push(Part { text: text.get(start..offset).unwrap_or_default(), lines_before });
            (start, lines_before) = (offset, line_number);
        }
        offset += line.len();
        line_number += 1;
        if is_marker(line, "...") {
            if !only_prologue {
                parts
                    .push(Part { text: text.get(start..offset).unwrap_or_default(), lines_before });
            }
            (start, lines_before) = (offset, line_number);
            only_prologue = true;
        } else {
            let is_prologue = line.trim().is_empty() || line.starts_with(['#', '%']);
            only_prologue &= !is_start && is_prologue;
        }
    }
    if !only_prologue {
        parts.push(Part { text: text.get(start..).unwrap_or_default(), lines_before });
    }
    parts
}

/// Reads one document; none where it is empty.
pub(super) fn read(part: &Part<'_>) -> Result<Option<Tree>, Unreadable> {
    // far above what a manifest needs, far below what it costs to expand a file of nested aliases
    let options = options! {
        budget: budget! { max_aliases: 1_000, max_depth: 32 },
        alias_limits: alias_limits! { max_total_replayed_events: 20_000 },
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let node: Spanned<Content> = serde_saphyr::from_str_with_options(part.text, options)
        .map_err(|error| unreadable(part, &error))?;
    let mut lines = BTreeMap::new();
    lines.insert(String::new(), part.line(node.referenced));
    let value = node.value.into_value("", part, &mut lines);
    Ok((!value.is_null()).then_some(Tree { value, lines }))
}

fn unreadable(part: &Part<'_>, error: &serde_saphyr::Error) -> Unreadable {
    let location = error.location().filter(|location| location.line() > 0);
    let message = UserMessageFormatter.format_message(error);
    Unreadable {
        line: location.map(|location| part.line(location)),
        problem: format!("cannot be read as YAML: {}", message.replace('\n', " ")),
    }
}

/// Any YAML node.
enum Content {
    Scalar(Value),
    List(Vec<Spanned<Content>>),
    Object(Vec<(Spanned<String>, Content)>),
}

impl Content {
    /// The node as a JSON value; the lines of all fields below `field` are added to `lines`.
    fn into_value(self, field: &str, part: &Part<'_>, lines: &mut BTreeMap<String, u32>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let field = element(field, index);
                    lines.insert(field.clone(), part.line(item.referenced));
                    item.value.into_value(&field, part, lines)
                })
                .collect(),
            Self::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(key, content)| {
                        let field = member(field, &key.value);
                        lines.insert(field.clone(), part.line(key.referenced));
                        (key.value, content.into_value(&field, part, lines))
                    })
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Content, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Content::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn starts(text: &str) -> Vec<(u32, String)> {
        split(text).into_iter().map(|part| (part.lines_before, part.text.to_owned())).collect()
    }

    fn tree(text: &str) -> Tree {
        read(&split(text)[0]).unwrap().unwrap()
    }

    #[test]
    fn a_file_is_cut_at_its_markers() {
        assert_eq!(starts("a: 1\n"), [(0, "a: 1\n".into())]);
        assert_eq!(
            starts("a: 1\n---\nb: 2\n--- # c\nc: 3"),
            [(0, "a: 1\n".into()), (1, "---\nb: 2\n".into()), (3, "--- # c\nc: 3".into())]
        );
        assert_eq!(
            starts("---\r\na: 1\r\n...\r\n# note\r\n---\r\nb: 2\r\n"),
            [(0, "---\r\na: 1\r\n...\r\n".into()), (3, "# note\r\n---\r\nb: 2\r\n".into())]
        );
    }

    #[test]
    fn what_only_looks_like_a_marker_cuts_nothing() {
        assert_eq!(starts("a: |\n  ---\n  x\nb: ---x\n----: 1\n").len(), 1);
    }

    #[test]
    fn comments_and_directives_belong_to_the_document_that_follows() {
        assert_eq!(starts("\u{feff}# head\n%YAML 1.2\n---\na: 1\n").len(), 1);
        assert_eq!(starts("# nothing\n\n"), []);
        assert_eq!(starts(""), []);
        assert_eq!(tree("# head\n%YAML 1.2\n---\na: 1\n").lines["a"], 4);
    }

    #[test]
    fn an_empty_document_is_none() {
        let parts = split("---\n# only a comment\n---\na: 1\n");
        assert_eq!(parts.len(), 2);
        assert!(read(&parts[0]).unwrap().is_none());
        assert!(read(&parts[1]).unwrap().is_some());
    }

    #[test]
    fn every_field_has_the_line_of_its_key_in_the_file() {
        let parts =
            split("x: 0\n---\na:\n  b: 1\n  list:\n    - one\n    - k: v\n  flow: {y: [2]}\n");
        let tree = read(&parts[1]).unwrap().unwrap();
        assert_eq!(
            tree.value,
            json!({"a": {"b": 1, "list": ["one", {"k": "v"}], "flow": {"y": [2]}}})
        );
        for (field, line) in [
            ("a", 3),
            ("a.b", 4),
            ("a.list", 5),
            ("a.list[0]", 6),
            ("a.list[1]", 7),
            ("a.list[1].k", 7),
            ("a.flow.y[0]", 8),
        ] {
            assert_eq!(tree.lines.get(field), Some(&line), "{field}");
        }
    }

    #[test]
    fn scalars_keep_their_types() {
        let text = "a: true\nb: -1\nc: 1.5\nd: '1'\ne: ~\nf: text\ng: 18446744073709551615\n";
        assert_eq!(
            tree(text).value,
            json!({"a": true, "b": -1, "c": 1.5, "d": "1", "e": null, "f": "text", "g": u64::MAX})
        );
    }

    #[test]
    fn a_mistake_is_told_with_its_line_in_the_file_and_in_one_line() {
        for (text, line) in [
            ("a: 1\n---\nb: [1, 2\nc: 3\n", 4),
            ("a: 1\n---\nb: 1\nb: 2\n", 4),
            ("a: 1\n---\nb: \"x\nc: 1\n", 4),
            ("a: 1\n---\nb: *nowhere\n", 3),
        ] {
            let error = read(&split(text)[1]).unwrap_err();
            assert_eq!(error.problem.lines().count(), 1, "{}", error.problem);
            assert!(!error.problem.contains(" at line "), "{}", error.problem);
            assert_eq!(error.line, Some(line), "{text:?}: {}", error.problem);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let last = n - 1;
            let items = vec![format!("*a{last}"); 10].join(", ");
            text += &["a", &n.to_string(), ": &a", &n.to_string(), " [", &items, "]\n"].concat();
        }
        assert!(read(&split(&text)[0]).is_err());
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        assert!(read(&split(&deep)[0]).is_err());
    }
}
