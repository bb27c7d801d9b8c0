//! Figures beside their budgets, as a table that can be pasted into Markdown. Pure; what is measured, and what its
//! budget is, others say.

use super::footprint::Memory;
use std::fmt::{self, Display, Formatter};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A duration, thousandths of a second.
    Milliseconds,
    /// A longer one.
    Seconds,
    /// How many in a second.
    PerSecond,
    /// Millions of bytes.
    Megabytes,
    /// One by another.
    Ratio,
    /// How many.
    Count,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// No more.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    figure: String,
    /// None where it could not be told.
    measured: Option<f64>,
    unit: Unit,
    budget: Option<Budget>,
}

/// All lines of the table; `Display` writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table(pub Vec<Row>);

/// The budget is held against all resident pages, the stricter of the two.
pub fn memory(what: &str, held: Memory, budget: Option<Budget>) -> [Row; 2] {
    let row = |kind: &str, bytes, budget| {
        row(&format!("{what}: {kind}"), Some(megabytes(bytes)), Unit::Megabytes, budget)
    };
    [row("VmRSS", held.resident, budget), row("RssAnon", held.anonymous, None)]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 bytes, and shown in tenths of 1e6"
)]
const fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A line.
pub fn row(figure: &str, measured: Option<f64>, unit: Unit, budget: Option<Budget>) -> Row {
    Row { figure: figure.to_owned(), measured, unit, budget }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.3} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Ratio | Self::Count => format!("{value:.2}"),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 4] {
        let unit = self.unit;
        let show = |value| unit.show(value);
        let budget = self.budget.map(|budget| match budget {
            Budget::AtMost(limit) => format!("<= {}", show(limit)),
            Budget::AtLeast(limit) => format!(">= {}", show(limit)),
        });
        [
            self.figure.clone(),
            self.measured.map_or_else(|| "too short to tell".to_owned(), show),
            budget.unwrap_or_else(|| "-".to_owned()),
            self.verdict().to_owned(),
        ]
    }

    fn verdict(&self) -> &'static str {
        match (self.measured, self.budget) {
            (Some(measured), Some(Budget::AtMost(limit))) if measured <= limit => "ok",
            (Some(measured), Some(Budget::AtLeast(limit))) if measured >= limit => "ok",
            (Some(_), Some(_)) => "over",
            _ => "n/a",
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cells: Vec<[String; 4]> = self.0.iter().map(Row::cells).collect();
        markdown(f, ["figure", "measured", "budget", "verdict"], &cells)
    }
}

/// Writes a table: the first column is words, all others are figures.
pub fn markdown<const N: usize>(
    f: &mut Formatter<'_>,
    head: [&str; N],
    cells: &[[String; N]],
) -> fmt::Result {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for line in cells.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |f: &mut Formatter<'_>, cells: &[String; N]| {
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            match at {
                0 => write!(f, "| {cell:<width$} |")?,
                _ => write!(f, " {cell:>width$} |")?,
            }
        }
        writeln!(f)
    };
    line(f, &head)?;
    for (at, width) in widths.into_iter().enumerate() {
        let dashes = "-".repeat(width + 1);
        match at {
            0 => write!(f, "|{dashes}-|")?,
            _ => write!(f, "{dashes}:|")?,
        }
    }
    writeln!(f)?;
    cells.iter().try_for_each(|cells| line(f, cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_told_is_not_judged() {
        let row = row("x", None, Unit::PerSecond, Some(Budget::AtLeast(1.0)));
        assert_eq!(row.cells(), ["x", "too short to tell", ">= 1 /s", "n/a"].map(str::to_owned));
    }
}
