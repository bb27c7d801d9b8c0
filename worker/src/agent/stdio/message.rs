//! A JSON-RPC message as text, and the little of it that decides where it goes.
//!
//! A message is passed on as it was written: what is not known here is not lost. Where an id has to be another on the
//! other side, that one value is replaced and the rest is copied. It must not know sessions or HTTP.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// What cancels a request.
pub(super) const CANCELLED: &str = "notifications/cancelled";

/// Where a request says how its progress is to be told.
pub(super) const PROGRESS_TOKEN: [&str; 3] = ["params", "_meta", "progressToken"];

const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// The members of a JSON object in their order, each value as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The last of that name, which is the one that programs read.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }
}

/// The value at a path of names, as it is written.
pub(super) fn at<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(text, |text, name| Members::of(text)?.get(name))
}

/// A text at a path of names.
pub(super) fn text_at(text: &str, path: &[&str]) -> Option<String> {
    serde_json::from_str(at(text, path)?).ok()
}

/// The text with another value at a path of names; none where nothing is there.
pub(super) fn with(text: &str, path: &[&str], value: &str) -> Option<String> {
    let [name, rest @ ..] = path else { return Some(value.to_owned()) };
    let members = Members::of(text)?;
    let mut is_there = false;
    let mut written = String::with_capacity(text.len() + value.len());
    for (index, (key, own)) in members.0.iter().enumerate() {
        written.push(if index == 0 { '{' } else { ',' });
        written.push_str(&Value::from(key.as_str()).to_string());
        written.push(':');
        match with(own.get(), rest, value).filter(|_| key == name) {
            Some(other) => {
                is_there = true;
                written.push_str(&other);
            }
            None => written.push_str(own.get()),
        }
    }
    written.push('}');
    is_there.then_some(written)
}

/// The id of a request, or a token that stands for one: a text or a number. Equal where JSON's values are, however
/// they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(String);

impl Id {
    /// None where it is neither.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        (value.is_string() || value.is_number()).then(|| Self(value.to_string()))
    }

    /// It as JSON.
    pub(crate) fn as_json(&self) -> &str {
        &self.0
    }

    /// One of our own.
    pub(super) fn number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// The number that it is, if it is one of ours.
    pub(super) fn as_number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Request {
        id: Id,
        method: String,
    },
    Notification {
        method: String,
    },
    /// To the request of that id; with the code where it is an error. An error may be of no request that could be read.
    Response {
        id: Option<Id>,
        error: Option<i64>,
    },
}

/// Why a text is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMessage {
    #[error("it is no JSON")]
    Json,
    #[error("it is JSON, but no JSON-RPC message")]
    Form,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// All of it, on one line.
    pub(crate) text: String,
}

impl Message {
    /// Reads one message.
    pub(crate) fn read(text: impl Into<String>) -> Result<Self, NoMessage> {
        let text = text.into();
        let any: &RawValue = serde_json::from_str(&text).map_err(|_| NoMessage::Json)?;
        // it may be long: it is copied only where it has to be another
        let text = if any.get().len() == text.len() && !text.contains(LINE_ENDS) {
            text
        } else {
            on_one_line(any.get())
        };
        let members = Members::of(&text).ok_or(NoMessage::Form)?;
        let string = |name| members.get(name).and_then(|raw| serde_json::from_str(raw).ok());
        let id = || members.get("id").and_then(Id::read);
        let kind = match (string("method"), members.get("id")) {
            (Some(method), Some(_)) => Kind::Request { id: id().ok_or(NoMessage::Form)?, method },
            (Some(method), None) => Kind::Notification { method },
            (None, _) if members.get("result").is_some() => {
                Kind::Response { id: Some(id().ok_or(NoMessage::Form)?), error: None }
            }
            (None, _) => {
                let code = at(members.get("error").ok_or(NoMessage::Form)?, &["code"]);
                let code = code.and_then(|code| code.parse().ok()).unwrap_or_default();
                Kind::Response { id: id(), error: Some(code) }
            }
        };
        Ok(Self { kind, text })
    }

    /// Reads what a client may send at once: one message, or a batch (MCP 2025-03-26), which is said by the flag.
    pub(crate) fn read_all(text: &str) -> Result<(Vec<Self>, bool), NoMessage> {
        if text.trim_start().starts_with('[') {
            let all: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| NoMessage::Json)?;
            let all: Vec<_> =
                all.into_iter().map(|one| Self::read(one.get())).collect::<Result<_, _>>()?;
            return if all.is_empty() { Err(NoMessage::Form) } else { Ok((all, true)) };
        }
        Ok((vec![Self::read(text)?], false))
    }

    /// Its id, if it is a request.
    pub(crate) fn request_id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request { id, .. } => Some(id),
            Kind::Notification { .. } | Kind::Response { .. } => None,
        }
    }

    /// Its method, if it has one.
    pub(crate) fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The request that it cancels, if it does.
    pub(crate) fn cancelled(&self) -> Option<Id> {
        let is_one = matches!(&self.kind, Kind::Notification { method } if method == CANCELLED);
        is_one.then(|| self.id_at(&["params", "requestId"])).flatten()
    }

    /// By which the progress of a request is told.
    pub(super) fn progress_token(&self) -> Option<Id> {
        self.id_at(&PROGRESS_TOKEN)
    }

    /// The value at a path of names, as it is written.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&str> {
        at(&self.text, path)
    }

    /// A text at a path of names.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<String> {
        text_at(&self.text, path)
    }

    /// An id or a token at a path of names.
    pub(super) fn id_at(&self, path: &[&str]) -> Option<Id> {
        Id::read(self.at(path)?)
    }

    /// Puts another id in the place of the one at a path, where one is.
    pub(super) fn replace(&mut self, path: &[&str], id: &Id) {
        if self.at(path).is_none() {
            return;
        }
        if let Some(text) = with(&self.text, path, id.as_json()) {
            self.text = text;
        }
    }
}

