//! The chart: what Helm makes of it, and what a real API server says to that. `make test-cluster`.

mod admission;
mod autoscaled;
mod chart;
mod classes;
mod defaults;
mod fields;
mod guide;
mod install;
mod monitoring;
mod namespaced;
mod powers;
mod programs;
mod rights;
mod server;
mod switches;
mod values;
mod verify;
