//! Gateways in a real cluster: two replicas that share nothing but the API server, with real workers, claimed,
//! lost, killed, suspended and deleted. `make test-cluster`.
//!
//! Most tests are their own operator: they make workers and record their keys, at the moment that they choose. In
//! `operated` the real one does.

mod claims;
mod clients;
mod configuration;
mod conformance;
mod failures;
mod identity;
mod operated;
mod precedence;
mod rolls;
mod sessions;
mod stdio;
mod tenants;
mod tools;
mod why;
mod world;
