//! What was measured of the ways, as tables that can be pasted into Markdown. Pure.

use super::{Figures, Idle, Setting, Ways};
use crate::bench::table::markdown;
use std::fmt::{self, Display, Formatter};

impl Display for Ways {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let head = [
            "server, protocol, connections: way",
            "p50",
            "added",
            "p99",
            "added",
            "requests",
            "of direct",
        ];
        let cells: Vec<_> = self.settings.iter().map(Setting::cells).collect();
        markdown(formatter, head, &cells)?;
        writeln!(formatter)?;
        let head =
            ["server: way", "sessions", "before any", "a session", "its stream", "its MCP server"];
        let cells: Vec<_> = self.idle.iter().map(Idle::cells).collect();
        markdown(formatter, head, &cells)
    }
}

impl Setting {
    fn cells(&self) -> [String; 7] {
        let Self { transport, era, connections, way, figures: Figures { side, added, ratio } } =
            self;
        let milliseconds = |it: f64| format!("{it:.2} ms");
        [
            format!("{transport}, {era}, {connections}: {way}"),
            milliseconds(side.p50),
            milliseconds(added[0]),
            milliseconds(side.p99),
            milliseconds(added[1]),
            format!("{:.0} /s", side.rate),
            format!("{ratio:.3}"),
        ]
    }
}

impl Idle {
    fn cells(&self) -> [String; 6] {
        let Self { transport, way, held, before, sessions } = self;
        let kilobytes = |it: f64| format!("{:.1} kB", it / 1e3);
        [
            format!("{transport}: {way}"),
            sessions.to_string(),
            format!("{:.1} MB", before / 1e6),
            kilobytes(held.session),
            kilobytes(held.stream),
            kilobytes(held.servers),
        ]
    }
}
