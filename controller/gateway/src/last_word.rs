//! The last word of a stream that answers calls, where its worker is gone: an error for each of them. Clients do not take a
//! stream that breaks off for the end of a call: some wait for as long as they have patience, and some have no end of it.
//!
//! It turns a body that fails into one that ends, if nothing more can come. It must not know workers, or what is in an event.

use crate::{
    drain::Tail,
    respond::{self, Refusal},
};
use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// More requests than any client sends at once; a longer batch has no last word.
const MAX_IDS: usize = 100;

/// Whether nothing more can come: the client has nothing to come back to.
type IsOver = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The ids of the requests in a client's body, or in its outline, as they are written; none where it is no message, or has too
/// many. Of all else that it says nothing is read.
pub(crate) fn ids(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    #[derive(Deserialize)]
    struct Message {
        id: Option<Box<RawValue>>,
        method: Option<IgnoredAny>,
    }
    let is_batch = body.trim_ascii_start().starts_with(b"[");
    let messages: Vec<Message> = if is_batch {
        serde_json::from_slice(body).ok()?
    } else {
        vec![serde_json::from_slice(body).ok()?]
    };
    // a text or a number, on one line: JSON-RPC knows no other
    let is_id = |id: &RawValue| matches!(id.get().as_bytes(), [b'"' | b'-' | b'0'..=b'9', ..]);
    let requests = messages.into_iter().filter(|message| message.method.is_some());
    let ids: Vec<_> = requests.filter_map(|it| it.id).filter(|id| is_id(id)).collect();
    (1..=MAX_IDS).contains(&ids.len()).then_some(ids)
}

/// What a stream says if it breaks off.
pub(crate) struct Word {
    /// Of whoever waits.
    pub(crate) ids: Vec<Box<RawValue>>,
    /// The gateway's own id for what they asked.
    pub(crate) request_id: HeaderValue,
    /// Whether it is said.
    pub(crate) is_over: IsOver,
}

impl Word {
    /// Events.
    fn text(&self) -> String {
        let request_id = self.request_id.to_str().unwrap_or_default();
        let mut text = String::new();
        for id in &self.ids {
            text.push_str("event: message\ndata: ");
            text.push_str(&respond::error(&Refusal::WorkerBroke, id, request_id));
            text.push_str("\n\n");
        }
        text
    }
}

/// A body that has a last word, perhaps.
pub struct LastWord<B> {
    /// None once it has failed, and the word may be said.
    body: Option<B>,
    tail: Tail,
    /// None once it is said, or where there is none.
    word: Option<Word>,
    /// How it failed.
    error: Option<hyper::Error>,
}

impl<B> LastWord<B> {
    pub(crate) fn new(body: B, word: Option<Word>) -> Self {
        Self { body: Some(body), tail: Tail::default(), word, error: None }
    }

    /// What comes after a failure: the word, or the failure where more may come.
    fn poll_last(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(word) = &mut self.word else { return Poll::Ready(None) };
        let is_over = ready!(word.is_over.as_mut().poll(context));
        let (word, error) = (self.word.take(), self.error.take());
        Poll::Ready(if is_over {
            word.map(|word| Ok(Frame::data(word.text().into())))
        } else {
            error.map(Err)
        })
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for LastWord<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return this.poll_last(context) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) if this.word.is_some() => {
                if let Some(data) = frame.data_ref() {
                    this.tail.push(data);
                }
            }
            // within an event nothing can be said that would be understood
            Some(Err(_)) if this.word.is_some() && this.tail.is_between_events() => {
                this.body = None;
                this.error = frame.and_then(Result::err);
                return this.poll_last(context);
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) if self.word.is_none() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    /// A worker that breaks off after this: a stream of a connection that ends in the middle of an answer.
    async fn broken_after(text: &'static str) -> hyper::body::Incoming {
        use http_body_util::Empty;
        use hyper_util::rt::TokioIo;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (client, mut server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = server.read(&mut asked).await;
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{head}{:x}\r\n{text}\r\n", text.len());
            server.write_all(chunk.as_bytes()).await.unwrap();
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(client))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().uri("/").header("host", "w");
        sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap().into_body()
    }

    fn word(is_over: bool) -> Word {
        let ids = ids(br#"[{"id":1,"method":"a"},{"id":"b","method":"b"}]"#).unwrap();
        let request_id = HeaderValue::from_static("r");
        Word { ids, request_id, is_over: Box::pin(async move { is_over }) }
    }

    async fn heard(text: &'static str, is_over: bool) -> (String, bool) {
        let mut body = LastWord::new(broken_after(text).await, Some(word(is_over)));
        let mut heard = Vec::new();
        loop {
            match body.frame().await {
                Some(Ok(frame)) => heard.extend_from_slice(&frame.into_data().unwrap()),
                end => return (String::from_utf8(heard).unwrap(), end.is_none()),
            }
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_says_so_where_nothing_more_can_come() {
        let (said, is_end) = heard("data: 1\n\n", true).await;
        let said: Vec<_> = said.split_terminator("\n\n").collect();
        let ["data: 1", one, other] = said[..] else { panic!("{said:?}") };
        assert!(
            is_end
                && one.starts_with(
                    r#"event: message
data: {"jsonrpc":"2.0","id":1,"error":{"code":-32008"#
                ),
            "{one}"
        );
        assert!(other.contains(r#""id":"b","error""#) && other.contains("worker_broke"), "{other}");
        // its client may come back for the rest
        assert_eq!(heard("data: 1\n\n", false).await, ("data: 1\n\n".to_owned(), false));
        // it would be read as the rest of the event
        assert!(!heard("data: 1\n\ndata: {", true).await.1);
    }

    #[tokio::test]
    async fn a_stream_that_ends_has_said_all() {
        let frames = stream::iter(["data: 1\n\n"]).map(|text| Ok(Frame::data(Bytes::from(text))));
        let body = LastWord::new(StreamBody::new(frames.boxed()), Some(word(true)));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 1\n\n");
    }

    #[test]
    fn requests_have_ids_and_nothing_else_is_read() {
        let of = |text: &str| -> Vec<String> {
            let ids = ids(text.as_bytes()).unwrap_or_default();
            ids.into_iter().map(|id| id.get().to_owned()).collect()
        };
        assert_eq!(of(r#"{"id": "a\u0062", "method":"tools/call","params":{}}"#), [r#""a\u0062""#]);
        let batch = r#" [{"id":1,"method":"a"},{"method":"b"},{"id":2,"result":{}},{"id":1.0,"method":"c"}]"#;
        assert_eq!(of(batch), ["1", "1.0"]);
        for other in ["", "{", "[", "1", r#"{"id":null,"method":"a"}"#, r#"{"id":1}"#, "[[]]"] {
            assert!(of(other).is_empty(), "{other}");
        }
        assert!(of("{\"id\":[1,\n2],\"method\":\"a\"}").is_empty());
        let many = |count| format!("[{}]", vec![r#"{"id":1,"method":"a"}"#; count].join(","));
        assert_eq!((of(&many(MAX_IDS)).len(), of(&many(MAX_IDS + 1)).len()), (MAX_IDS, 0));
    }
}
