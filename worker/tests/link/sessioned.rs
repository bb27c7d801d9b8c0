//! The part of these tests' MCP server that has sessions: it begins them, lets go of them when it is told, and may become
//! another server. It says of each message in which session it came.

use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessioned(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    live: BTreeSet<String>,
    /// The query with which each began.
    queries: BTreeMap<String, Option<String>>,
    /// Of the server, as it says.
    version: u64,
    /// What it does otherwise than well.
    refuses: Option<Refuses>,
    /// Session and method of each message, or the session and the method of HTTP, and which event it names.
    heard: Vec<(String, String)>,
}

/// What a server may refuse though it has the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refuses {
    /// To begin one, for now.
    Initialize,
    /// As one that does not know the method.
    Get,
    Delete,
}

/// Its answer: status, the id of a session that begins, and the body.
pub(crate) type Answer = (StatusCode, Option<String>, Said);

/// The body of an answer.
pub(crate) enum Said {
    Json(Value),
    /// One event, with its id.
    Event(String),
}

impl Sessioned {
    /// Answers a message.
    pub(crate) fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = message["method"].as_str().unwrap_or_default().to_owned();
        let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let mut state = self.0.lock();
        let bare = |status| (status, None, Said::Json(Value::Null));
        if said == "initialize" {
            if state.refuses == Some(Refuses::Initialize) {
                return bare(StatusCode::SERVICE_UNAVAILABLE);
            }
            state.begun += 1;
            let id = format!("own-{}", state.begun);
            state.live.insert(id.clone());
            state.queries.insert(id.clone(), uri.query().map(str::to_owned));
            let result = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "serverInfo": { "name": "sessioned", "version": state.version.to_string() },
                "params": message["params"],
            });
            let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
            return (StatusCode::OK, Some(id), Said::Json(answer));
        }
        let session = header("mcp-session-id").filter(|session| state.live.contains(session));
        let Some(session) = session else { return bare(StatusCode::NOT_FOUND) };
        let heard = match (method, header("last-event-id")) {
            (&Method::POST, _) => said,
            (method, None) => method.to_string(),
            (method, Some(event)) => format!("{method} after {event}"),
        };
        state.heard.push((session.clone(), heard));
        match (method, state.refuses) {
            (&Method::GET, Some(Refuses::Get)) => bare(StatusCode::NOT_FOUND),
            (&Method::DELETE, Some(Refuses::Delete)) => bare(StatusCode::METHOD_NOT_ALLOWED),
            (&Method::GET, _) => {
                let id = format!("{session}-event-{}", state.heard.len());
                (StatusCode::OK, None, Said::Event(id))
            }
            (&Method::DELETE, _) => {
                state.live.remove(&session);
                bare(StatusCode::NO_CONTENT)
            }
            _ => {
                let query = state.queries.get(&session);
                let result = json!({ "session": session, "query": query });
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                (StatusCode::OK, None, Said::Json(answer))
            }
        }
    }

    /// Lets go of all sessions.
    pub(crate) fn forget(&self) {
        self.0.lock().live.clear();
    }

    /// Is another server from now on.
    pub(crate) fn change(&self) {
        self.0.lock().version += 1;
    }

    /// Refuses this from now on, and nothing else.
    pub(crate) fn refuse(&self, what: &str) {
        self.0.lock().refuses = match what {
            "initialize" => Some(Refuses::Initialize),
            "get" => Some(Refuses::Get),
            "delete" => Some(Refuses::Delete),
            _ => None,
        };
    }

    /// What it heard so far.
    pub(crate) fn heard(&self) -> Vec<(String, String)> {
        self.0.lock().heard.clone()
    }
}
