//! What a client is told in the MCP server's place: a JSON-RPC error for each request that gets no other answer.
//!
//! A denied call is an answer like any other, so its status is 200: clients of both eras show its text to whoever called.
//! The codes are in the range that MCP leaves to implementations, but for those that JSON-RPC and MCP define. The texts are
//! the core's; this module must not know how a request was judged.

use super::{body::BadBody, listing::Unlisted, meter::Over};
use crate::agent::answer::{Body, json};
use http::{HeaderValue, Response, StatusCode, header};
use patchbay_core::{
    mcp::{BadMessage, HeaderMismatch, Message, Said},
    strict_json::{Json, Unreadable},
    tools::{Denied, Shown},
};
use serde_json::{Value, json};

/// Why a request is answered in the MCP server's place.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its body is not read.
    Body(BadBody),
    /// What it says could be read in more than one way.
    Message(BadMessage),
    /// A header says something else, of the request with this id.
    Mismatch(Value, HeaderMismatch),
    /// There are too many.
    Over(Over),
    /// At least one of these is denied.
    Denied(Vec<Verdict>, bool),
    /// Its response cannot be looked through.
    Unlisted(Unlisted),
}

/// What becomes of one request of a body.
#[derive(Debug)]
pub(super) struct Verdict {
    id: Value,
    /// The tool that it calls.
    tool: Option<Shown>,
    denial: Denial,
}

/// Why one request of a body is not run.
#[derive(Debug)]
pub(super) enum Denial {
    /// It is denied.
    Own(Denied),
    /// Another request of its batch is.
    Batch,
}

/// What a client is told of one request.
struct Told {
    code: i32,
    reason: &'static str,
    text: String,
}

impl From<BadBody> for Refusal {
    fn from(error: BadBody) -> Self {
        Self::Body(error)
    }
}

impl From<BadMessage> for Refusal {
    fn from(error: BadMessage) -> Self {
        Self::Message(error)
    }
}

impl From<Over> for Refusal {
    fn from(error: Over) -> Self {
        Self::Over(error)
    }
}

impl From<Unlisted> for Refusal {
    fn from(error: Unlisted) -> Self {
        Self::Unlisted(error)
    }
}

impl Refusal {
    /// A header says something else than what is said.
    pub(super) fn mismatch(said: &Said<'_>, error: HeaderMismatch) -> Self {
        let one = said.messages.first().filter(|_| !said.is_batch);
        Self::Mismatch(one.map_or(Value::Null, id), error)
    }

    /// What is said is denied, at least in part. A batch is answered as a whole, since its server would be sent one that
    /// nobody wrote otherwise.
    pub(super) fn denied(verdicts: &[(&Message<'_>, Result<(), Denied>)], is_batch: bool) -> Self {
        let requests = verdicts.iter().filter(|(message, _)| message.id.is_some());
        let of_each = requests.map(|(message, verdict)| Verdict {
            id: id(message),
            tool: message.tool().map(Shown::of),
            denial: verdict.clone().err().map_or(Denial::Batch, Denial::Own),
        });
        Self::Denied(of_each.collect(), is_batch)
    }

    /// The stable word for it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Denied(..) => self.first_denied().map_or("batch_denied", |(_, own)| word(own)),
            other => other.told().reason,
        }
    }

    /// The first tool that is denied, by its name, and the permissions that it lacks, where that is why; for logs.
    pub(super) fn denied_tool(&self) -> (Option<String>, Option<String>) {
        let Some((verdict, own)) = self.first_denied() else { return (None, None) };
        let missing = if let Denied::Missing(all) = own { Some(all.join(", ")) } else { None };
        (verdict.tool.as_ref().map(Shown::to_string), missing)
    }

    fn first_denied(&self) -> Option<(&Verdict, &Denied)> {
        let Self::Denied(all, _) = self else { return None };
        all.iter().find_map(|verdict| match &verdict.denial {
            Denial::Own(own) => Some((verdict, own)),
            Denial::Batch => None,
        })
    }

