//! Real sandboxes, looked at from inside and from outside: each property that isolation rests on is
//! tried to be broken. These tests need bubblewrap and user namespaces and fail where they are
//! missing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

#[path = "sandbox/bounds.rs"]
mod bounds;
#[path = "sandbox/descriptors.rs"]
mod descriptors;
#[path = "sandbox/inside.rs"]
mod inside;
#[path = "sandbox/lifetime.rs"]
mod lifetime;
#[path = "sandbox/support.rs"]
mod support;
