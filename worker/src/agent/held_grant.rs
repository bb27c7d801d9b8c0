//! The grant that a worker holds: whether another would be better, and what of it the relay
//! presents. The decision is the core's, the moment is now. It must not know where grants are
//! stored or used.

use super::clock::Moment;
use http::{HeaderValue, header::InvalidHeaderValue};
use jiff::Timestamp;
use patchbay_core::{
    allowed::Allowed,
    digest::{Digest, NoRandomness},
    grant::{AwsGrant, Grant, GrantStanding},
    quilt,
    tools::Holds,
};
use secrecy::{ExposeSecret as _, SecretString};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// The tenant's grant and how it fares.
#[derive(Debug)]
pub(crate) struct HeldGrant {
    grant: Grant,
    session: Option<Arc<Session>>,
    refused_upstream: bool,
    claims: Claims,
}

/// What is known of a tenant's claims.
#[derive(Debug, Clone)]
pub(crate) enum Claims {
    /// Nothing: no grant is held.
    Unknown,
    /// Its credential has none.
    Absent,
    /// They allow this and no more.
    Allow(Arc<Allowed>),
}

impl Claims {
    /// What they leave to their tenant.
    pub(crate) fn holds(&self) -> Holds<'_> {
        match self {
            Self::Unknown => Holds::Nothing,
            Self::Absent => Holds::Everything,
            Self::Allow(allowed) => Holds::Only(allowed),
        }
    }
}

/// What the MCP server presents, and what is put in its place: fixed for the life of one grant.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the MCP server holds.
    pub(crate) stand_in: StandIn,
    /// The value of `Authorization` that the origins are shown, where a catalog is granted; marked as sensitive.
    pub(crate) authorization: Option<HeaderValue>,
    /// The AWS keys that the stand-in is worth, where such are granted.
    pub(crate) keys: Option<AwsGrant>,
}

/// The bearer that the MCP server holds instead of the user's.
#[derive(Clone)]
pub(crate) struct StandIn {
    text: Arc<str>,
    digest: Digest,
}

impl HeldGrant {
    /// A grant that has not been used yet, and what the relay presents of it.
    pub(crate) fn new(mut grant: Grant, session: Option<Session>) -> Self {
        let claims = grant.allowed.take().map_or(Claims::Absent, |it| Claims::Allow(Arc::new(it)));
        Self { grant, session: session.map(Arc::new), refused_upstream: false, claims }
    }

    /// What its tenant's claims say.
    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether `offered` should take its place.
    pub(crate) fn yields_to(&self, offered: &Grant, now: Moment) -> bool {
        let standing = GrantStanding {
            credential: self.grant.credential,
            expires_at: self.grant.expires_at,
            refused_upstream: self.refused_upstream,
        };
        standing.yields_to(offered, now.timestamp)
    }

    /// What the relay presents of it.
    pub(crate) const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// An origin refused `session`. That is news of this grant only if it is still this one's.
    pub(crate) fn refuse(&mut self, session: &Arc<Session>) {
        if self.session.as_ref().is_some_and(|own| Arc::ptr_eq(own, session)) {
            self.refused_upstream = true;
        }
    }
}

impl Session {
    /// What the server's `stand_in` is worth: `bearer` at a catalog, `keys` here.
    pub(crate) fn new(
        stand_in: StandIn,
        bearer: Option<&SecretString>,
        keys: Option<AwsGrant>,
    ) -> Result<Self, InvalidHeaderValue> {
        let sensitive = |bearer: &SecretString| {
            let value = Zeroizing::new(format!("Bearer {}", bearer.expose_secret()));
            let mut authorization = HeaderValue::from_str(&value)?;
            authorization.set_sensitive(true);
            Ok(authorization)
        };
        Ok(Self { stand_in, authorization: bearer.map(sensitive).transpose()?, keys })
    }

    /// The AWS keys, unless they have ended.
    pub(crate) fn live_keys(&self, now: Timestamp) -> Option<&AwsGrant> {
        self.keys.as_ref().filter(|keys| now < keys.expires_at)
    }
}

impl StandIn {
    /// A fresh one.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        quilt::stand_in_bearer().map(|text| Self::new(&text))
    }

    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into(), digest: Digest::of(text.as_bytes()) }
    }

    /// The text itself, for the file that it is placed in.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is the stand-in; how long that takes says nothing about where it differs.
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        self.digest.constant_time_eq(&Digest::of(presented))
    }

    /// Whether a text has the stand-in in it.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        // it is never empty; the library would panic if it were
        text.windows(self.text.len().max(1)).any(|part| part == self.text.as_bytes())
    }
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandIn(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> HeldGrant {
        let grant = Grant {
            credential: Digest::of(b"credential"),
            expires_at: None,
            catalog: None,
            aws: None,
            allowed: None,
        };
        let session =
            Session::new(StandIn::new("pod-x"), Some(&"the-bearer".into()), None).unwrap();
        HeldGrant::new(grant, Some(session))
    }

    #[test]
    fn a_refusal_of_a_former_grant_says_nothing_of_the_present_one() {
        let (former, mut present) = (held(), held());
        present.refuse(former.session().unwrap());
        let again = held().grant;
        assert!(!present.yields_to(&again, Moment::now()));
        let own = Arc::clone(present.session().unwrap());
        present.refuse(&own);
        assert!(present.yields_to(&again, Moment::now()));
    }

    #[test]
    fn neither_bearer_nor_stand_in_is_printed() {
        let printed = format!("{:?}", held());
        assert!(!printed.contains("the-bearer") && !printed.contains("pod-x"), "{printed}");
    }

    #[test]
    fn the_stand_in_is_known_whole_and_found_inside_others() {
        let stand_in = StandIn::new("pod-x");
        assert!(stand_in.is(b"pod-x") && !stand_in.is(b"pod-") && !stand_in.is(b"pod-xy"));
        assert!(
            stand_in.is_in(b"Bearer pod-x;") && !stand_in.is_in(b"pod") && !stand_in.is_in(b"")
        );
    }

    #[test]
    fn a_bearer_that_is_no_header_is_refused() {
        let broken = "a\r\nb: c".into();
        assert!(Session::new(StandIn::new("pod-x"), Some(&broken), None).is_err());
    }

    #[test]
    fn keys_that_have_ended_are_none() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let keys = AwsGrant::temporary(
            "ASIAX".into(),
            "s".into(),
            "t".into(),
            at(100),
            "us-east-1".into(),
        );
        let session = Session::new(StandIn::new("pod-x"), None, keys).unwrap();
        assert!(session.live_keys(at(99)).is_some() && session.live_keys(at(100)).is_none());
    }
}
