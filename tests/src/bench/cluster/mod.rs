//! Measures an installation of thousands of tenants, for `make bench-cluster`: a real API server, the real operator,
//! two real gateways, and workers that are doubles on this machine's own addresses, so that ten thousand users fit
//! into it.
//!
//! Only what is Patchbay's own and the API server's is in the figures: no container starts, and no MCP server has
//! anything to do. Client, doubles, control plane, operator and gateways share the machine.

mod contacts;
mod follow_ups;
mod installation;
mod report;

pub use self::report::report;

use self::{
    contacts::{Burst, OneByOne},
    follow_ups::FollowUps,
    installation::Installation,
};
use super::footprint::{Memory, memory};
use anyhow::Context;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Tenants that sleep.
    pub asleep: usize,
    /// Workers that are kept warm, and users that come at once for them.
    pub warm: usize,
    /// Users whose first contact is timed, one after the other.
    pub one_by_one: usize,
}

impl Scale {
    /// What the figures of a release are taken with: about ten minutes.
    pub const fn full() -> Self {
        Self { asleep: 10_000, warm: 500, one_by_one: 100 }
    }

    /// Enough to see that every measurement works; the figures say nothing.
    pub const fn quick() -> Self {
        Self { asleep: 40, warm: 6, one_by_one: 3 }
    }
}

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    scale: Scale,
    /// The operator, when it had told all tenants where they are.
    operator_asleep: Memory,
    /// From the first tenant that was made to the last one's status.
    all_told: Duration,
    /// From a gateway's start to its word that it is ready.
    gateway_ready: Duration,
    /// The same gateway then.
    gateway_asleep: Memory,
    /// Until the pool was full: created, ready, enrolled.
    filled: Duration,
    one_by_one: OneByOne,
    burst: Burst,
    follow_ups: FollowUps,
    /// Both with everybody bound.
    operator_bound: Memory,
    gateway_bound: Memory,
    /// From the end of one operator to the next one's lead.
    led: Duration,
    /// From there to the end of its first pass over everything.
    resynced: Duration,
    /// The next operator, when it had passed over everything.
    operator_next: Memory,
}

/// Measures on the cluster that is up, or is brought up now; it is left as it was.
pub async fn measure(scale: Scale) -> anyhow::Result<Figures> {
    eprintln!("1/6  the cluster, and an operator in it");
    let users = scale.one_by_one + scale.warm;
    let mut installation = Installation::make(users).await?;
    eprintln!("2/6  {} tenants that sleep", scale.asleep);
    let all_told = installation.put_to_sleep(scale.asleep).await?;
    let operator_asleep = memory(installation.operator_pid()?)?;
    eprintln!("3/6  {} warm workers", scale.warm);
    let filled = installation.fill(scale.warm).await?;
    eprintln!("4/6  first contacts of {} users, one after the other", scale.one_by_one);
    let (gateways, gateway_ready) = installation.gateways().await?;
    let [one, _] = &gateways;
    let gateway = one.pid().context("the gateway has ended")?;
    let gateway_asleep = memory(gateway)?;
    let one_by_one = contacts::one_by_one(&installation, one, scale).await?;
    eprintln!("5/6  first contacts of {} users at once", scale.warm);
    let before = installation.audit_mark()?;
    let burst = contacts::burst(&gateways, scale).await?;
    installation.all_followed_up(users, scale).await?;
    let follow_ups = FollowUps::since(&installation, before, scale)?;
    let (operator_bound, gateway_bound) = (memory(installation.operator_pid()?)?, memory(gateway)?);
    eprintln!("6/6  another operator in its place");
    let (led, resynced) = installation.replace_operator().await?;
    let operator_next = memory(installation.operator_pid()?)?;
    installation.end().await?;
    Ok(Figures {
        scale,
        operator_asleep,
        all_told,
        gateway_ready,
        gateway_asleep,
        filled,
        one_by_one,
        burst,
        follow_ups,
        operator_bound,
        gateway_bound,
        led,
        resynced,
        operator_next,
    })
}
