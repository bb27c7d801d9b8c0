//! The examples in the documentation are read by the same code that reads a user's files, and what it promises of errors is
//! named by tests.

use anyhow::{Context, ensure};
use patchbay_core::routing::RouteTable;
use patchbay_crds::documents;
use patchbay_tests::repository::repository;
use std::{fs, path::Path, sync::Arc};

#[test]
fn every_yaml_example_in_the_documentation_is_a_valid_document() -> anyhow::Result<()> {
    let mut examples = 0;
    for entry in std::fs::read_dir(repository().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for yaml in text.split("```yaml\n").skip(1) {
            let (yaml, _) = yaml.split_once("```").context("an example without an end")?;
            let read = documents::parse(yaml, Path::new(&path)).and_then(|read| read.validate());
            let valid = read.map_err(|errors| anyhow::anyhow!("{errors:#?}"))?;
            let classes: Vec<_> = valid.classes.into_iter().map(Arc::new).collect();
            let providers: Vec<_> = valid.providers.into_iter().map(Arc::new).collect();
            if !classes.is_empty() {
                RouteTable::build(&classes, &providers)
                    .map_err(|errors| anyhow::anyhow!("{errors:#?}"))?;
            }
            examples += 1;
        }
    }
    ensure!(examples >= 3, "only {examples} examples were found");
    Ok(())
}

/// The words of the first column of the tables of errors.
fn reasons() -> anyhow::Result<Vec<String>> {
    let page = fs::read_to_string(repository().join("docs/reference/errors.md"))?;
    let reason = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    Ok(page.lines().filter_map(reason).collect())
}

/// Appends the text of every Rust file below a folder.
fn read_all(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Whether a test does what it says, nobody can tell by reading: this finds the word that no test of a whole gateway even
/// mentions. That each word is told where its error is, the gateway's own tests show.
#[test]
fn every_reason_of_the_reference_is_named_by_a_test_of_a_gateway() -> anyhow::Result<()> {
    let mut tests = String::new();
    // what two suites share is beside them
    for folder in ["tests/tests", "tests/src/quilt", "controller/gateway/tests"] {
        read_all(&repository().join(folder), &mut tests)?;
    }
    let reasons = reasons()?;
    ensure!(reasons.len() > 50, "only {} reasons were found", reasons.len());
    let is_named = |reason: &String| tests.contains(&format!("\"{reason}\""));
    let unnamed: Vec<_> = reasons.iter().filter(|reason| !is_named(reason)).collect();
    ensure!(unnamed.is_empty(), "no test names {unnamed:?}");
    Ok(())
}

/// A row that is shown by a test of another name is shown by nothing.
#[test]
fn every_test_that_the_security_page_names_is_there() -> anyhow::Result<()> {
    let mut sources = String::new();
    for folder in ["tests/tests", "controller", "worker"] {
        read_all(&repository().join(folder), &mut sources)?;
    }
    let page = fs::read_to_string(repository().join("docs/security.md"))?;
    let words = page.split('`').skip(1).step_by(2).map(|text| text.rsplit("::").next());
    // a sentence, and not a module
    let is_sentence = |name: &&str| name.matches('_').count() >= 3 && !name.contains([' ', '/']);
    let tests: Vec<_> = words.flatten().filter(is_sentence).collect();
    ensure!(tests.len() > 25, "only {} tests were found", tests.len());
    let missing: Vec<_> =
        tests.iter().filter(|test| !sources.contains(&format!("fn {test}("))).collect();
    ensure!(missing.is_empty(), "there is no {missing:?}");
    Ok(())
}
