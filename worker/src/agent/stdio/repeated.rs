//! What headers repeat of a body in the era without sessions, and whether they say the same (MCP 2026-07-28,
//! basic/transports/streamable-http). Who reads the body has to check them: others route by the headers alone.
//!
//! It must not know programs, or what becomes of a mismatch.

use super::message::Message;
use http::HeaderMap;
use patchbay_core::mcp::decoded;
use serde_json::Value;

pub(super) const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PARAM_PREFIX: &str = "mcp-param-";

pub(super) const META_VERSION: [&str; 3] =
    ["params", "_meta", "io.modelcontextprotocol/protocolVersion"];
const META_CAPABILITIES: [&str; 3] =
    ["params", "_meta", "io.modelcontextprotocol/clientCapabilities"];

/// Where a message has what `Mcp-Name` repeats, by its method.
const NAMED: [(&str, &str); 8] = [
    ("tools/call", "name"),
    ("prompts/get", "name"),
    ("resources/read", "uri"),
    ("resources/subscribe", "uri"),
    ("resources/unsubscribe", "uri"),
    ("tasks/get", "taskId"),
    ("tasks/update", "taskId"),
    ("tasks/cancel", "taskId"),
];

/// What of a request's metadata is missing, or no value for it.
pub(super) fn missing(request: &Message) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if request.text_at(&META_VERSION).is_none() {
        missing.push(META_VERSION[2]);
    }
    if !request.at(&META_CAPABILITIES).is_some_and(|value| value.starts_with('{')) {
        missing.push(META_CAPABILITIES[2]);
    }
    missing
}

/// An argument that a header repeats: the path to it, and the header's name after its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeated {
    path: Vec<String>,
    header: String,
}

/// The arguments of a tool that headers repeat, from the schema of its input (`x-mcp-header`).
pub(super) fn of_schema(schema: &Value) -> Vec<Repeated> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    found
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Repeated>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        path.push(name.clone());
        let header = property.get("x-mcp-header").and_then(Value::as_str);
        if let Some(header) = header.filter(|header| !header.is_empty()) {
            found.push(Repeated { path: path.clone(), header: header.to_owned() });
        }
        collect(property, path, found);
        path.pop();
    }
}

/// Whether the headers say what a message says; if not, what is wrong.
pub(super) fn check(
    headers: &HeaderMap,
    message: &Message,
    arguments: &[Repeated],
) -> Result<(), String> {
    let Some(method) = message.method() else { return Ok(()) };
    match only(headers, METHOD)? {
        None => return Err("the header Mcp-Method is missing".to_owned()),
        Some(value) if value != method => {
            return Err("the header Mcp-Method does not name the body's method".to_owned());
        }
        Some(_) => {}
    }
    let member = NAMED.iter().find(|(named, _)| *named == method).map(|(_, member)| *member);
    if let Some(own) = member.and_then(|member| message.text_at(&["params", member])) {
        match only(headers, NAME)?.map(decoded) {
            None => return Err("the header Mcp-Name is missing".to_owned()),
            Some(value) if value.as_deref() != Some(&own) => {
                return Err("the header Mcp-Name does not name what the body names".to_owned());
            }
            Some(_) => {}
        }
    }
    arguments.iter().try_for_each(|argument| argument.check(headers, message))
}

impl Repeated {
    fn check(&self, headers: &HeaderMap, message: &Message) -> Result<(), String> {
        let path: Vec<_> = ["params", "arguments"]
            .into_iter()
            .chain(self.path.iter().map(String::as_str))
            .collect();
        let own = message.at(&path).and_then(plain);
        let header = format!("{PARAM_PREFIX}{}", self.header);
        let shown = format!("Mcp-Param-{}", self.header);
        match (only(headers, &header)?, own) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(format!("the header {shown} is missing")),
            (Some(_), None) => {
                Err(format!("the header {shown} repeats what the body does not say"))
            }
            (Some(value), Some(own)) if decoded(value).as_deref() == Some(&own) => Ok(()),
            (Some(_), Some(_)) => {
                Err(format!("the header {shown} does not say what the body says"))
            }
        }
    }
}

/// A value as a header has it; none where it is nothing, or no plain value.
fn plain(json: &str) -> Option<String> {
    match serde_json::from_str(json).ok()? {
        Value::String(text) => Some(text),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A header that may be there once. Of two, others could have read the other.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("the header {name} is there twice"));
    }
    let text = value.to_str().map_err(|_| format!("the header {name} is no plain text"))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn call(arguments: &Value) -> Message {
        let text = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "t\u{e9}", "arguments": arguments },
        });
        Message::read(text.to_string()).unwrap()
    }

    const CALL: [(&str, &str); 2] = [(METHOD, "tools/call"), (NAME, "=?base64?dMOp?=")];

    #[test]
    fn method_and_name_must_be_there_once_and_say_the_same() {
        let message = call(&json!({}));
        assert_eq!(check(&headers(&CALL), &message, &[]), Ok(()));
        for wrong in [
            &[CALL[0]][..],
            &[CALL[1]],
            &[(METHOD, "tools/list"), CALL[1]],
            &[CALL[0], (NAME, "t")],
            &[CALL[0], (NAME, "=?base64?!?=")],
            &[CALL[0], CALL[0], CALL[1]],
        ] {
            assert!(check(&headers(wrong), &message, &[]).is_err(), "{wrong:?}");
        }
        let ping = Message::read(r#"{"id":1,"method":"ping"}"#).unwrap();
        assert_eq!(check(&headers(&[(METHOD, "ping"), (NAME, "any")]), &ping, &[]), Ok(()));
    }

    #[test]
    fn arguments_are_repeated_as_their_schema_says() {
        let repeated = of_schema(&json!({
            "properties": {
                "region": { "type": "string", "x-mcp-header": "Region" },
                "deep": { "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
                "plain": { "type": "string" },
                "empty": { "x-mcp-header": "" },
            },
        }));
        assert_eq!(repeated.len(), 2);
        let message = call(&json!({ "region": "eu", "deep": { "n": 3 }, "plain": "x" }));
        let with = |further: &[(&str, &str)]| {
            check(&headers(&[&CALL, further].concat()), &message, &repeated)
        };
        assert_eq!(with(&[("mcp-param-region", "eu"), ("mcp-param-n", "3")]), Ok(()));
        assert!(with(&[("mcp-param-region", "eu")]).is_err());
        assert!(with(&[("mcp-param-region", "us"), ("mcp-param-n", "3")]).is_err());
        let without = call(&json!({ "region": null }));
        assert_eq!(check(&headers(&CALL), &without, &repeated), Ok(()));
        let region = headers(&[CALL[0], CALL[1], ("mcp-param-region", "eu")]);
        assert!(check(&region, &without, &repeated).is_err());
    }

    #[test]
    fn a_request_says_its_revision_and_what_its_client_can_do() {
        let with = |meta: Value| {
            let text = json!({ "id": 1, "method": "ping", "params": { "_meta": meta } });
            missing(&Message::read(text.to_string()).unwrap()).len()
        };
        let [_, _, version] = META_VERSION;
        let [_, _, capabilities] = META_CAPABILITIES;
        assert_eq!(with(json!({ version: "2026-07-28", capabilities: {} })), 0);
        assert_eq!(with(json!({ version: 1, capabilities: {} })), 1);
        assert_eq!(with(json!({ version: "2026-07-28", capabilities: [] })), 1);
        assert_eq!(with(json!({})), 2);
    }
}
