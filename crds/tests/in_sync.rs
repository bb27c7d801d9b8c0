//! The definitions in `crds/yaml/` are those that the types make, and there are no others; so is the reference.

use patchbay_crds::{reference, schema};
use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn the_generated_definitions_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let expected: BTreeMap<String, String> = patchbay_crds::all()
        .iter()
        .map(|crd| (schema::file_name(crd), schema::render(crd).unwrap()))
        .collect();
    let found: BTreeMap<String, String> = fs::read_dir(&folder)
        .expect("crds/yaml is missing; run: make crds")
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&found),
        names(&expected),
        "crds/yaml has other files than the kinds of this API; delete those of removed kinds and \
         run: make crds"
    );
    for (name, text) in &expected {
        assert!(found[name] == *text, "crds/yaml/{name} is stale; run: make crds");
    }
}

#[test]
fn the_reference_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/crds.md");
    let found = fs::read_to_string(path).expect("it is missing; run: make crds");
    let is_current = found == reference::markdown(&patchbay_crds::all());
    assert!(is_current, "docs/reference/crds.md is stale; run: make crds");
}
