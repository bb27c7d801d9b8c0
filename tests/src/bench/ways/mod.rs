//! The ways to one MCP server, side by side: directly, through Patchbay, and through others' proxies and stdio bridges. It
//! turns a scale into what each way adds and holds.
//!
//! All ways of a transport are open at once and taken in turn, so that whatever else the machine does meets all of them. Each
//! stands as it comes: nothing is tuned but that nginx keeps its connections and passes on what it has.

mod idle;
mod report;
mod running;

use super::{
    WaysScale,
    client::{Connection, Endpoint},
    message::Era,
    pipe::Pipe,
    rounds::{Caller, Side, Timing, half_round},
    statistics::median,
};
use anyhow::Context;
pub use idle::Idle;
use running::Running;
use std::fmt::{self, Display, Formatter};

/// How a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// On its standard streams, of which a way makes HTTP.
    Stdio,
}

/// What is between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    Direct,
    /// Gateway and worker.
    Patchbay,
    /// A plain proxy.
    Nginx,
    /// Another, which `JupyterHub` puts before its users' servers.
    ConfigurableHttpProxy,
    /// A bridge from stdio.
    Supergateway,
    /// Another.
    McpProxy,
}

/// All that was measured.
#[derive(Debug)]
pub struct Ways {
    settings: Vec<Setting>,
    idle: Vec<Idle>,
}

/// One way with one number of connections: medians over the rounds.
#[derive(Debug, PartialEq)]
struct Setting {
    transport: Transport,
    era: Era,
    connections: usize,
    way: Way,
    figures: Figures,
}

/// Medians over rounds, each of which takes the direct way first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    side: Side,
    /// By how much it is slower than the direct way, milliseconds at p50 and p99.
    added: [f64; 2],
    /// Requests per second for each one per second directly.
    ratio: f64,
}

/// What a client has open.
#[derive(Debug)]
enum Line {
    Http(Connection),
    Pipe(Pipe),
}

impl Transport {
    const ALL: [Self; 2] = [Self::Http, Self::Stdio];

    /// The direct way is the first.
    const fn ways(self) -> [Way; 4] {
        match self {
            Self::Http => [Way::Direct, Way::Patchbay, Way::Nginx, Way::ConfigurableHttpProxy],
            Self::Stdio => [Way::Direct, Way::Patchbay, Way::Supergateway, Way::McpProxy],
        }
    }
}

impl Display for Transport {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "HTTP",
            Self::Stdio => "stdio",
        })
    }
}

impl Display for Way {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Direct => "direct",
            Self::Patchbay => "Patchbay",
            Self::Nginx => "nginx",
            Self::ConfigurableHttpProxy => "configurable-http-proxy",
            Self::Supergateway => "supergateway",
            Self::McpProxy => "mcp-proxy (npm)",
        })
    }
}

/// Measures all ways, with programs of their own that are ended afterwards.
pub async fn measure(scale: &WaysScale) -> anyhow::Result<Ways> {
    let mut all = Ways { settings: Vec::new(), idle: Vec::new() };
    for transport in Transport::ALL {
        let mut open = Vec::new();
        for way in transport.ways() {
            let running = Running::start(transport, way).await;
            open.push(running.with_context(|| format!("{transport}, {way}"))?);
        }
        for running in &open {
            let measured = idle::measure(running, scale).await;
            all.idle.extend(measured.with_context(|| running.told())?);
        }
        for era in [Era::Legacy, Era::Modern] {
            for &connections in &scale.connections {
                all.settings.extend(setting(&open, era, connections, scale).await?);
            }
        }
        for running in open {
            running.end().await?;
        }
    }
    Ok(all)
}

async fn setting(
    open: &[Running],
    era: Era,
    connections: usize,
    scale: &WaysScale,
) -> anyhow::Result<Vec<Setting>> {
    let mut lines = Vec::new();
    for running in open {
        let mut of_way = Vec::new();
        for _ in 0..connections {
            let line = running.line(era).await;
            of_way.push(line.with_context(|| running.told())?);
        }
        half_round(&mut of_way, scale.round / 2).await.with_context(|| running.told())?;
        lines.push(of_way);
    }
    let mut rounds: Vec<Vec<Side>> = Vec::new();
    for _ in 0..scale.rounds {
        let mut round = Vec::new();
        for (running, of_way) in open.iter().zip(&mut lines) {
            let half = half_round(of_way, scale.round).await;
            round.push(half.with_context(|| running.told())?.side);
        }
        rounds.push(round);
    }
    for line in lines.into_iter().flatten() {
        line.end().await?;
    }
    let of_way = |(at, running): (usize, &Running)| {
        let figures = Figures::of(&rounds, at).context("no round was measured")?;
        Ok(Setting { transport: running.transport, era, connections, way: running.way, figures })
    };
    open.iter().enumerate().map(of_way).collect()
}

impl Figures {
    /// The way that is the `at`th of each round.
    fn of(rounds: &[Vec<Side>], at: usize) -> Option<Self> {
        let over = |figure: &dyn Fn(&Side, &Side) -> f64| {
            let pairs = rounds.iter().filter_map(|round| Some((round.first()?, round.get(at)?)));
            median(pairs.map(|(direct, side)| figure(direct, side)).collect())
        };
        Some(Self {
            side: Side {
                p50: over(&|_, side| side.p50)?,
                p99: over(&|_, side| side.p99)?,
                rate: over(&|_, side| side.rate)?,
            },
            added: [
                over(&|direct, side| side.p50 - direct.p50)?,
                over(&|direct, side| side.p99 - direct.p99)?,
            ],
            ratio: over(&|direct, side| side.rate / direct.rate)?,
        })
    }
}

impl Line {
    async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Http(connection) => connection.end().await,
            Self::Pipe(_) => Ok(()),
        }
    }
}

impl Caller for Line {
    async fn call(&mut self) -> anyhow::Result<Timing> {
        match self {
            Self::Http(connection) => connection.call().await,
            Self::Pipe(pipe) => pipe.call().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_compared_with_the_direct_one_of_its_own_round() {
        let side = |p50: f64| Side { p50, p99: p50 * 2.0, rate: 1000.0 / p50 };
        // the machine slows down from round to round, and the second way always takes twice as long
        let rounds = [1.0, 4.0, 9.0].map(|p50| vec![side(p50), side(p50 * 2.0)]);
        let direct = Figures::of(&rounds, 0).unwrap();
        assert_eq!(direct, Figures { side: side(4.0), added: [0.0, 0.0], ratio: 1.0 });
        let other = Figures::of(&rounds, 1).unwrap();
        assert_eq!(other, Figures { side: side(8.0), added: [4.0, 8.0], ratio: 0.5 });
        assert_eq!(Figures::of(&rounds, 2), None);
    }
}
