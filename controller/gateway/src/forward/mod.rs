//! Bytes to a worker and back.
//!
//! [`headers`] decides what crosses, [`body`] bounds and remembers what a client sends, and its [`outline`], [`link`] is the
//! one connection to one life of one worker, [`pinned`] checks that the right key answers there. This
//! module must not know who the user is or how the worker was found.

pub mod body;
pub mod headers;
pub mod link;
pub mod outline;
pub mod pinned;
