//! The sessions of a worker, by the ids that their clients have. Bounded: where there are too many the one that was idle
//! for longest is ended. It must not know what is said in them.

use super::session::Session;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use patchbay_core::digest::random_bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Each is a process.
const MAX_SESSIONS: usize = 32;
/// How much longer than its idle timeout a session may stay, as a part of it.
const SLACK: u32 = 4;

/// Those that live.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    /// None yet; those that nobody used for `idle_timeout` are ended.
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        let this = Arc::<Self>::default();
        tokio::spawn(sweep(Arc::downgrade(&this), idle_timeout));
        this
    }

    /// The session of an id, if its program lives.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Session>> {
        let mut by_id = self.by_id.lock();
        let session = Arc::clone(by_id.get(id)?);
        if session.is_over() {
            by_id.remove(id);
            return None;
        }
        Some(session)
    }

    /// Keeps a session under a new id; none where there are too many and all are in use.
    pub(super) fn keep(&self, session: Arc<Session>) -> Option<String> {
        let id = new_id()?;
        let mut by_id = self.by_id.lock();
        by_id.retain(|_, session| !session.is_over());
        if by_id.len() >= MAX_SESSIONS {
            let idle = by_id.iter().filter_map(|(id, one)| Some((one.idle_since()?, id.clone())));
            let (_, longest) = idle.min()?;
            tracing::info!(
                MAX_SESSIONS,
                "too many sessions; the one that was idle for longest ends"
            );
            if let Some(session) = by_id.remove(&longest) {
                session.close();
            }
        }
        by_id.insert(id.clone(), session);
        Some(id)
    }

    /// Ends a session; whether there was one.
    pub(super) fn end(&self, id: &str) -> bool {
        let session = self.by_id.lock().remove(id);
        session.inspect(|session| session.close()).is_some()
    }

    fn end_idle(&self, now: Instant, idle_timeout: Duration) {
        self.by_id.lock().retain(|_, session| {
            let idle = session.idle_since().map(|since| now.saturating_duration_since(since));
            !session.is_over() && idle.is_none_or(|idle| idle < idle_timeout)
        });
    }
}

/// 128 bits that nobody can guess, as visible ASCII (MCP 2025-11-25, basic/transports, Session Management).
pub(crate) fn new_id() -> Option<String> {
    let bytes = random_bytes::<16>().inspect_err(|error| tracing::error!(%error, "no session id"));
    Some(HEXLOWER.encode(&bytes.ok()?))
}

/// Ends idle sessions, for as long as there may be any.
async fn sweep(sessions: Weak<Sessions>, idle_timeout: Duration) {
    let pause = (idle_timeout / SLACK).max(Duration::from_millis(100));
    loop {
        sleep(pause).await;
        let Some(sessions) = sessions.upgrade() else { return };
        sessions.end_idle(Instant::now(), idle_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_visible_ascii_and_each_is_another() {
        let ids = [new_id().unwrap(), new_id().unwrap()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids[0].bytes().all(|byte| (0x21..=0x7e).contains(&byte)) && ids[0].len() == 32);
    }
}
