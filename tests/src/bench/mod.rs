//! Measures what Patchbay costs its users, for `make bench` and its like: the wait of a first contact, the time
//! and throughput that the way through the gateway takes, beside the ways through others' proxies and bridges, and the
//! memory and CPU behind it.
//!
//! Each module turns running processes into figures; the reports alone know the budgets, and
//! nothing here fails because a figure is bad. The modules must not know how the programs under
//! test work.

pub mod client;
pub mod cluster;
pub mod cold;
pub mod first_contact;
pub mod footprint;
pub mod message;
pub mod pipe;
pub mod report;
pub mod rounds;
pub mod server;
pub mod statistics;
pub mod table;
pub mod throughput;
pub mod ways;

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
    /// How others' proxies and bridges are measured beside Patchbay.
    pub ways: WaysScale,
}

/// How much is measured of each way to a server.
#[derive(Debug, Clone)]
pub struct WaysScale {
    /// Open connections, one setting after the other.
    pub connections: Vec<usize>,
    /// Rounds of a setting; each takes every way once.
    pub rounds: usize,
    /// How long each way is taken in a round; half as long in the first, which is not counted.
    pub round: Duration,
    /// Idle sessions with a server that speaks HTTP, whose memory is counted.
    pub sessions: usize,
    /// The same with one that speaks on its standard streams, which is a process for each.
    pub stdio_sessions: usize,
}

impl Scale {
    /// What the figures of a release are taken with: about six minutes.
    pub fn full() -> Self {
        Self {
            users: 200,
            connections: vec![1, 16, 64],
            rounds: 5,
            half_round: Duration::from_secs(2),
            warm_up: Duration::from_secs(1),
            ways: WaysScale {
                connections: vec![1, 16],
                rounds: 5,
                round: Duration::from_secs(1),
                sessions: 200,
                stdio_sessions: 16,
            },
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
            ways: WaysScale {
                connections: vec![1, 2],
                rounds: 1,
                round: Duration::from_millis(100),
                sessions: 3,
                stdio_sessions: 2,
            },
        }
    }
}
