//! Gateways in a real cluster: two replicas that share nothing but the API server, with real workers, claimed,
//! lost, killed, suspended and deleted. `make test-cluster`.
//!
//! Each test is its own operator: it makes workers and records their keys.

mod claims;
mod configuration;
mod failures;
mod tenants;
mod world;
