//! Which arguments of which tools headers repeat: the program is asked for its tools, and the answer is kept for a while.
//! It must not know what becomes of it.

use super::{
    message::{self, Message},
    modern::Modern,
    repeated::{self, Repeated},
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// A server that says nothing of how long its list is good for.
const KEEP_FOR: Duration = Duration::from_mins(1);
const KEEP_AT_MOST: Duration = Duration::from_mins(5);
/// What the program may take to list its tools. Where it takes longer, no header of arguments is checked.
const LIST_LIMIT: Duration = Duration::from_secs(10);
/// Pages of the list that are read.
const MAX_PAGES: usize = 20;

/// What is known of a program's tools.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    until: Instant,
    by_tool: Arc<HashMap<String, Vec<Repeated>>>,
}

impl Schemas {
    /// The arguments of this tool that headers repeat.
    pub(super) async fn of(&self, program: &Arc<Modern>, tool: &str) -> Vec<Repeated> {
        let mut known = self.known.lock().await;
        let now = Instant::now();
        let by_tool = match &*known {
            Some(known) if known.until > now => Arc::clone(&known.by_tool),
            _ => {
                let listed = timeout(LIST_LIMIT, list(program)).await.ok().flatten();
                // one that does not list them is not asked again at every call
                let last = || known.as_ref().map(|known| Arc::clone(&known.by_tool));
                let (by_tool, good_for) = match listed {
                    Some((by_tool, good_for)) => (Arc::new(by_tool), good_for),
                    None => (last().unwrap_or_default(), KEEP_FOR),
                };
                // it may have taken its time
                let until = Instant::now() + good_for.clamp(Duration::from_secs(1), KEEP_AT_MOST);
                *known = Some(Known { until, by_tool: Arc::clone(&by_tool) });
                by_tool
            }
        };
        by_tool.get(tool).cloned().unwrap_or_default()
    }
}

type Listed = (HashMap<String, Vec<Repeated>>, Duration);

/// All tools with such arguments; none where the program does not list them.
async fn list(program: &Arc<Modern>) -> Option<Listed> {
    let mut by_tool = HashMap::new();
    let mut good_for = KEEP_FOR;
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let question = Message::read(question(cursor.as_deref())).ok()?;
        let (mut answers, _in_wait) = program.ask(question, None).await.ok()?;
        let answer = loop {
            let event = answers.next().await?;
            if event.end.is_some() {
                break event.text?;
            }
        };
        let page = message::at(std::str::from_utf8(&answer).ok()?, &["result"])?;
        let page: Value = serde_json::from_str(page).ok()?;
        if let Some(ttl) = page.get("ttlMs").and_then(Value::as_u64) {
            good_for = good_for.min(Duration::from_millis(ttl));
        }
        for tool in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let repeated = tool.get("inputSchema").map(repeated::of_schema).unwrap_or_default();
            if let (Some(name), false) =
                (tool.get("name").and_then(Value::as_str), repeated.is_empty())
            {
                by_tool.insert(name.to_owned(), repeated);
            }
        }
        cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Some((by_tool, good_for))
}

fn question(cursor: Option<&str>) -> String {
    let cursor = cursor.map(|cursor| format!(r#""cursor":{},"#, Value::from(cursor)));
    let cursor = cursor.unwrap_or_default();
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{{{cursor}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}
