//! The examples in the documentation are read by the same code that reads a user's files.

use anyhow::{Context, ensure};
use patchbay_core::routing::RouteTable;
use patchbay_crds::documents;
use patchbay_tests::repository::repository;
use std::{path::Path, sync::Arc};

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
