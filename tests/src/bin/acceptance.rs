//! `make acceptance`: says of each promise whether it holds, from what a run of all tests printed; `make
//! acceptance-table` writes docs/acceptance.md.

use anyhow::Context;
use clap::{Parser, Subcommand};
use patchbay_tests::acceptance::{Judged, Outcomes, Table, judge};
use std::{fs, path::PathBuf, process::ExitCode};

/// Judges promises by the tests that show them.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print one line per promise, and what tests counted; fail if a promise is not kept
    Judge {
        /// What `cargo test` printed, in any number of runs
        #[arg(required = true)]
        printed: Vec<PathBuf>,
    },
    /// Print the promises and their tests as a document
    Table,
}

fn main() -> anyhow::Result<ExitCode> {
    let table = Table::of_this_repository()?;
    let printed = match Args::parse().what {
        What::Judge { printed } => printed,
        What::Table => {
            print!("{}", table.document());
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut outcomes = Outcomes::default();
    for path in printed {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        outcomes.read(&String::from_utf8_lossy(&bytes));
    }
    let judged = judge(&table, &outcomes);
    for judged in &judged {
        println!("{judged}");
    }
    for counted in outcomes.counted() {
        println!("     {counted}");
    }
    let kept = judged.iter().filter(|judged| judged.holds()).count();
    println!("{kept} of {} promises hold, by {} tests", judged.len(), outcomes.count());
    Ok(if judged.iter().all(Judged::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
