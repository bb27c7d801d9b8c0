//! The call that every measurement makes, in either era, and how its answer is known. Pure.
//!
//! Each call says other numbers, so that an answer to another call, or to another caller's, is no answer.

use crate::mcp;
use serde_json::{Value, json};
use std::{
    fmt::{self, Display, Formatter},
    sync::atomic::{AtomicU64, Ordering},
};

/// The tool that is called.
pub const TOOL: &str = "echo";
static NEXT_CALLER: AtomicU64 = AtomicU64::new(0);

const TEXT: &str = "what the bench says";

/// A generation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// With sessions: 2025-11-25.
    Legacy,
    /// Without: 2026-07-28.
    Modern,
}

/// Calls of [`TOOL`], one after the other.
#[derive(Debug)]
pub struct Calls {
    template: Value,
    /// Whose they are.
    caller: u64,
    /// Those that were made.
    count: u64,
}

impl Display for Era {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Legacy => mcp::LEGACY,
            Self::Modern => mcp::MODERN,
        })
    }
}

impl Calls {
    /// None was made yet.
    pub fn of(era: Era) -> Self {
        let template = match era {
            Era::Legacy => mcp::legacy_call(TOOL, &json!({})),
            Era::Modern => mcp::modern_message("tools/call", TOOL, &json!({})),
        };
        Self { template, caller: NEXT_CALLER.fetch_add(1, Ordering::Relaxed), count: 0 }
    }

    /// The next message, as JSON.
    pub fn next_message(&mut self) -> String {
        self.count += 1;
        // an id is never used again in a session
        self.template["id"] = json!(self.count);
        self.template["params"]["arguments"]["text"] = json!(self.text());
        self.template.to_string()
    }

    /// Whether this is what the tool says to the last message.
    pub fn is_answer(&self, text: &str) -> bool {
        text.contains(&self.text())
    }

    fn text(&self) -> String {
        format!("{TEXT} {} by {}.", self.count, self.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_the_callers_own_last_call_is_one() {
        for era in [Era::Legacy, Era::Modern] {
            let mut calls = Calls::of(era);
            let (first, second) = (calls.next_message(), calls.next_message());
            assert!(calls.is_answer(&second), "{era}: {second}");
            assert!(!calls.is_answer(&first), "{era}: {first}");
            let mut others = Calls::of(era);
            others.next_message();
            assert!(!calls.is_answer(&others.next_message()), "{era}");
            let message: Value = serde_json::from_str(&second).unwrap();
            assert_eq!(message["id"], 2, "{era}");
        }
    }
}
