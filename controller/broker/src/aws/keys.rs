//! Has a role assumed once for all who want the same keys, and keeps them until it is time for newer ones.
//!
//! One call to STS is under way per session at a time, few in all, and none while STS has said that it is asked too
//! often: what many users want at one moment never becomes many tries. This module must not know how a session is
//! decided, or the SDK.

use super::{Assume, Exchange, Sts, StsError};
use crate::kept::{Ends, Kept, fresh_for};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use patchbay_core::{
    digest::Digest,
    grant::{AwsGrant, GrantError, NoKeys},
    jitter,
};
use std::{fmt::Display, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Keys are renewed so long before they end: boto asks for newer ones 15 minutes before, and insists 10 minutes before.
const RENEW_AHEAD: SignedDuration = SignedDuration::from_mins(20);
/// After STS has said that it is asked too often; doubled each time it says so again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// The keys of all sessions of this gateway.
pub struct Keys {
    sts: Arc<dyn Sts>,
    kept: Kept<AwsGrant>,
    pause: Mutex<Pause>,
}

/// When STS may be asked again.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    last: Option<Duration>,
}

impl Ends for AwsGrant {
    fn renewed_at(&self) -> Timestamp {
        self.renew_at.unwrap_or(self.expires_at)
    }
}

impl Keys {
    /// Keys by `sts`.
    pub fn new(sts: Arc<dyn Sts>) -> Self {
        Self { sts, kept: Kept::default(), pause: Mutex::default() }
    }

    /// Keys of this session: those that are kept, or newer ones.
    pub(crate) async fn assumed(&self, assume: &Assume) -> Result<AwsGrant, GrantError> {
        let asked = async {
            let keys = self.sts.assume(assume, &assume.session_name(Timestamp::now())).await?;
            let (role, is_narrowed) = (&assume.role, assume.policy.is_some());
            tracing::info!(%role, is_narrowed, ends = %keys.expires_at, "a role was assumed");
            Ok(keys)
        };
        // Debug covers every field
        self.get(&format!("{assume:?}"), None, asked)
            .await
            .map_err(|error| refusal(&assume.role, &error))
    }

    /// Keys that this token is exchanged for: those that are kept, or newer ones. They end with the token.
    pub(crate) async fn exchanged(&self, exchange: &Exchange) -> Result<AwsGrant, GrantError> {
        let asked = async {
            let name = exchange.session_name(Timestamp::now());
            let keys = self.sts.exchange(exchange, &name).await?;
            let (role, is_narrowed) = (&exchange.role, exchange.policy.is_some());
            tracing::info!(%role, is_narrowed, ends = %keys.expires_at, "a token was exchanged for keys");
            Ok(keys)
        };
        // Debug covers every field but the token, which its digest stands for
        let keys = self.get(&format!("{exchange:?}"), Some(exchange.ends), asked).await;
        keys.map_err(|error| refusal(&exchange.role, &error))
    }

    /// Temporary keys of the gateway's own identity.
    pub(crate) async fn own(&self, region: &str) -> Result<AwsGrant, GrantError> {
        let keys = self.get(&format!("own {region}"), None, self.sts.own(region)).await;
        keys.map_err(|error| refusal("the gateway's own", &error))
    }

    async fn get(
        &self,
        session: &str,
        last: Option<Timestamp>,
        asked: impl Future<Output = Result<AwsGrant, StsError>> + Send,
    ) -> Result<AwsGrant, Arc<StsError>> {
        self.kept.get(Digest::of(session.as_bytes()), self.asked(last, asked)).await
    }

    async fn asked(
        &self,
        last: Option<Timestamp>,
        asked: impl Future<Output = Result<AwsGrant, StsError>> + Send,
    ) -> Result<AwsGrant, StsError> {
        if self.pause.lock().is_on(Instant::now()) {
            return Err(StsError::Throttled);
        }
        let begun = Instant::now();
        let answer = asked.await;
        self.pause.lock().after(&answer, begun, Instant::now());
        Ok(until(answer?, last, Timestamp::now()))
    }
}

/// Keys that nobody has after `last`. Where they live as long as that, there are no newer ones.
fn until(keys: AwsGrant, last: Option<Timestamp>, now: Timestamp) -> AwsGrant {
    if let Some(last) = last.filter(|last| *last <= keys.expires_at) {
        return AwsGrant { expires_at: last, renew_at: None, ..keys };
    }
    let fresh_for = fresh_for(keys.expires_at.duration_since(now), RENEW_AHEAD);
    AwsGrant { renew_at: now.checked_add(fresh_for).ok(), ..keys }
}

