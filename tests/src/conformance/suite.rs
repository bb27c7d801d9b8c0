//! One run of the official suite against a server: its command line, and what it counted. It must not know what stands
//! between.

use crate::{fed::fed, repository::made_by};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path, time::Duration};
use tokio::process::Command;

/// A run takes five seconds on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_mins(5);

const PROGRAM: &str = "node_modules/@modelcontextprotocol/conformance/dist/index.js";

/// A revision of the protocol, with the scenarios that the suite has frozen for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// With sessions.
    Legacy,
    /// Without.
    Modern,
}

/// Checks that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they should.
    pub passed: u32,
    /// Not.
    pub failed: u32,
}

/// What a run found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By scenario, those too that the suite runs and does not score.
    pub scenarios: BTreeMap<String, Counts>,
    /// As the suite adds them up.
    pub total: Counts,
    /// What it says of the checks that failed.
    pub complaints: Vec<String>,
}

impl Revision {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Modern];

    /// As the protocol calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.passed, self.failed)
    }
}

impl Report {
    /// The scenarios in which this run found another number than `other` did.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.scenarios.keys().chain(other.scenarios.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        let counts = |report: &Self, name: &str| {
            report.scenarios.get(name).map_or_else(|| "not run".to_owned(), Counts::to_string)
        };
        let differ = |name: &&String| self.scenarios.get(*name) != other.scenarios.get(*name);
        let differing = names.into_iter().filter(differ);
        differing
            .map(|name| format!("{name}: {}, not {}", counts(self, name), counts(other, name)))
            .collect()
    }
}

/// Runs all server scenarios of a revision, on its wire, against the server at `url`.
///
/// # Errors
///
/// If the suite does not come to an end. Checks that fail are in the report.
pub async fn run(url: &str, revision: Revision) -> anyhow::Result<Report> {
    let environment = made_by("node-env", &["conformance"]).await?;
    let home = tempfile::tempdir()?;
    let results = home.path().join("results");
    let mut command = Command::new(environment.join("node"));
    command
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .arg(environment.join(PROGRAM))
        .args(["server", "--url", url, "--requirements", revision.name(), "-o"])
        .arg(&results);
    // its exit code speaks of scored scenarios alone
    let output = fed(command, "", LIMIT).await?;
    let said = String::from_utf8(output.stdout)?;
    let read = summary(&said);
    let (scenarios, total) = read.with_context(|| {
        format!("the suite found nothing: {said}{}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(Report { scenarios, total, complaints: complaints(&results)? })
}

type Summary = (BTreeMap<String, Counts>, Counts);

/// Reads what the suite prints last: a line for each scenario, then their sum.
fn summary(said: &str) -> anyhow::Result<Summary> {
    let (_, summary) = said.rsplit_once("=== SUMMARY ===").context("no summary")?;
    let mut scenarios = BTreeMap::new();
    for line in summary.lines() {
        if let Some(total) = line.strip_prefix("Total: ") {
            let total = counts(total).with_context(|| format!("no counts: {line}"))?;
            let sum = scenarios.values().fold(Counts::default(), |sum, counts: &Counts| Counts {
                passed: sum.passed + counts.passed,
                failed: sum.failed + counts.failed,
            });
            ensure!(sum == total, "its sum is {total}, and that of its lines {sum}");
            return Ok((scenarios, total));
        }
        let Some(scenario) = line.strip_prefix("✓ ").or_else(|| line.strip_prefix("✗ ")) else {
            continue;
        };
        let (name, scenario) = scenario.split_once(": ").context("a scenario without counts")?;
        let counts = counts(scenario).with_context(|| format!("no counts: {line}"))?;
        scenarios.insert(name.to_owned(), counts);
    }
    anyhow::bail!("no sum")
}

/// Reads `2 passed, 0 failed`.
fn counts(said: &str) -> Option<Counts> {
    let (passed, failed) = said.trim_end().strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// A check, as the suite writes it down.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    id: String,
    status: String,
    #[serde(default)]
    error_message: String,
}

fn complaints(results: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for scenario in fs::read_dir(results).context("the suite wrote no results")? {
        let scenario = scenario?;
        let checks = fs::read(scenario.path().join("checks.json"))?;
        let checks: Vec<Check> = serde_json::from_slice(&checks)?;
        let failed = checks.into_iter().filter(|check| check.status == "FAILURE");
        let name = scenario.file_name().to_string_lossy().into_owned();
        complaints
            .extend(failed.map(|check| format!("{name}: {}: {}", check.id, check.error_message)));
    }
    complaints.sort();
    Ok(complaints)
}

/// What a server that has all of it reaches with the release of the suite that is locked.
pub const fn all(revision: Revision) -> Counts {
    match revision {
        Revision::Legacy => Counts { passed: 83, failed: 0 },
        Revision::Modern => Counts { passed: 197, failed: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Checks:\n2026 [a] SUCCESS\n\n\n=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ \
                        caching: 3 passed, 1 failed\n\nTotal: 5 passed, 1 failed\n\nNot scored for \
                        2026-07-28: 1 scenario(s) run, 0 failing.\n  ✓ tasks-lifecycle (extension)\n";

    #[test]
    fn what_the_suite_prints_last_is_read() {
        let (scenarios, total) = summary(SAID).unwrap();
        assert_eq!(total, Counts { passed: 5, failed: 1 });
        assert_eq!(scenarios["caching"].to_string(), "3/1");
        assert_eq!(scenarios.len(), 2);
    }

    #[test]
    fn a_run_that_was_cut_short_has_found_nothing() {
        for said in [
            "",
            "=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n",
            &SAID.replace("Total: 5", "Total: 6"),
            &SAID.replace("2 passed", "two passed"),
        ] {
            assert!(summary(said).is_err(), "{said}");
        }
    }

    #[test]
    fn two_runs_differ_where_one_found_another_number_or_nothing() {
        let report = |scenarios: &[(&str, u32)]| Report {
            scenarios: scenarios
                .iter()
                .map(|(name, passed)| ((*name).to_owned(), Counts { passed: *passed, failed: 0 }))
                .collect(),
            ..Report::default()
        };
        let (one, other) = (report(&[("a", 1), ("b", 2)]), report(&[("a", 1), ("b", 3), ("c", 4)]));
        assert_eq!(one.differences(&other), ["b: 2/0, not 3/0", "c: not run, not 4/0"]);
        assert!(one.differences(&one).is_empty());
    }
}
