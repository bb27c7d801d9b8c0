//! The part of these tests' MCP server that has sessions: it begins them, lets go of them when it is told, and may become
//! another server. It says of each message in which session it came.

use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is remembered of sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessioned(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    live: BTreeSet<String>,
    /// Of the server, as it says.
    version: u64,
    /// Session and method of each message, or the session and `DELETE`.
    heard: Vec<(String, String)>,
}

/// Its answer: status, the id of a session that begins, and the body.
pub(crate) type Answer = (StatusCode, Option<String>, Value);

impl Sessioned {
    /// Answers a message.
    pub(crate) fn answer(&self, method: &Method, headers: &HeaderMap, body: &[u8]) -> Answer {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = message["method"].as_str().unwrap_or_default().to_owned();
        let session = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let mut state = self.0.lock();
        if said == "initialize" {
            state.begun += 1;
            let id = format!("own-{}", state.begun);
            state.live.insert(id.clone());
            let result = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "serverInfo": { "name": "sessioned", "version": state.version.to_string() },
                "params": message["params"],
            });
            let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
            return (StatusCode::OK, Some(id), answer);
        }
        let Some(session) = session.filter(|session| state.live.contains(session)) else {
            return (StatusCode::NOT_FOUND, None, json!({}));
        };
        let is_end = method == Method::DELETE;
        let heard = if is_end { "DELETE".to_owned() } else { said };
        state.heard.push((session.clone(), heard));
        if is_end {
            state.live.remove(&session);
            return (StatusCode::NO_CONTENT, None, Value::Null);
        }
        let result = json!({ "session": session });
        (StatusCode::OK, None, json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
    }

    /// Lets go of all sessions.
    pub(crate) fn forget(&self) {
        self.0.lock().live.clear();
    }

    /// Is another server from now on.
    pub(crate) fn change(&self) {
        self.0.lock().version += 1;
    }

    /// What it heard so far.
    pub(crate) fn heard(&self) -> Vec<(String, String)> {
        self.0.lock().heard.clone()
    }
}