    /// The answer.
    pub(super) fn response(&self, request_id: Option<&str>) -> Response<Body> {
        let mut response = json(self.status(), &self.body(request_id));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::Over(over) = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(over.retry_after()));
        }
        response
    }

    /// The answer as one message, for a stream whose head is sent already.
    pub(super) fn message(&self, request_id: Option<&str>) -> String {
        self.body(request_id).to_string()
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Body(BadBody::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BadBody::Incomplete) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BadBody::Encoded) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Message(_) | Self::Mismatch(..) => StatusCode::BAD_REQUEST,
            Self::Over(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Denied(..) => StatusCode::OK,
            Self::Unlisted(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn body(&self, request_id: Option<&str>) -> Value {
        match self {
            Self::Denied(all, is_batch) => {
                let mut answers = all.iter().map(|it| error(&it.id, &it.denial.told(), request_id));
                if *is_batch { answers.collect() } else { answers.next().unwrap_or_default() }
            }
            Self::Mismatch(id, _) => error(id, &self.told(), request_id),
            _ => error(&Value::Null, &self.told(), request_id),
        }
    }

    fn told(&self) -> Told {
        let (code, reason, text) = match self {
            Self::Body(error @ BadBody::TooLong) => (-32005, "body_too_large", error.to_string()),
            Self::Body(error @ BadBody::Incomplete) => {
                (-32005, "body_incomplete", error.to_string())
            }
            Self::Body(error @ BadBody::Encoded) => (-32005, "body_encoded", error.to_string()),
            Self::Message(error @ BadMessage::Json(Unreadable::NotJson { .. })) => {
                (-32700, "message_not_json", error.to_string())
            }
            Self::Message(error) => (-32600, "message_ambiguous", error.to_string()),
            Self::Mismatch(_, error) => (-32020, "header_mismatch", error.to_string()),
            Self::Over(error @ Over::Rate(_)) => (-32006, "too_many_requests", error.to_string()),
            Self::Over(error @ Over::Calls(_)) => (-32006, "too_many_calls", error.to_string()),
            Self::Unlisted(error) => (-32008, "tools_unreadable", error.to_string()),
            // each of them has its own
            Self::Denied(..) => (DENIED, "batch_denied", Denial::Batch.told().text),
        };
        Told { code, reason, text }
    }
}

/// The code of every denial.
const DENIED: i32 = -32009;

impl Denial {
    fn told(&self) -> Told {
        let (reason, text) = match self {
            Self::Own(denied) => (word(denied), denied.to_string()),
            Self::Batch => {
                let text =
                    "Not run: another request of the same batch is denied; send this one by itself";
                ("batch_denied", text.to_owned())
            }
        };
        Told { code: DENIED, reason, text }
    }
}

const fn word(denied: &Denied) -> &'static str {
    match denied {
        Denied::NotOffered(_) => "tool_not_offered",
        Denied::SignedUrls { .. } => "signed_urls_not_offered",
        Denied::Missing(_) | Denied::Unknown(_) => "permission_missing",
        Denied::Bucket(_) | Denied::Unreadable(_) => "bucket_denied",
        Denied::Unnamed { .. } => "bucket_not_named",
        Denied::Unbound => "user_unknown",
    }
}

fn error(id: &Value, told: &Told, request_id: Option<&str>) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "error": {
            "code": told.code,
            "message": told.text,
            "data": { "reason": told.reason, "requestId": request_id },
        },
    })
}

