//! Measures what Patchbay costs its users, for `make bench` and its like: the wait of a first contact, the time
//! and throughput that the way through the gateway takes, and the memory and CPU behind it.
//!
//! Each module turns running processes into figures; the reports alone know the budgets, and
//! nothing here fails because a figure is bad. The modules must not know how the programs under
//! test work.

pub mod client;
pub mod cluster;
pub mod cold;
pub mod first_contact;
pub mod footprint;
pub mod report;
pub mod server;
pub mod statistics;
pub mod table;
pub mod throughput;

use std::time::Duration;

/// The class of every worker that is measured.
pub const CLASS: &str = "bench";

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Users whose first contact is timed, one after the other.
    pub users: usize,
    /// Open connections, one setting after the other.
    pub connections: Vec<usize>,
    /// Rounds of a setting; each goes to the server directly and then through the gateway.
    pub rounds: usize,
    /// How long each half of a round sends requests.
    pub half_round: Duration,
    /// How long each half of a setting's first round, which is not counted, sends requests.
    pub warm_up: Duration,
}

impl Scale {
    /// What the figures of a release are taken with: about two to three minutes.
    pub fn full() -> Self {
        Self {
            users: 200,
            connections: vec![1, 16, 64],
            rounds: 5,
            half_round: Duration::from_secs(2),
            warm_up: Duration::from_secs(1),
        }
    }

    /// Enough to see that every measurement works; the figures say nothing.
    pub fn quick() -> Self {
        Self {
            users: 3,
            connections: vec![1, 4],
            rounds: 2,
            half_round: Duration::from_millis(200),
            warm_up: Duration::from_millis(50),
        }
    }
}
