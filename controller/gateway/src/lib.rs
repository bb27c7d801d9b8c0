//! The data path: request -> identity -> tenant -> worker -> stream.
//!
//! [`Gateway::serve`](service::Gateway::serve) is that path in one place; the modules are its steps. The
//! gateway relays bytes: of bodies it reads the ids of requests alone, and it keeps no session. It knows HTTP, MCP's HTTP rules and
//! identity; it must not know pods, sandboxes or how credentials are obtained, which it reaches through
//! the traits `Orchestrator` and `GrantSource` of the core.

pub mod activate;
mod again;
pub mod answer;
pub mod authn;
pub mod bind;
pub mod config;
mod control;
mod diagnosis;
pub mod drain;
#[cfg(test)]
mod fixtures;
pub mod forward;
mod last_word;
pub mod metrics;
pub mod origin;
pub mod outbound;
mod parked;
pub mod public_url;
mod reserve;
pub mod respond;
pub mod server;
pub mod service;
mod streams;
pub mod waiting;
mod warrant;
pub mod well_known;

pub use config::Limits;
pub use server::{Listener, ServeError};
pub use service::Gateway;
