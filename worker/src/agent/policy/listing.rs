//! Takes tools out of a message that lists them. All the rest of it stays as it was written, byte by byte but for white
//! space. It must not know which tools, or how the message came.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, marker::PhantomData};

/// Why a response is not looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unlisted {
    #[error("the MCP server's list of tools is not in a form that can be looked through")]
    Form,
    #[error("the MCP server's list of tools is too long to be looked through, or broke off")]
    Broken,
}

/// The message, or batch of messages, without the tools that are not offered; none where nothing is to be taken out.
pub(super) fn without(
    text: &[u8],
    offers: &dyn Fn(&str) -> bool,
) -> Result<Option<Vec<u8>>, Unlisted> {
    let text = std::str::from_utf8(text).map_err(|_| Unlisted::Form)?;
    let changed = match text.trim_start().as_bytes().first() {
        Some(b'[') => batch(text, offers)?,
        _ => message(text, offers)?,
    };
    Ok(changed.map(String::into_bytes))
}

fn batch(text: &str, offers: &dyn Fn(&str) -> bool) -> Result<Option<String>, Unlisted> {
    let items: Vec<&RawValue> = read(text)?;
    let changed: Vec<_> =
        items.iter().map(|item| message(item.get(), offers)).collect::<Result<_, _>>()?;
    if changed.iter().all(Option::is_none) {
        return Ok(None);
    }
    let items = items.iter().zip(&changed);
    let texts: Vec<&str> =
        items.map(|(item, changed)| changed.as_deref().unwrap_or(item.get())).collect();
    Ok(Some(format!("[{}]", texts.join(","))))
}

fn message(text: &str, offers: &dyn Fn(&str) -> bool) -> Result<Option<String>, Unlisted> {
    let members: Members<'_> = read(text)?;
    replace(&members, "result", |result| {
        if !result.starts_with('{') {
            return Ok(None);
        }
        replace(&read(result)?, "tools", |tools| list(tools, offers))
    })
}

fn list(text: &str, offers: &dyn Fn(&str) -> bool) -> Result<Option<String>, Unlisted> {
    let tools: Vec<&RawValue> = read(text)?;
    let is_offered = |tool: &&RawValue| {
        let members: Members<'_> = read(tool.get())?;
        let name = members.get("name").ok_or(Unlisted::Form)?;
        Ok(offers(&read::<Cow<'_, str>>(name)?))
    };
    let mut left = Vec::new();
    for tool in &tools {
        if is_offered(tool)? {
            left.push(tool.get());
        }
    }
    Ok((left.len() < tools.len()).then(|| format!("[{}]", left.join(","))))
}

/// The object with this member's value changed; none where it is not there, or not changed.
fn replace(
    members: &Members<'_>,
    name: &str,
    change: impl FnOnce(&str) -> Result<Option<String>, Unlisted>,
) -> Result<Option<String>, Unlisted> {
    let Some(old) = members.get(name) else { return Ok(None) };
    let Some(new) = change(old)? else { return Ok(None) };
    let texts: Result<Vec<String>, _> = members
        .0
        .iter()
        .map(|(own, value)| {
            let value = if own == name { &new } else { value.get() };
            serde_json::to_string(own).map(|own| format!("{own}:{value}"))
        })
        .collect();
    let texts = texts.map_err(|_| Unlisted::Form)?;
    Ok(Some(format!("{{{}}}", texts.join(","))))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unlisted> {
    serde_json::from_str(text).map_err(|_| Unlisted::Form)
}

/// An object's members in order, as they are written. No two have one name.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Members<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(Ordered(PhantomData))
    }
}

struct Ordered<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for Ordered<'a> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
        let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'a>, &'a RawValue>()? {
            if members.iter().any(|(own, _)| *own == name) {
                return Err(de::Error::custom("a name is there twice"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn filtered(text: &str) -> Result<Option<String>, Unlisted> {
        let changed = without(text.as_bytes(), &|tool| !tool.starts_with('x'))?;
        Ok(changed.map(|text| String::from_utf8(text).unwrap()))
    }

    #[test]
    fn denied_tools_go_and_everything_else_stays_as_it_is_written() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"c","tools":[
            {"name":"a","inputSchema":{"z":1.50,"a":1e2,"n":18446744073709551616}},{"name":"xb"},{"na\u006de":"\u0078c"},
            {"description":"\u00e9","name":"d"}],"ttlMs":5}}"#;
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"c","tools":[{"name":"a","inputSchema":{"z":1.50,"a":1e2,"n":18446744073709551616}},{"description":"\u00e9","name":"d"}],"ttlMs":5}}"#;
        assert_eq!(filtered(text).unwrap().unwrap(), expected);
    }

    #[test]
    fn what_lists_nothing_that_is_denied_is_not_touched() {
        for text in [
            r#"{"id":1,"result":{"tools":[{"name":"a"}]}}"#,
            r#"{"id":1,"result":{"tools":[]}}"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"id":1,"result":null}"#,
            r#"{"id":1,"error":{"code":1,"message":"x","data":{"tools":[{"name":"x"}]}}}"#,
            r#"{"method":"notifications/message","params":{"tools":[{"name":"x"}]}}"#,
            r#"[{"id":1,"result":{}}]"#,
        ] {
            assert_eq!(filtered(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn of_a_batch_each_message_is_looked_through() {
        let text = r#"[{"id":1,"result":{"x":0}}, {"id":2,"result":{"tools":[{"name":"x"},{"name":"a"}]}}]"#;
        let expected = r#"[{"id":1,"result":{"x":0}},{"id":2,"result":{"tools":[{"name":"a"}]}}]"#;
        assert_eq!(filtered(text).unwrap().unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        for text in [
            "",
            "x",
            "1",
            "[1]",
            r#"{"result":{"tools":[{"name":"a"}]},"result":{"tools":[{"name":"x"}]}}"#,
            r#"{"result":{"tools":[],"to\u006fls":[{"name":"x"}]}}"#,
            r#"{"result":{"tools":{}}}"#,
            r#"{"result":{"tools":["x"]}}"#,
            r#"{"result":{"tools":[{}]}}"#,
            r#"{"result":{"tools":[{"name":1}]}}"#,
            r#"{"result":{"tools":[{"name":"a","name":"x"}]}}"#,
            r#"{"result":{"tools":[]}} {}"#,
        ] {
            assert_eq!(filtered(text), Err(Unlisted::Form), "{text}");
        }
        assert!(without(b"\xff{}", &|_| true).is_err());
    }

    proptest! {
        #[test]
        fn exactly_the_offered_are_left_in_order(names in proptest::collection::vec("[xa][a-z\"é]{0,4}", 0..20)) {
            let tools: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            let text = json!({ "id": 1, "result": { "tools": tools } }).to_string();
            let left = filtered(&text).unwrap().unwrap_or(text);
            let left: Value = serde_json::from_str(&left).unwrap();
            let expected: Vec<Value> = tools.into_iter().filter(|tool| !tool["name"].as_str().unwrap().starts_with('x')).collect();
            prop_assert_eq!(left, json!({ "id": 1, "result": { "tools": expected } }));
        }
    }
}
