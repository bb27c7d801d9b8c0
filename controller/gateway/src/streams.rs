//! The event streams that are open, by tenant: they end when the last of the tenant's credentials does that were shown here,
//! as a drain ends them, so that the client comes back and is told why.
//!
//! A client that refreshed its token keeps its streams (invariant 4); a judge that cannot be asked ends nothing. Credentials
//! are kept for as long as streams of their tenant are open. This module must not know HTTP, or what is in a stream.

use crate::{activate::Judge, warrant::Warrants};
use jiff::Timestamp;
use parking_lot::Mutex;
use patchbay_core::{id::ClassName, identity::Authenticated, tenant::TenantName};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Which streams are open.
pub(crate) struct Streams {
    judge: Arc<dyn Judge>,
    open: Arc<Table>,
    next_id: AtomicU64,
}

type Table = Mutex<HashMap<TenantName, Open>>;

/// The streams of one tenant.
struct Open {
    warrants: Warrants,
    /// What ends each.
    ends: HashMap<u64, CancellationToken>,
    _watched: AbortOnDropHandle<()>,
}

/// A stream that is open for as long as this lives.
pub struct OpenStream {
    open: Arc<Table>,
    tenant: TenantName,
    id: u64,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(streams) = open.get_mut(&self.tenant) {
            streams.ends.remove(&self.id);
            if streams.ends.is_empty() {
                open.remove(&self.tenant);
            }
        }
    }
}

impl Streams {
    pub(crate) fn new(judge: Arc<dyn Judge>) -> Self {
        Self { judge, open: Arc::default(), next_id: AtomicU64::new(0) }
    }

    /// A request of this tenant was let in by this credential.
    pub(crate) fn shown(&self, tenant: &TenantName, user: &Authenticated, now: Timestamp) {
        if let Some(streams) = self.open.lock().get_mut(tenant) {
            streams.warrants.show(user, now);
        }
    }

    /// A stream of this tenant, opened by this credential, which `end` ends.
    pub(crate) fn opened(
        &self,
        (tenant, class): (&TenantName, &ClassName),
        user: &Authenticated,
        now: Timestamp,
        end: CancellationToken,
    ) -> OpenStream {
        let mut open = self.open.lock();
        let streams = open.entry(tenant.clone()).or_insert_with(|| {
            let watch = watch(self.open.clone(), self.judge.clone(), tenant.clone(), class.clone());
            Open {
                warrants: Warrants::default(),
                ends: HashMap::new(),
                _watched: AbortOnDropHandle::new(tokio::spawn(watch)),
            }
        });
        streams.warrants.show(user, now);
        // of no other stream ever: one that is ended may outlive what is known of its tenant
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        streams.ends.insert(id, end);
        drop(open);
        OpenStream { open: self.open.clone(), tenant: tenant.clone(), id }
    }
}

/// Judges a tenant's credentials anew for as long as it has streams, and ends those when none is left.
async fn watch(open: Arc<Table>, judge: Arc<dyn Judge>, tenant: TenantName, class: ClassName) {
    loop {
        let look = open.lock().get(&tenant).and_then(|streams| streams.warrants.next_look());
        let Some(look) = look else { return };
        sleep(look.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await;
        let due = open.lock().get(&tenant).map(|it| it.warrants.due(Timestamp::now()));
        for user in due.unwrap_or_default() {
            let verdict = judge.judge(&user, &class).await;
            let mut open = open.lock();
            let Some(streams) = open.get_mut(&tenant) else { return };
            streams.warrants.judged(&user.digest, verdict, Timestamp::now());
            if streams.warrants.is_over()
                && let Some(Open { ends, .. }) = open.remove(&tenant)
            {
                tracing::info!(
                    %tenant, provider = %user.identity.provider, mode = %user.identity.mode, streams = ends.len(),
                    "a user's streams end with the credential"
                );
                ends.values().for_each(CancellationToken::cancel);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::Verdict;
    use crate::fixtures;
    use async_trait::async_trait;
    use patchbay_core::{digest::Digest, fixtures::class};
    use std::{collections::BTreeSet, time::Duration};
    use tokio::time::timeout;

    /// Says of the credentials that are revoked that they are over, and of none where it cannot be asked.
    #[derive(Default)]
    struct Catalog {
        revoked: Mutex<BTreeSet<Digest>>,
        is_away: Mutex<bool>,
    }

    #[async_trait]
    impl Judge for Catalog {
        async fn judge(&self, user: &Authenticated, _: &ClassName) -> Verdict {
            if *self.is_away.lock() {
                Verdict::Unknown
            } else if self.revoked.lock().contains(&user.digest) {
                Verdict::Over
            } else {
                Verdict::Good
            }
        }
    }

    fn credential(name: &str) -> Authenticated {
        fixtures::credential(name, None)
    }

    /// A tenant's streams, of which the first is open.
    struct World {
        catalog: Arc<Catalog>,
        streams: Streams,
        class: ClassName,
        tenant: TenantName,
        end: CancellationToken,
        stream: OpenStream,
    }

    impl World {
        fn new(by: &str) -> Self {
            let catalog = Arc::new(Catalog::default());
            let streams = Streams::new(catalog.clone());
            let class = class("c", "/mcp").name;
            let tenant = credential(by).identity.tenant(&class).name();
            let end = CancellationToken::new();
            let user = credential(by);
            let stream = streams.opened((&tenant, &class), &user, Timestamp::now(), end.clone());
            Self { catalog, streams, class, tenant, end, stream }
        }

        fn revoke(&self, name: &str) {
            self.catalog.revoked.lock().insert(Digest::of(name.as_bytes()));
        }

        async fn ends(&self) -> bool {
            timeout(Duration::from_secs(20), self.end.cancelled()).await.is_ok()
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_credential_and_the_next_one_is_watched_too() {
        let world = World::new("old");
        world.revoke("old");
        assert!(world.ends().await);
        assert!(world.streams.open.lock().is_empty(), "the credential is kept");
        // the first is in the middle of an event, and the user is back with another credential
        let second = CancellationToken::new();
        let of = (&world.tenant, &world.class);
        let open = world.streams.opened(of, &credential("new"), Timestamp::now(), second.clone());
        drop(world.stream);
        assert_eq!(world.streams.open.lock().len(), 1);
        drop(open);
        assert!(world.streams.open.lock().is_empty());
        assert!(!second.is_cancelled());
    }

    #[tokio::test]
    async fn who_came_with_a_newer_credential_keeps_what_is_open_until_that_one_ends() {
        let world = World::new("old");
        world.streams.shown(&world.tenant, &credential("new"), Timestamp::now());
        world.revoke("old");
        let until_judged = async {
            while world.streams.open.lock()[&world.tenant].warrants.due(Timestamp::MAX).len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), until_judged).await.unwrap();
        assert!(!world.end.is_cancelled());
        world.revoke("new");
        assert!(world.ends().await);
    }
}