fn id(message: &Message<'_>) -> Value {
    match &message.id {
        Some(Json::Text(text)) => json!(text),
        Some(Json::Number(number)) => json!(number),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::time::Duration;

    async fn told(refusal: &Refusal) -> (u16, Value) {
        let response = refusal.response(Some("r-1"));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn denied(text: &str, why: &Denied) -> Refusal {
        let said = Said::read(text.as_bytes()).unwrap();
        let verdicts: Vec<_> = said.messages.iter().map(|it| (it, Err(why.clone()))).collect();
        Refusal::denied(&verdicts, said.is_batch)
    }

    #[tokio::test]
    async fn a_denied_call_is_answered_by_its_id_with_what_is_missing() {
        let missing = Denied::Missing(vec!["s3:GetObject".into(), "s3:PutObject".into()]);
        for (id, expected) in [("\"a\"", json!("a")), ("7", json!(7)), ("-1", json!(-1))] {
            let call = format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#);
            let refusal = denied(&call, &missing);
            let (status, body) = told(&refusal).await;
            assert_eq!((status, refusal.reason()), (200, "permission_missing"));
            let lacks = Some("s3:GetObject, s3:PutObject".to_owned());
            assert_eq!(refusal.denied_tool(), (Some("t".to_owned()), lacks));
            assert_eq!(body["id"], expected);
            let text = "Missing required permission(s): s3:GetObject, s3:PutObject";
            assert_eq!(body["error"]["message"], text);
            assert_eq!(
                body["error"]["data"],
                json!({"reason": "permission_missing", "requestId": "r-1"})
            );
        }
    }

    #[tokio::test]
    async fn of_a_batch_every_request_gets_an_answer_and_only_requests_do() {
        let text = r#"[{"id":1,"method":"tools/call","params":{"name":"t"}},
            {"method":"notifications/x"},{"id":"b","method":"tools/list"}]"#;
        let said = Said::read(text.as_bytes()).unwrap();
        let verdicts: Vec<_> = said
            .messages
            .iter()
            .map(|it| {
                (it, if it.tool().is_some() { Err(Denied::Bucket("b".into())) } else { Ok(()) })
            })
            .collect();
        let refusal = Refusal::denied(&verdicts, said.is_batch);
        let (status, body) = told(&refusal).await;
        assert_eq!((status, refusal.reason()), (200, "bucket_denied"));
        assert_eq!(refusal.denied_tool(), (Some("t".to_owned()), None));
        let answers = body.as_array().unwrap();
        let short: Vec<_> = answers
            .iter()
            .map(|it| (it["id"].clone(), it["error"]["data"]["reason"].clone()))
            .collect();
        assert_eq!(
            short,
            [(json!(1), json!("bucket_denied")), (json!("b"), json!("batch_denied"))]
        );
    }

    #[tokio::test]
    async fn every_other_refusal_has_a_status_that_says_nothing_of_credentials_and_a_code_of_its_kind()
     {
        let over = Over::Rate(Duration::from_millis(1500));
        for (refusal, expected, code) in [
            (Refusal::from(BadBody::TooLong), 413, -32005),
            (BadBody::Incomplete.into(), 408, -32005),
            (BadBody::Encoded.into(), 415, -32005),
            (BadMessage::Json(Unreadable::NotJson { line: 1, column: 1 }).into(), 400, -32700),
            (BadMessage::Json(Unreadable::Twice).into(), 400, -32600),
            (BadMessage::Lookalike("method").into(), 400, -32600),
            (Refusal::Mismatch(json!(1), HeaderMismatch("Mcp-Name")), 400, -32020),
            (over.into(), 429, -32006),
            (Over::Calls(3).into(), 429, -32006),
            (Unlisted::Form.into(), 502, -32008),
        ] {
            let (status, body) = told(&refusal).await;
            assert_eq!(
                (status, body["error"]["code"].as_i64()),
                (expected, Some(code)),
                "{refusal:?}"
            );
            assert_eq!(body["error"]["data"]["reason"], refusal.reason());
            assert_eq!(refusal.denied_tool(), (None, None));
        }
        assert_eq!(Refusal::from(over).response(None).headers()["retry-after"], "2");
        assert_eq!(Refusal::from(Over::Calls(1)).response(None).headers()["retry-after"], "1");
    }
}