impl Pause {
    fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// After an answer to a call that began at `begun`. Of calls that were under way together the first that is told so
    /// counts: they say one thing, not one after another.
    fn after<T>(&mut self, answer: &Result<T, StsError>, begun: Instant, now: Instant) {
        match answer {
            Err(StsError::Throttled) if self.is_on(begun) => {}
            Err(StsError::Throttled) => {
                let pause = self.last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
                *self = Self { until: Some(now + jitter::pause(pause)), last: Some(pause) };
            }
            Ok(_) => *self = Self::default(),
            Err(_) => {}
        }
    }
}

/// What the user is told, and the operator.
fn refusal(role: impl Display, error: &StsError) -> GrantError {
    match error {
        StsError::Denied => {
            tracing::warn!(%role, %error, "no keys");
            GrantError::RoleDenied("AWS does not let the user's role be assumed".into())
        }
        StsError::TokenRefused(_) => {
            tracing::warn!(%role, %error, "no keys");
            NoKeys::TokenRefused.into()
        }
        StsError::TokenEnded => NoKeys::TokenEnded.into(),
        StsError::PackedTooLarge => {
            GrantError::PolicyTooLarge("AWS cannot pack it together with the session's tags".into())
        }
        StsError::OwnCredentials(_) | StsError::Invalid(_) | StsError::NotTemporary => {
            tracing::error!(%role, %error, "no keys");
            GrantError::unavailable("AWS STS")
        }
        StsError::Throttled | StsError::Failed(_) => {
            tracing::warn!(%role, %error, "no keys");
            GrantError::unavailable("AWS STS")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aws::{self, tests::identity},
        kept::MOST_MADE,
    };
    use async_trait::async_trait;
    use patchbay_core::{class::SessionPolicy, entitlement::Entitlement, id::ClassName};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    /// Answers when it is let, with keys of this life or an error.
    struct Double {
        calls: AtomicUsize,
        may_answer: Notify,
        answer: Result<SignedDuration, StsError>,
    }

    impl Double {
        fn new(answer: Result<SignedDuration, StsError>) -> Arc<Self> {
            Arc::new(Self { calls: AtomicUsize::new(0), may_answer: Notify::new(), answer })
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl Sts for Double {
        async fn assume(&self, assume: &Assume, name: &str) -> Result<AwsGrant, StsError> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            assert!(name.starts_with("mcp-alice-"), "{name}");
            self.may_answer.notified().await;
            let end = Timestamp::now() + self.answer.clone()?;
            let (id, region) = (format!("ASIA{call}"), assume.region.clone());
            AwsGrant::temporary(id, "s".into(), "t".into(), end, region)
                .ok_or(StsError::NotTemporary)
        }

        async fn exchange(&self, exchange: &Exchange, name: &str) -> Result<AwsGrant, StsError> {
            self.assume(&session(&exchange.region), name).await
        }

        async fn own(&self, region: &str) -> Result<AwsGrant, StsError> {
            self.assume(&session(region), "mcp-alice-own").await
        }
    }

    /// alice's token, which ends in this time.
    fn exchange(digest: &[u8], left: SignedDuration) -> Exchange {
        let Assume { role, policy, duration, region, endpoint, subject, .. } = session("us-east-1");
        let (token, ends) = ("token".into(), Timestamp::now() + left);
        let digest = Digest::of(digest);
        Exchange { role, policy, duration, region, endpoint, subject, token, digest, ends }
    }

    #[tokio::test]
    async fn keys_of_a_token_end_with_it_and_are_renewed_only_where_that_gives_more() {
        let (minutes, hour) = (SignedDuration::from_mins(10), SignedDuration::from_hours(1));
        let sts = Double::new(Ok(hour));
        let keys = Keys::new(sts.clone());
        let short = exchange(b"short", minutes);
        sts.may_answer.notify_one();
        let got = keys.exchanged(&short).await.unwrap();
        assert_eq!((got.expires_at, got.renew_at), (short.ends, None));
        assert_eq!(keys.exchanged(&short).await.unwrap().access_key_id, "ASIA0");
        let long = exchange(b"long", hour * 2);
        sts.may_answer.notify_one();
        let got = keys.exchanged(&long).await.unwrap();
        assert!(got.expires_at < long.ends && got.renew_at.is_some_and(|it| it < got.expires_at));
        assert_eq!((got.access_key_id.as_str(), sts.calls()), ("ASIA1", 2));
    }

    fn session(region: &str) -> Assume {
        let source = patchbay_core::class::AssumeRole {
            session_policy: SessionPolicy::WhenClaimed,
            region: region.into(),
            ..aws::tests::source()
        };
        let class = ClassName::parse("c").unwrap();
        aws::assume(&source, &class, &identity(Entitlement::default())).unwrap()
    }

    #[tokio::test]
    async fn all_who_want_one_sessions_keys_cause_one_call_and_later_ones_none() {
        let sts = Double::new(Ok(SignedDuration::from_hours(1)));
        let keys = Keys::new(sts.clone());
        let wanted = session("us-east-1");
        let asking = futures(&keys, &wanted);
        sts.may_answer.notify_one();
        for got in asking.await {
            assert_eq!(got.unwrap().access_key_id, "ASIA0");
        }
        assert_eq!(keys.assumed(&wanted).await.unwrap().access_key_id, "ASIA0");
        assert_eq!(sts.calls(), 1);
        sts.may_answer.notify_one();
        assert_eq!(keys.assumed(&session("eu-west-1")).await.unwrap().access_key_id, "ASIA1");
    }

    async fn futures(keys: &Keys, wanted: &Assume) -> [Result<AwsGrant, GrantError>; 3] {
        let (a, b, c) =
            tokio::join!(keys.assumed(wanted), keys.assumed(wanted), keys.assumed(wanted));
        [a, b, c]
    }

    #[tokio::test]
    async fn who_is_throttled_does_not_ask_again_at_once_for_anybody() {
        let sts = Double::new(Err(StsError::Throttled));
        let keys = Keys::new(sts.clone());
        sts.may_answer.notify_one();
        let unavailable = Err(GrantError::unavailable("AWS STS"));
        assert_eq!(keys.assumed(&session("us-east-1")).await.map(drop), unavailable);
        assert_eq!(keys.assumed(&session("eu-west-1")).await.map(drop), unavailable);
        assert_eq!(sts.calls(), 1);
    }

    #[tokio::test]
    async fn each_failure_is_told_as_what_it_is() {
        for (error, told) in [
            (StsError::Denied, "RoleDenied"),
            (StsError::PackedTooLarge, "PolicyTooLarge"),
            (StsError::Throttled, "Unavailable"),
            (StsError::Failed("503".into()), "Unavailable"),
            (StsError::OwnCredentials("ExpiredToken".into()), "Unavailable"),
            (StsError::Invalid("ValidationError".into()), "Unavailable"),
            (StsError::NotTemporary, "Unavailable"),
            (StsError::TokenRefused("InvalidIdentityToken".into()), "NoKeys(TokenRefused)"),
            (StsError::TokenEnded, "NoKeys(TokenEnded)"),
        ] {
            let sts = Double::new(Err(error));
            sts.may_answer.notify_one();
            let refused = Keys::new(sts).assumed(&session("us-east-1")).await.unwrap_err();
            assert!(format!("{refused:?}").starts_with(told), "{refused:?}");
        }
    }

    #[test]
    fn pauses_grow_while_sts_complains_and_end_with_an_answer() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        let mut ends = Vec::new();
        for _ in 0..8 {
            let begun = now;
            now += FIRST_PAUSE;
            pause.after(&Err::<(), _>(StsError::Throttled), begun, now);
            assert!(pause.is_on(now));
            ends.push(pause.last.unwrap());
            // tried again when the pause is over
            now += LONGEST_PAUSE;
        }
        assert_eq!(ends[..3], [1, 2, 4].map(Duration::from_secs));
        assert_eq!(ends[7], LONGEST_PAUSE);
        assert!(!pause.is_on(now + LONGEST_PAUSE * 2));
        now -= LONGEST_PAUSE;
        pause.after(&Err::<(), _>(StsError::Denied), now, now);
        assert!(pause.is_on(now), "a refusal says nothing of how often");
        pause.after(&Ok(()), now, now);
        assert!(!pause.is_on(now));
    }

    #[test]
    fn calls_that_are_under_way_together_and_are_throttled_make_one_pause() {
        let (mut pause, begun) = (Pause::default(), Instant::now());
        for call in 0..MOST_MADE {
            let now = begun + Duration::from_millis(u64::try_from(call).unwrap());
            pause.after(&Err::<(), _>(StsError::Throttled), begun, now);
        }
        assert_eq!(pause.last, Some(FIRST_PAUSE));
    }

    #[test]
    fn keys_are_renewed_before_boto_asks_and_short_ones_after_half_of_their_life() {
        let now = Timestamp::UNIX_EPOCH;
        for (left, fresh) in [(3600, 2400), (43_200, 42_000), (900, 450), (0, 0)] {
            let (id, end) = ("ASIAX".to_owned(), now + SignedDuration::from_secs(left));
            let keys = AwsGrant::temporary(id, "s".into(), "t".into(), end, "r".into()).unwrap();
            assert_eq!(until(keys, None, now).renew_at.unwrap().as_second(), fresh);
        }
    }
}
