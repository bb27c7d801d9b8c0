//! JSON that every parser reads the same way.
//!
//! Who judges a text that somebody else acts on must read what they read. RFC 8259 leaves parsers room: of a name that
//! an object has twice, one takes the first value and another the last; some read UTF-16, comments, or `NaN`. What
//! leaves such room is refused here, and so is what would cost the judge too much. This module must not know what a
//! text is about.

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

/// Values in one text, at most: each costs the reader about a hundred bytes, whatever it costs the sender.
pub const MAX_VALUES: usize = 100_000;

/// One value. Texts are the source's own where they hold no escape.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object, its members in order. No two have one name.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Why a text is not read. No message quotes it: it may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON in UTF-8, or nested too deeply (127 levels).
    #[error(
        "it is not JSON in UTF-8 (near line {line}, column {column}); send one JSON text without extensions"
    )]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A name is twice in one object.
    #[error("an object in it has one name twice; send each name once")]
    Twice,
    /// There are more values than [`MAX_VALUES`].
    #[error("it holds more than {MAX_VALUES} values; send less at a time")]
    TooMany,
}

impl<'a> Json<'a> {
    /// Reads one text.
    pub fn read(text: &'a [u8]) -> Result<Self, Unreadable> {
        let state = State::default();
        let mut source = serde_json::Deserializer::from_slice(text);
        let read = Seed(&state).deserialize(&mut source);
        let read = read.and_then(|json| source.end().map(|()| json));
        read.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            state.found.get().unwrap_or(Unreadable::NotJson { line, column })
        })
    }

    /// The text that this is.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The member of this name; none where this is no object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The members; none where this is no object.
    pub fn members(&self) -> &[(Cow<'a, str>, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }
}

/// A name as the most forgiving parser compares it: in one case, by Unicode's rules, and without `_` and `-`. Some map
/// `toolName`, `tool_name` and `ToolName` to one field, and some take `ſ` for `s`.
pub fn folded(name: &str) -> String {
    let upper = name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

/// What is counted, and found, while one text is read.
#[derive(Default)]
struct State {
    values: Cell<usize>,
    found: Cell<Option<Unreadable>>,
}

impl State {
    fn refuse<E: de::Error>(&self, why: Unreadable) -> E {
        self.found.set(Some(why));
        E::custom(why)
    }
}

struct Seed<'s>(&'s State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Json<'de>, D::Error> {
        let values = self.0.values.get() + 1;
        self.0.values.set(values);
        if values > MAX_VALUES {
            return Err(self.0.refuse(Unreadable::TooMany));
        }
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        // what is no number is no JSON, and never comes here
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Seed(self.0))? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        while let Some(Name(name)) = map.next_key()? {
            if !names.insert(name.clone()) {
                return Err(self.0.refuse(Unreadable::Twice));
            }
            members.push((name, map.next_value_seed(Seed(self.0))?));
        }
        Ok(Json::Object(members))
    }
}

/// A member's name, borrowed where it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn value(json: &Json<'_>) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => json!(value),
            Json::Number(value) => json!(value),
            Json::Text(value) => json!(value),
            Json::List(items) => items.iter().map(value).collect(),
            Json::Object(members) => {
                members.iter().map(|(name, item)| (name.to_string(), value(item))).collect()
            }
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused_however_it_is_written() {
        for text in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","na\u006de":"b"}"#,
            r#"{"x":[{"y":{"z":1,"q":2,"z":1}}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(Json::read(text.as_bytes()), Err(Unreadable::Twice), "{text}");
        }
        assert!(Json::read(br#"{"a":{"n":1},"b":{"n":1},"n":1,"N":2}"#).is_ok());
    }

    #[test]
    fn what_only_some_parsers_read_is_refused() {
        let utf16: Vec<u8> = r#"{"a":1}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in [
            &b""[..],
            b"{",
            b"{} {}",
            b"\xef\xbb\xbf{}",
            b"[NaN]",
            b"[Infinity]",
            b"[1e999]",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{a:1}",
            b"// c\n{}",
            b"[\"\\ud800\"]",
            b"[\"\xff\"]",
            b"[\"a\nb\"]",
            b"[01]",
            b"[+1]",
            b"[0x1]",
            b"\0{}",
            &utf16,
            deep.as_bytes(),
        ] {
            let read = Json::read(text);
            assert!(matches!(read, Err(Unreadable::NotJson { .. })), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(Json::read(list(MAX_VALUES - 1).as_bytes()).is_ok());
        assert_eq!(Json::read(list(MAX_VALUES).as_bytes()), Err(Unreadable::TooMany));
    }

    #[test]
    fn an_error_quotes_nothing() {
        for text in [r#"{"hunter2" "hunter2"}"#, r#"{"hunter2":1,"hunter2":1}"#] {
            let error = Json::read(text.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }

    #[test]
    fn names_that_a_forgiving_parser_takes_for_one_are_folded_into_one() {
        for other in ["S3_URI", "s3Uri", "s3-uri", "ſ3_uri", "s3uri"] {
            assert_eq!(folded(other), folded("s3_uri"), "{other}");
        }
        assert_eq!(folded("bucKet"), folded("bucket"), "the sign of Kelvin");
        assert_ne!(folded("buckets"), folded("bucket"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..8)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_is_there(json in any_json()) {
            let text = json.to_string();
            prop_assert_eq!(value(&Json::read(text.as_bytes()).unwrap()), json);
        }

        #[test]
        fn no_bytes_are_read_that_the_usual_parser_does_not_read(bytes: Vec<u8>) {
            if let Ok(json) = Json::read(&bytes) {
                prop_assert_eq!(value(&json), serde_json::from_slice::<Value>(&bytes).unwrap());
            }
        }
    }
}
