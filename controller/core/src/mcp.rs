//! What a body says to an MCP server, where that can be read in one way only.
//!
//! It turns bytes into messages: who calls which tool with what, who reads which resource, who lists tools. Names that a
//! server could take for others (`Method`, `Arguments`) are refused: a server that reads names in any case would act on
//! what was never judged. Everything else of MCP is passed by. This module must not know policies or HTTP.

use crate::strict_json::{Json, Unreadable, folded};
use data_encoding::BASE64;
use std::borrow::Cow;

/// The names of a message; those that look like one of them must be it.
const MESSAGE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// The names of what is judged in a message's parameters.
const PARAMS: [&str; 3] = ["name", "arguments", "uri"];

const CALL: &str = "tools/call";
const LIST: &str = "tools/list";
const READ: &str = "resources/read";
const SUBSCRIBE: &str = "resources/subscribe";
const PROMPT: &str = "prompts/get";
const LISTEN: &str = "subscriptions/listen";
const PING: &str = "ping";

/// The methods that are told from others here; those that look like one of them must be it.
const METHODS: [&str; 7] = [CALL, LIST, READ, SUBSCRIBE, PROMPT, LISTEN, PING];

/// A request's body.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<'a> {
    /// Its messages: one, or those of a batch (MCP 2025-03-26).
    pub messages: Vec<Message<'a>>,
    /// Whether they came as a list.
    pub is_batch: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message<'a> {
    /// A text or a number; none for a notification or a response.
    pub id: Option<Json<'a>>,
    /// None for a response.
    pub method: Option<Cow<'a, str>>,
    /// What the header `Mcp-Name` repeats: the tool's or prompt's name, or the resource's URI.
    pub name: Option<Cow<'a, str>>,
    /// A tool's arguments.
    pub arguments: Option<Json<'a>>,
}

/// Why a body is not read. No text quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It is not JSON that everybody reads alike.
    #[error("the request body is not read: {0}")]
    Json(#[from] Unreadable),
    /// It is no message of JSON-RPC.
    #[error("the request body is no JSON-RPC message: {0}")]
    Form(&'static str),
    /// A name or method in it is not one that is known, but could be taken for it.
    #[error("the request body has a name that could be taken for `{0}`; write it exactly so")]
    Lookalike(&'static str),
}

/// A header says another method or name than the body (MCP 2026-07-28, basic/transports/streamable-http).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} does not say what the request body says")]
pub struct HeaderMismatch(pub &'static str);

impl<'a> Said<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BadMessage> {
        match Json::read(body)? {
            Json::List(items) if items.is_empty() => Err(BadMessage::Form("its batch is empty")),
            Json::List(items) => {
                let messages = items.into_iter().map(Message::of).collect::<Result<_, _>>()?;
                Ok(Self { messages, is_batch: true })
            }
            one => Ok(Self { messages: vec![Message::of(one)?], is_batch: false }),
        }
    }

    /// How many requests it makes that count against limits: neither notifications and responses, nor pings and streams
    /// that wait for events.
    pub fn calls(&self) -> usize {
        self.messages.iter().filter(|message| message.is_counted()).count()
    }

    /// Whether it asks for the list of tools.
    pub fn lists_tools(&self) -> bool {
        self.messages.iter().any(|message| message.method.as_deref() == Some(LIST))
    }

    /// Whether the headers that repeat the body say the same, where they are there.
    pub fn agrees(&self, method: Header<'_>, name: Header<'_>) -> Result<(), HeaderMismatch> {
        for message in &self.messages {
            if !method.says(message.method.as_deref()) {
                return Err(HeaderMismatch("Mcp-Method"));
            }
            // of other methods it repeats nothing
            if message.name.is_some() && !name.decoded_says(message.name.as_deref()) {
                return Err(HeaderMismatch("Mcp-Name"));
            }
        }
        Ok(())
    }
}

/// A header that repeats what a body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// It is not there.
    Absent,
    /// It is there once.
    Says(&'a str),
    /// It is there more than once, or is no text.
    Unclear,
}

impl Header<'_> {
    fn says(self, own: Option<&str>) -> bool {
        match self {
            Self::Absent => true,
            Self::Says(value) => own == Some(value),
            Self::Unclear => false,
        }
    }

    fn decoded_says(self, own: Option<&str>) -> bool {
        match self {
            Self::Says(value) => decoded(value).is_some_and(|value| own == Some(&*value)),
            other => other.says(own),
        }
    }
}