/// JSON without line ends: outside of texts they are space, and in texts JSON has none.
fn on_one_line(json: &str) -> String {
    json.replace(LINE_ENDS, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn kind(text: &str) -> Result<Kind, NoMessage> {
        Message::read(text).map(|message| message.kind)
    }

    #[test]
    fn messages_are_told_apart() {
        let id = Id::read("1").unwrap();
        let method = || "m".to_owned();
        let request = Kind::Request { id: id.clone(), method: method() };
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#), Ok(request));
        assert_eq!(
            kind(r#"{"method":"m","params":{"id":1}}"#),
            Ok(Kind::Notification { method: method() })
        );
        let result = Kind::Response { id: Some(id.clone()), error: None };
        assert_eq!(kind(r#"{"id":1,"result":{"method":"m"}}"#), Ok(result));
        let error = Kind::Response { id: Some(id), error: Some(-32601) };
        assert_eq!(kind(r#"{"id":1,"error":{"code":-32601,"message":""}}"#), Ok(error));
        let of_none = Kind::Response { id: None, error: Some(-32700) };
        assert_eq!(kind(r#"{"id":null,"error":{"code":-32700}}"#), Ok(of_none));
        for bad in ["1", "[]", r#"{"id":1}"#, r#"{"id":{},"method":"m"}"#, r#"{"result":{}}"#] {
            assert_eq!(kind(bad), Err(NoMessage::Form), "{bad}");
        }
        for bad in ["", "{", r#"{"method":"m"} x"#, "not json"] {
            assert_eq!(kind(bad), Err(NoMessage::Json), "{bad}");
        }
    }

    #[test]
    fn a_batch_is_read_one_by_one_and_an_empty_one_is_none() {
        let (all, is_batch) =
            Message::read_all(" [{\"method\":\"a\"},\n{\"method\":\"b\"}]").unwrap();
        assert_eq!((all.len(), is_batch), (2, true));
        assert_eq!(Message::read_all("[]"), Err(NoMessage::Form));
        assert!(!Message::read_all(r#"{"method":"a"}"#).unwrap().1);
    }

    #[test]
    fn what_is_written_over_lines_is_one_line_and_says_the_same() {
        let message = Message::read("{\r\n \"method\":\n\"a\\nb\"}").unwrap();
        assert!(!message.text.contains(['\n', '\r']), "{}", message.text);
        assert_eq!(message.kind, Kind::Notification { method: "a\nb".into() });
    }

    #[test]
    fn an_id_is_another_and_everything_else_is_as_it_was_written() {
        let text = r#"{"id":"a","result":{"big":12345678901234567890.10,"_meta":{"k":1,"k":2}},"unknown":[1 ,2]}"#;
        let mut message = Message::read(text).unwrap();
        message.replace(&["id"], &Id::number(7));
        assert_eq!(message.text, text.replace("\"a\"", "7"));
        message.replace(&["result", "_meta", "absent"], &Id::number(1));
        assert_eq!(message.text, text.replace("\"a\"", "7"));
    }

    #[test]
    fn ids_are_equal_where_their_values_are() {
        assert_eq!(Id::read(r#""\u0061""#), Id::read(r#""a""#));
        assert_ne!(Id::read("\"1\""), Id::read("1"));
        assert_eq!(Id::read(" 1"), Id::read("1"));
        assert_eq!(Id::read("null"), None);
        assert_eq!(Id::number(7).as_number(), Some(7));
        assert_eq!(Id::read("\"7\"").unwrap().as_number(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_replaced_the_rest_means_the_same(
            key in ".*", text in ".*", number in any::<i64>(),
        ) {
            let key = if ["id", "method", "params"].contains(&key.as_str()) { "x" } else { &key };
            let mut value = json!({
                "method": text, "id": number, key: text, "params": { "_meta": { "t": number, key: [text] } },
            });
            let mut message = Message::read(value.to_string()).unwrap();
            message.replace(&["params", "_meta", "t"], &Id::number(1));
            if key == "t" { return Ok(()); }
            value["params"]["_meta"]["t"] = json!(1);
            prop_assert_eq!(serde_json::from_str::<Value>(&message.text).unwrap(), value);
        }
    }
}
