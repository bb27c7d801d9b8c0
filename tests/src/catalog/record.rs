//! The double's memory of what it was asked: one entry per request, in order of arrival, and a way
//! to wait for one without polling.

use crate::known;
use jiff::Timestamp;
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use serde::Serialize;
use tokio::sync::watch;

/// Which of the catalog's two origins was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Serves `config.json` and the key set.
    Catalog,
    /// Serves everything that needs a credential.
    Registry,
}

/// How bearers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Bearers {
    /// `sha256:` and the digest: can be compared, but not used.
    #[default]
    Digest,
    /// As they came; for suites that look for a value inside another.
    Verbatim,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// When it arrived.
    pub at: Timestamp,
    /// At which origin.
    pub origin: Origin,
    /// Its method.
    pub method: String,
    /// Its `Host`.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query, as sent.
    pub query: Option<String>,
    /// The root fields of a GraphQL request, such as `me` or `admin.user.list`, comma-separated.
    pub operation: Option<String>,
    /// What followed `Bearer `, or the whole `Authorization` of another scheme, in the form that
    /// [`Bearers`] says.
    pub bearer: Option<String>,
}

/// All requests so far.
#[derive(Debug)]
pub struct Record {
    bearers: Bearers,
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
}

impl Record {
    /// An empty record.
    pub fn new(bearers: Bearers) -> Self {
        Self { bearers, seen: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// The form in which a bearer appears in [`Seen`]. No log of anybody's may have it.
    pub fn bearer(&self, bearer: &str) -> String {
        known::hold("a bearer that a catalog was shown", bearer);
        match self.bearers {
            Bearers::Digest => format!("sha256:{}", Digest::of(bearer.as_bytes())),
            Bearers::Verbatim => bearer.to_owned(),
        }
    }

    /// Appends a request.
    pub fn push(&self, request: Seen) {
        let mut seen = self.seen.lock();
        seen.push(request);
        self.count.send_replace(seen.len());
    }

    /// A copy of everything so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        let mut seen = self.seen.lock();
        seen.clear();
        self.count.send_replace(0);
    }

    /// Waits until `enough` holds of the record and returns what it then is. Unbounded: the caller
    /// knows how long is too long.
    pub async fn wait_until(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut count = self.count.subscribe();
        loop {
            let seen = self.all();
            if enough(&seen) {
                return seen;
            }
            if count.changed().await.is_err() {
                return seen;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Seen {
        Seen {
            at: Timestamp::UNIX_EPOCH,
            origin: Origin::Registry,
            method: "GET".into(),
            host: "registry.example".into(),
            path: path.into(),
            query: None,
            operation: None,
            bearer: None,
        }
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_request_arrives() {
        let record = Record::new(Bearers::default());
        let wait = record.wait_until(|seen| seen.iter().any(|seen| seen.path == "/b"));
        let arrive = async {
            record.push(request("/a"));
            tokio::task::yield_now().await;
            record.push(request("/b"));
        };
        let (seen, ()) = tokio::join!(wait, arrive);
        assert_eq!(seen, [request("/a"), request("/b")]);
    }

    #[test]
    fn a_digest_can_be_compared_and_does_not_hold_the_bearer() {
        let record = Record::new(Bearers::Digest);
        assert_eq!(record.bearer("secret"), record.bearer("secret"));
        assert_ne!(record.bearer("secret"), record.bearer("other"));
        assert!(!record.bearer("secret").contains("secret"));
        assert_eq!(Record::new(Bearers::Verbatim).bearer("secret"), "secret");
    }
}