/// A header's value: plain, or `=?base64?...?=`; none where that is broken.
pub fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let Some(base64) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(value.into());
    };
    let bytes = BASE64.decode(base64.as_bytes()).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

impl<'a> Message<'a> {
    fn of(json: Json<'a>) -> Result<Self, BadMessage> {
        let Json::Object(members) = json else {
            return Err(BadMessage::Form("send an object, or a list of objects"));
        };
        exact(&members, &MESSAGE)?;
        let (mut id, mut method, mut params, mut is_answer) = (None, None, None, false);
        for (name, value) in members {
            match &*name {
                "id" => id = Some(value),
                "method" => method = Some(value),
                "params" => params = Some(value),
                "result" | "error" => is_answer = true,
                _ => {}
            }
        }
        let method = match (method, is_answer) {
            (None, true) => {
                return Ok(Self { id: None, method: None, name: None, arguments: None });
            }
            (Some(Json::Text(method)), false) => method,
            (Some(_), false) => return Err(BadMessage::Form("`method` is a text")),
            (Some(_), true) => {
                return Err(BadMessage::Form("it is both a request and a response; send one"));
            }
            (None, false) => return Err(BadMessage::Form("it has no `method`")),
        };
        if !matches!(id, None | Some(Json::Text(_) | Json::Number(_))) {
            return Err(BadMessage::Form("`id` is a text or a number"));
        }
        known(&method)?;
        let (name, arguments) = match &*method {
            CALL => {
                if id.is_none() {
                    return Err(BadMessage::Form("a tool is called by a request; give it an `id`"));
                }
                call(params)?
            }
            READ | SUBSCRIBE => (Some(text(params, "uri")?), None),
            PROMPT => (Some(text(params, "name")?), None),
            _ => (None, None),
        };
        Ok(Self { id, method: Some(method), name, arguments })
    }

    fn is_counted(&self) -> bool {
        self.id.is_some() && !matches!(self.method.as_deref(), Some(PING | LISTEN))
    }

    /// The tool that is called.
    pub fn tool(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.method.as_deref() == Some(CALL))
    }

    /// The resource that is read, now or whenever it changes.
    pub fn resource(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| matches!(self.method.as_deref(), Some(READ | SUBSCRIBE)))
    }
}

type Named<'a> = (Option<Cow<'a, str>>, Option<Json<'a>>);

fn call(params: Option<Json<'_>>) -> Result<Named<'_>, BadMessage> {
    let (mut name, mut arguments) = (None, None);
    for (member, value) in object(params)? {
        match (&*member, value) {
            ("name", Json::Text(text)) => name = Some(text),
            ("arguments", value @ Json::Object(_)) => arguments = Some(value),
            ("arguments", Json::Null) => {}
            ("arguments", _) => return Err(BadMessage::Form("`arguments` is an object")),
            _ => {}
        }
    }
    let name = name.ok_or(BadMessage::Form("a call names its tool in `params.name`"))?;
    Ok((Some(name), arguments))
}

fn text<'a>(params: Option<Json<'a>>, wanted: &'static str) -> Result<Cow<'a, str>, BadMessage> {
    let found = object(params)?.into_iter().find(|(member, _)| member == wanted);
    match found {
        Some((_, Json::Text(text))) => Ok(text),
        _ => Err(BadMessage::Form("what is asked for is named by a text in `params`")),
    }
}

fn object(params: Option<Json<'_>>) -> Result<Vec<(Cow<'_, str>, Json<'_>)>, BadMessage> {
    let Some(Json::Object(members)) = params else {
        return Err(BadMessage::Form("`params` is an object"));
    };
    exact(&members, &PARAMS)?;
    Ok(members)
}

/// None of the names looks like one of the known without being it.
fn exact(members: &[(Cow<'_, str>, Json<'_>)], known: &[&'static str]) -> Result<(), BadMessage> {
    members.iter().try_for_each(|(name, _)| not_like(name, known))
}

/// A method is made of printable ASCII and looks like none of those that are judged.
fn known(method: &str) -> Result<(), BadMessage> {
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadMessage::Form("`method` is made of visible ASCII characters"));
    }
    not_like(method, &METHODS)
}

fn not_like(name: &str, known: &[&'static str]) -> Result<(), BadMessage> {
    if known.contains(&name) {
        return Ok(());
    }
    let name = folded(name.trim());
    let like = known.iter().find(|known| folded(known) == name);
    like.map_or(Ok(()), |known| Err(BadMessage::Lookalike(known)))
}

#[cfg(test)]
#[path = "mcp_tests.rs"]
mod tests;
