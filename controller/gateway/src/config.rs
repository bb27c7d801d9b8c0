//! The gateway's bounds: every input has one. The defaults are the product's promises.

use std::time::Duration;

/// Bounds on what a client may send or cause.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Headers of a request.
    pub headers: usize,
    /// All header names and values of a request together, bytes.
    pub header_bytes: usize,
    /// The body of a request, bytes.
    pub body_bytes: u64,
    /// From the first byte of a request to the end of its headers; also a TLS handshake.
    pub header_read: Duration,
    /// How long a request waits for a worker.
    pub hold: Duration,
    /// Requests of one tenant that wait for a worker at one time.
    pub waiters_per_tenant: usize,
    /// What all waiting requests may hold together, bytes.
    pub waiting_bytes: usize,
    /// What is kept of a request's body in case the worker refuses the stream, bytes.
    pub replay_bytes: usize,
    /// How long a connection to a worker may take.
    pub dial: Duration,
    /// How long an unused connection to a worker is kept open.
    pub link_idle: Duration,
    /// How long a worker that cannot be dialled may take to be known as gone.
    pub settle: Duration,
    /// Client connections at one time.
    pub connections: usize,
    /// How long open requests may go on after a shutdown has begun.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: 100,
            header_bytes: 32 * 1024,
            body_bytes: 8 * 1024 * 1024,
            header_read: Duration::from_secs(10),
            hold: Duration::from_mins(1),
            waiters_per_tenant: 256,
            waiting_bytes: 64 * 1024 * 1024,
            replay_bytes: 64 * 1024,
            dial: Duration::from_secs(5),
            link_idle: Duration::from_mins(1),
            settle: Duration::from_secs(2),
            connections: 10_000,
            drain: Duration::from_secs(30),
        }
    }
}
