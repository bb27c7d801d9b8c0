//! The definitions in `crds/yaml/` on a real API server: that it takes them without a word, and what it then
//! takes and refuses, and with which words. `make test-cluster`.

mod agreement;
mod definitions;
mod display;
mod objects;
mod providers;
mod server;
mod tenants;
mod worker_classes;
