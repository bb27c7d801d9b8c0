//! The same server, directly and through the gateway to one bound worker, under the same load.
//!
//! The two alternate, so that whatever else the machine does in a minute meets both; a setting's
//! figure is the median of its rounds' differences, and one disturbed round does not decide it.

use super::{
    CLASS, Scale,
    client::Endpoint,
    footprint::{self, Memory, WorkerProcesses},
    message::Era,
    rounds::{Caller as _, Half, Side, half_round},
    server::Server,
    statistics::median,
};
use crate::controller::{ControllerConfig, api_key, fixture_documents};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use std::time::Duration;
const USER: &str = "alice";

/// All that one controller with one bound worker shows.
#[derive(Debug)]
pub struct Throughput {
    /// One per number of connections, in the order of the scale.
    pub settings: Vec<Setting>,
    /// Bound, before any load.
    pub idle: Footprint,
    /// After all of it.
    pub loaded: Footprint,
}

/// The memory behind one bound worker.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// The gateway, which on one machine is the orchestrator too.
    pub gateway: Memory,
    /// The worker's agent.
    pub agent: Memory,
    /// The worker's host, without the MCP server.
    pub host: Memory,
}

/// One number of connections: medians over the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Open connections, each with one request at a time.
    pub connections: usize,
    /// To the server itself.
    pub direct: Side,
    /// Through the gateway.
    pub through: Side,
    /// By how much the gateway's p50 is above the direct one, milliseconds.
    pub added_p50: f64,
    /// By how much the gateway's p99 is above the direct one, milliseconds.
    pub added_p99: f64,
    /// Requests per second through the gateway for each one per second directly.
    pub ratio: f64,
    /// Requests for each second of CPU that the gateway's process used, over all rounds.
    pub per_cpu_second: Option<f64>,
}

/// One round.
#[derive(Debug, Clone, Copy)]
struct Round {
    direct: Half,
    through: Half,
    /// What the gateway used meanwhile.
    cpu: Duration,
}

/// Measures with a controller and a server of its own, which are ended afterwards.
pub async fn measure(scale: &Scale) -> anyhow::Result<Throughput> {
    let server = Server::start().await?;
    // nothing is kept warm: the one worker is the one that is measured
    let documents = fixture_documents(CLASS, 0, &[USER], "")?;
    let mut controller = ControllerConfig::new(documents).start().await?;
    let gateway = controller.pid().context("the gateway has ended")?;
    let through = Endpoint::with_key(controller.url(CLASS), &api_key(USER), Era::Modern)?;
    through.connect().await?.call().await.context("the worker is not bound")?;
    let worker = WorkerProcesses::of_only_worker(gateway)?;
    let footprint = || -> anyhow::Result<Footprint> {
        Ok(Footprint {
            gateway: footprint::memory(gateway)?,
            agent: footprint::memory(worker.agent)?,
            host: footprint::memory(worker.host)?,
        })
    };
    let idle = footprint()?;
    let ways = Ways { direct: Endpoint::open(&server.url, Era::Modern)?, through, gateway };
    let mut settings = Vec::new();
    for &connections in &scale.connections {
        settings.push(ways.measure(scale, connections).await?);
    }
    let loaded = footprint()?;
    ensure!(controller.terminate().await?, "the gateway failed:\n{}", controller.logs());
    Ok(Throughput { settings, idle, loaded })
}

struct Ways {
    direct: Endpoint,
    through: Endpoint,
    /// The gateway's pid.
    gateway: u32,
}

impl Ways {
    async fn measure(&self, scale: &Scale, connections: usize) -> anyhow::Result<Setting> {
        let open = |endpoint: &Endpoint| {
            let endpoint = endpoint.clone();
            async move { try_join_all((0..connections).map(|_| endpoint.connect())).await }
        };
        let mut direct = open(&self.direct).await?;
        let mut through = open(&self.through).await?;
        half_round(&mut direct, scale.warm_up).await.context("directly")?;
        half_round(&mut through, scale.warm_up).await.context("through the gateway")?;
        let mut rounds = Vec::new();
        for _ in 0..scale.rounds {
            let direct = half_round(&mut direct, scale.half_round).await.context("directly")?;
            let before = footprint::cpu_time(self.gateway)?;
            let through = half_round(&mut through, scale.half_round).await;
            let through = through.context("through the gateway")?;
            let cpu = footprint::cpu_time(self.gateway)?.saturating_sub(before);
            rounds.push(Round { direct, through, cpu });
        }
        Setting::of(connections, &rounds).context("no round was measured")
    }
}

impl Setting {
    fn of(connections: usize, rounds: &[Round]) -> Option<Self> {
        let over = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let side = |of: &dyn Fn(&Round) -> Side| {
            Some(Side {
                p50: over(&|round| of(round).p50)?,
                p99: over(&|round| of(round).p99)?,
                rate: over(&|round| of(round).rate)?,
            })
        };
        let requests: f64 = rounds.iter().map(|round| f64::from(round.through.requests)).sum();
        let cpu = rounds.iter().map(|round| round.cpu).sum::<Duration>();
        Some(Self {
            connections,
            direct: side(&|round| round.direct.side)?,
            through: side(&|round| round.through.side)?,
            added_p50: over(&|round| round.through.side.p50 - round.direct.side.p50)?,
            added_p99: over(&|round| round.through.side.p99 - round.direct.side.p99)?,
            ratio: over(&|round| round.through.side.rate / round.direct.side.rate)?,
            // less than a tick was counted: no figure rather than an infinite one
            per_cpu_second: (!cpu.is_zero()).then(|| requests / cpu.as_secs_f64()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(direct: f64, through: f64) -> Round {
        let half = |p50: f64| Half {
            side: Side { p50, p99: p50 * 2.0, rate: 1000.0 / p50 },
            requests: 300,
        };
        Round { direct: half(direct), through: half(through), cpu: Duration::from_millis(100) }
    }

    #[test]
    fn a_difference_is_taken_within_each_round() {
        // the machine slows down from round to round, and the gateway always adds 1 ms
        let rounds = [round(1.0, 2.0), round(4.0, 5.0), round(9.0, 10.0)];
        let setting = Setting::of(16, &rounds).unwrap();
        assert!((setting.added_p50 - 1.0).abs() < 1e-9, "{setting:?}");
        assert!((setting.added_p99 - 2.0).abs() < 1e-9, "{setting:?}");
        assert!((setting.ratio - 0.8).abs() < 1e-9, "{setting:?}");
        assert!((setting.direct.p50 - 4.0).abs() < 1e-9, "{setting:?}");
        assert!((setting.per_cpu_second.unwrap() - 3000.0).abs() < 1e-9, "{setting:?}");
    }

    #[test]
    fn no_counted_cpu_time_is_no_figure() {
        let unused = Round { cpu: Duration::ZERO, ..round(1.0, 2.0) };
        assert_eq!(Setting::of(1, &[unused]).unwrap().per_cpu_second, None);
        assert_eq!(Setting::of(1, &[]), None);
    }
}
