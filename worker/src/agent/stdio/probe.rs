//! Which era a program speaks: it is asked once, before anybody needs it (MCP 2026-07-28, basic/transports/stdio,
//! Backward Compatibility). It must not know what becomes of the program.

use super::{
    answer,
    child::{Child, Lines, NotSaid},
    message::{Id, Kind, Message},
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A program that has answered what every program knows has this long to answer what it may not know.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Not ones that a client's request is given.
const PROBE_ID: &str = "patchbay-probe";
const PING_ID: &str = "patchbay-ping";

/// What a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// Revisions with `initialize` alone.
    Legacy,
    /// 2026-07-28 too, or alone.
    Modern,
}

/// A program that cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEra {
    #[error("the MCP server was not asked anything: {0}")]
    NotSaid(#[from] NotSaid),
    #[error("the MCP server ended before it said anything; its log may say why")]
    Ended,
    #[error("the MCP server answers nothing")]
    Silent,
}

/// Asks a program that nobody has spoken to, which may still be starting. What it says besides is of nobody's request.
///
/// Some pass over what they do not know. So they are pinged as well, which each answers as soon as it can answer anything
/// (MCP 2025-11-25, basic/lifecycle, Initialization), and then it is known that no answer comes. Whoever says nothing at
/// all for `silence` may have heard the question all the same.
pub(super) async fn era(child: &Child, lines: &mut Lines, silence: Duration) -> Result<Era, NoEra> {
    child.say(question().into()).await?;
    child.say(ping().into()).await?;
    let mut deadline = Instant::now() + silence;
    let mut is_there = false;
    loop {
        let line = match timeout_at(deadline, lines.next()).await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(NoEra::Ended),
            Err(_) if is_there => return Ok(Era::Legacy),
            Err(_) => return Err(NoEra::Silent),
        };
        let Ok(message) = Message::read(line) else { continue };
        if is_pong(&message) {
            is_there = true;
            deadline = deadline.min(Instant::now() + ANSWER_LIMIT);
        } else if let Some(era) = said(&message) {
            return Ok(era);
        }
    }
}

fn ping() -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{PING_ID}","method":"ping"}}"#)
}

/// Whatever it says of it: it can answer.
fn is_pong(message: &Message) -> bool {
    matches!(&message.kind, Kind::Response { id: Some(id), .. } if is(id, PING_ID))
}

fn is(id: &Id, own: &str) -> bool {
    Some(id) == Id::read(&format!("\"{own}\"")).as_ref()
}

fn question() -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"{PROBE_ID}","method":"server/discover","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"patchbay","version":"{}"}}}}}}}}"#,
        env!("CARGO_PKG_VERSION")
    )
}

/// What an answer means; none where it is not one to the question.
fn said(message: &Message) -> Option<Era> {
    let Kind::Response { id, error } = &message.kind else { return None };
    let is_ours = id.as_ref().is_none_or(|id| is(id, PROBE_ID));
    is_ours.then_some(match error {
        None
        | Some(
            answer::HEADER_MISMATCH | answer::MISSING_CAPABILITY | answer::UNSUPPORTED_VERSION,
        ) => Era::Modern,
        // not keyed to one code: servers that do not know it say so as they like
        Some(_) => Era::Legacy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_message_and_only_modern_answers_mean_the_modern_era() {
        let question = Message::read(question()).unwrap();
        assert_eq!(question.method(), Some("server/discover"));
        let answer =
            |rest: &str| said(&Message::read(format!(r#"{{"id":"{PROBE_ID}",{rest}}}"#)).unwrap());
        assert_eq!(answer(r#""result":{}"#), Some(Era::Modern));
        assert_eq!(answer(r#""error":{"code":-32022}"#), Some(Era::Modern));
        for code in [-32601, -32602, -32000, 0] {
            assert_eq!(answer(&format!(r#""error":{{"code":{code}}}"#)), Some(Era::Legacy));
        }
        let other = Message::read(r#"{"id":1,"result":{}}"#).unwrap();
        assert_eq!(said(&other), None);
        let pong = |text: &str| is_pong(&Message::read(text).unwrap());
        assert_eq!(Message::read(ping()).unwrap().method(), Some("ping"));
        assert!(pong(&format!(r#"{{"id":"{PING_ID}","result":{{}}}}"#)));
        assert!(pong(&format!(r#"{{"id":"{PING_ID}","error":{{"code":-32601}}}}"#)));
        assert!(!pong(&format!(r#"{{"id":"{PROBE_ID}","result":{{}}}}"#)));
        let of_none = Message::read(r#"{"id":null,"error":{"code":-32600}}"#).unwrap();
        assert_eq!(said(&of_none), Some(Era::Legacy));
    }
}
