//! The real operator on a real cluster, with real workers: it keeps them warm, enrols them, follows their lives, and
//! loses nothing. `make test-cluster`. The tests take the place of the gateways.

#[path = "cluster_operator/world.rs"]
mod world;

#[path = "cluster_operator/conditions.rs"]
mod conditions;
#[path = "cluster_operator/failures.rs"]
mod failures;
#[path = "cluster_operator/lives.rs"]
mod lives;
#[path = "cluster_operator/nodes.rs"]
mod nodes;
#[path = "cluster_operator/pool.rs"]
mod pool;
#[path = "cluster_operator/trust.rs"]
mod trust;
#[path = "cluster_operator/unseen.rs"]
mod unseen;
