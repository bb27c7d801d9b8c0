//! How long the first contact of each official client takes where no worker is warm, at the real `quilt-mcp`: the client
//! waits for a worker to start, and may take that for a server of another era.
//!
//! Each client comes twice: first to an empty pool, then to the worker that its user has by then. What the first takes
//! longer is the wait.

use super::table::markdown;
use crate::{
    clients::{ALL, Asked, McpProgram},
    controller::ControllerConfig,
    quilt::{CLASS, QuiltWorld, isolation::listing},
};
use anyhow::{Context as _, ensure};
use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};
use tokio::time::Instant;

/// A client's two runs, from its start to its end.
#[derive(Debug)]
pub struct Cold {
    program: McpProgram,
    /// The protocol's version that it came to; empty where it does not tell.
    protocol: String,
    /// Where no worker is warm.
    first: Duration,
    /// To the worker that its user has.
    again: Duration,
}

/// All clients, as a table that can be pasted into Markdown.
#[derive(Debug)]
pub struct Colds(Vec<Cold>);

/// Measures one client after the other, each with a gateway of its own.
pub async fn measure() -> anyhow::Result<Colds> {
    let world = QuiltWorld::start().await?;
    let bearer = format!("Bearer {}", world.token("alice")?);
    let mut all = Vec::new();
    for program in ALL {
        eprintln!("{}/{}  {}", all.len() + 1, ALL.len(), program.name());
        let mut controller = ControllerConfig::new(world.documents(0).await?).start().await?;
        let run = async || {
            let credential = ("Authorization", &*bearer);
            let (tool, arguments) = ("bucket_objects_list", listing("b-alice"));
            let asked = Asked::call(controller.url(CLASS), credential, tool, arguments);
            let begun = Instant::now();
            anyhow::Ok((program.run(&asked).await?, begun.elapsed()))
        };
        let (seen, first) = run().await?;
        let (_, again) = run().await?;
        ensure!(controller.terminate().await.context("the gateway")?, "{}", controller.logs());
        all.push(Cold { program, protocol: seen.protocol, first, again });
    }
    Ok(Colds(all))
}

impl Display for Colds {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let head = ["client", "protocol", "no worker warm", "has a worker", "waited"];
        let cells: Vec<_> = self.0.iter().map(Cold::cells).collect();
        markdown(formatter, head, &cells)
    }
}

impl Cold {
    fn cells(&self) -> [String; 5] {
        let told = match self.program.protocol() {
            None => "not told".to_owned(),
            Some(own) if own == self.protocol => own.to_owned(),
            Some(own) => format!("{}, not {own}", self.protocol),
        };
        let waited = self.first.saturating_sub(self.again);
        let [first, again, waited] =
            [self.first, self.again, waited].map(|it| format!("{:.1} s", it.as_secs_f64()));
        [self.program.name().to_owned(), told, first, again, waited]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_came_to_another_era_is_told_of() {
        let of = |program, protocol: &str| Cold {
            program,
            protocol: protocol.to_owned(),
            first: Duration::from_millis(12_300),
            again: Duration::from_millis(2_100),
        };
        let table = Colds(vec![
            of(McpProgram::PythonAuto, "2025-11-25"),
            of(McpProgram::Sdk, "2025-11-25"),
            of(McpProgram::Inspector, ""),
        ]);
        let expected = "\
| client                    |                   protocol | no worker warm | has a worker | waited |
|---------------------------|---------------------------:|---------------:|-------------:|-------:|
| mcp (Python), auto        | 2025-11-25, not 2026-07-28 |         12.3 s |        2.1 s | 10.2 s |
| @modelcontextprotocol/sdk |                 2025-11-25 |         12.3 s |        2.1 s | 10.2 s |
| Inspector CLI             |                   not told |         12.3 s |        2.1 s | 10.2 s |
";
        assert_eq!(table.to_string(), expected);
    }
}
