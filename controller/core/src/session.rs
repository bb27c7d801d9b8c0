//! Session ids that outlive a worker: what `initialize` said, sealed for one tenant into the id that a client keeps.
//!
//! A root key, of which a gateway holds a few, becomes a key for each tenant ([`SessionRoots`]); a worker seals with its
//! tenant's newest one, and a later worker of the same tenant opens what that one sealed ([`seal`], [`open`]). An id of
//! another tenant, one that was changed, and one that is too old are nothing to it. This module must not know sessions,
//! MCP servers, or where root keys are kept.

mod key;
mod root;
mod sealed;

pub use self::{
    key::{KeyId, SessionKey, SessionKeys},
    root::{MalformedRoots, PUBLISHED_BEFORE, ROOTS_KEPT, SEALS_FOR, SessionRoots},
    sealed::{GOOD_FOR, MAX_ID_BYTES, NotOpened, NotSealed, Opening, is_sealed, open, seal},
};
