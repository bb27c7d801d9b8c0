//! The table of promises (tests/acceptance.yaml), read and written as a document. It must not know what became of a
//! test.

use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Write as _};

/// All promises, in groups.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Table(Vec<Group>);

/// Promises of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What they are about.
    pub group: String,
    /// The promises.
    pub promises: Vec<Promise>,
}

/// One promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Its name, which stays.
    pub id: String,
    /// What is promised, as a sentence.
    pub promise: String,
    /// Names of the tests that show it, by suite.
    pub shown: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// Reads a table.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(serde_saphyr::from_str(text)?)
    }

    /// This repository's.
    pub fn of_this_repository() -> anyhow::Result<Self> {
        Self::parse(include_str!("../../acceptance.yaml"))
    }

    /// Every promise.
    pub fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.0.iter().flat_map(|group| &group.promises)
    }

    /// docs/acceptance.md.
    pub fn document(&self) -> String {
        let mut text = String::from(HEAD);
        for Group { group, promises } in &self.0 {
            let _ = write!(text, "\n## {group}\n\n| id | promise | shown by |\n|---|---|---|\n");
            for promise in promises {
                let tests: Vec<_> =
                    promise.tests().map(|(suite, test)| format!("`{suite} {test}`")).collect();
                let shown =
                    if tests.is_empty() { "nothing yet".into() } else { tests.join("<br>") };
                let _ = writeln!(text, "| {} | {} | {shown} |", promise.id, promise.promise);
            }
        }
        text
    }
}

const HEAD: &str = "\
# What is promised, and the tests that show it

Made from `tests/acceptance.yaml`. `make acceptance` runs every test, on this machine and on a cluster made for it, and says of
each promise whether it holds. A promise without a test is not kept yet.
";

impl Promise {
    /// The tests that show it: suite and name.
    pub fn tests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shown
            .iter()
            .flat_map(|(suite, tests)| tests.iter().map(|test| (suite.as_str(), test.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::repository;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn the_document_is_the_tables() {
        let path = repository().join("docs/acceptance.md");
        let document = Table::of_this_repository().unwrap().document();
        let is_same = fs::read_to_string(path).is_ok_and(|written| written == document);
        assert!(is_same, "run `make acceptance-table`");
    }

    /// What was promised, and that nothing of it was taken out of the table since.
    #[test]
    fn every_promise_is_there_once() {
        let families =
            [("ISO", 3), ("STL", 4), ("KEY", 7), ("JWT", 6), ("AWS", 5), ("PLT", 5), ("INV", 8)];
        let numbered = |(family, last)| (1..=last).map(move |number| format!("{family}-{number}"));
        let promised: Vec<String> = families.into_iter().flat_map(numbered).collect();
        let table = Table::of_this_repository().unwrap();
        let ids: Vec<_> = table.promises().map(|promise| promise.id.clone()).collect();
        assert_eq!(ids, promised);
    }

    #[test]
    fn every_test_that_is_named_is_there() {
        let table = Table::of_this_repository().unwrap();
        let missing: Vec<_> = table
            .promises()
            .flat_map(|promise| promise.tests().map(|test| (&promise.id, test)))
            .filter(|(_, (suite, test))| !is_there(suite, test))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    /// Whether a suite's sources hold a function of the test's name, in a file of the test's module.
    fn is_there(suite: &str, test: &str) -> bool {
        let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
        let function = format!("fn {name}(");
        let last = module.split("::").filter(|part| *part != "tests").last().unwrap_or_default();
        sources(suite).iter().any(|(path, text)| {
            let is_module = last.is_empty() || path.contains(&format!("/{last}"));
            is_module && text.contains(&function)
        })
    }

    const CRATES: [&str; 8] = [
        "tests",
        "worker",
        "crds",
        "controller/core",
        "controller/gateway",
        "controller/broker",
        "controller/orchestrator",
        "controller/operator",
    ];

    fn sources(suite: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for directory in CRATES {
            let place = repository().join(directory);
            let name = directory.trim_start_matches("controller/");
            if suite == format!("patchbay_{name}") {
                read(&place.join("src"), &mut found);
            }
            read(&place.join("tests").join(suite), &mut found);
            let file = place.join("tests").join(format!("{suite}.rs"));
            found.extend(fs::read_to_string(&file).map(|text| (file.display().to_string(), text)));
        }
        found
    }

    fn read(directory: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, into);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                into.push((path.display().to_string(), text));
            }
        }
    }
}
