//! Faults that a proxy can have and that the official suite does not see, or not each time: each is here so that a test
//! can be shown to find it.

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
    stream,
};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    future::{Future, pending},
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// A message's body, on its way.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What is wrong with a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It does not pass on that its client is gone.
    Deaf,
    /// It drops a header of each request.
    Drops(&'static str),
    /// It passes on what has come when more has come.
    Behind,
    /// It passes on nothing before all has come.
    Hoards,
    /// It takes only the first message of a batch.
    Unpacks,
    /// It knows a call by its JSON-RPC id, whichever session it is of.
    ByIdAlone,
    /// It presents the credential of whoever began a session for anybody who has the session's id.
    BySession,
    /// It takes a client for the user whom a header of this name names.
    Believes(&'static str),
    /// It asks by a name that lies behind it, and does not tell of the page that asks.
    RewritesHost,
    /// It takes a stream on which nothing comes for so long for one that has ended.
    CutsIdle(Duration),
}

/// What tells the sessions of a server apart.
pub(super) const SESSION: &str = "mcp-session-id";

impl Fault {
    /// Passes on an answer's body.
    pub(super) fn pass(self, mut body: Incoming) -> Body {
        let (keeps, patience) = match self {
            Self::Deaf => (0, None),
            Self::Behind => (1, None),
            Self::Hoards => (usize::MAX, None),
            Self::CutsIdle(silence) => (0, Some(silence)),
            Self::None
            | Self::Drops(_)
            | Self::Unpacks
            | Self::ByIdAlone
            | Self::BySession
            | Self::Believes(_)
            | Self::RewritesHost => return body.boxed_unsync(),
        };
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut held = VecDeque::new();
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = silent(patience) => return,
                    () = sender.closed(), if self != Self::Deaf => return,
                };
                let is_end = frame.is_none();
                held.extend(frame);
                while held.len() > if is_end { 0 } else { keeps } {
                    if let Some(frame) = held.pop_front() {
                        // a client that is gone is waited for above
                        let _ = sender.send(frame).await;
                    }
                }
                if is_end {
                    return;
                }
            }
        });
        StreamBody::new(stream::poll_fn(move |context| receiver.poll_recv(context))).boxed_unsync()
    }
}

/// Completes when nothing has come for so long; never without patience to lose.
async fn silent(patience: Option<Duration>) {
    match patience {
        Some(patience) => sleep(patience).await,
        None => pending().await,
    }
}

/// The first message of a batch, as the only one.
pub(super) fn unpacked(body: &Bytes) -> Bytes {
    match serde_json::from_slice(body) {
        Ok(Value::Array(messages)) => {
            messages.first().map(|first| first.to_string().into()).unwrap_or_default()
        }
        _ => body.clone(),
    }
}

/// The id of a call; none of what is no call.
pub(super) fn call_id(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).ok()?;
    (message["method"] == "tools/call").then(|| message["id"].to_string())
}

/// The credentials that were presented, by whatever a proxy takes for their owner's name.
#[derive(Default)]
pub(super) struct Owners(Mutex<HashMap<String, HeaderValue>>);

impl Owners {
    /// Keeps what is presented.
    pub(super) fn learn(&self, name: &str, headers: &HeaderMap) {
        if let Some(credential) = headers.get(header::AUTHORIZATION) {
            self.0.lock().insert(name.to_owned(), credential.clone());
        }
    }

    /// Presents what was kept, if the header names its owner.
    pub(super) fn present(&self, named_by: &str, headers: &mut HeaderMap) {
        let name = headers.get(named_by).and_then(|name| name.to_str().ok());
        if let Some(owner) = name.and_then(|name| self.0.lock().get(name).cloned()) {
            headers.insert(header::AUTHORIZATION, owner);
        }
    }
}

/// Whose an API key is (`pb_<user>_<secret>`), where one is presented as a bearer.
pub(super) fn key_id(headers: &HeaderMap) -> Option<String> {
    let presented = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (user, _) = presented.strip_prefix("Bearer pb_")?.split_once('_')?;
    Some(user.to_owned())
}

/// What was answered to each id.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<String, Answer>>);

type Answer = Shared<BoxFuture<'static, Result<Response<Bytes>, String>>>;

impl Memory {
    /// The answer to an id: the one that is there or under way, or else `answer`.
    pub(super) async fn of<E: Display>(
        &self,
        id: String,
        answer: impl Future<Output = Result<Response<Incoming>, E>> + Send + 'static,
    ) -> anyhow::Result<Response<Body>> {
        let whole = async {
            let (head, body) = answer.await.map_err(|error| error.to_string())?.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let whole = whole.boxed().shared();
        let whole = self.0.lock().entry(id).or_insert(whole).clone();
        let answer = whole.await.map_err(anyhow::Error::msg)?;
        Ok(answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_batch_the_first_message_is_left_and_of_anything_else_all() {
        let batch = Bytes::from_static(br#"[{"id":1},{"id":2}]"#);
        assert_eq!(unpacked(&batch), Bytes::from_static(br#"{"id":1}"#));
        let single = Bytes::from_static(br#"{ "id": 1 }"#);
        assert_eq!(unpacked(&single), single);
    }

    #[test]
    fn what_was_presented_by_one_is_presented_for_whoever_names_them() {
        let presented = |credential| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(credential))])
        };
        let owners = Owners::default();
        let alice = presented("Bearer pb_alice_secret");
        owners.learn(&key_id(&alice).unwrap(), &alice);
        for (named, expected) in [("alice", &alice), ("carol", &presented("Bearer pb_bob_secret"))]
        {
            let mut bob = presented("Bearer pb_bob_secret");
            bob.insert("x-user", HeaderValue::from_static(named));
            owners.present("x-user", &mut bob);
            assert_eq!(bob[header::AUTHORIZATION], expected[header::AUTHORIZATION], "{named}");
        }
        assert_eq!(key_id(&presented("Bearer token")), None);
    }

    #[test]
    fn calls_have_ids_and_nothing_else_has() {
        assert_eq!(call_id(br#"{"method":"tools/call","id":7}"#).as_deref(), Some("7"));
        assert_eq!(call_id(br#"{"method":"initialize","id":7}"#), None);
        assert_eq!(call_id(b""), None);
    }
}
