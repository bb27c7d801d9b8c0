//! The definitions in `crds/yaml/` are those that the types make, and there are no others; the chart has
//! the same, and the reference is of the same.

use patchbay_crds::{reference, schema};
use std::{collections::BTreeMap, fs, io, path::Path};

fn files_in(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, fs::read_to_string(entry.path())?))
        })
        .collect()
}

#[test]
fn the_generated_definitions_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let expected: BTreeMap<String, String> = patchbay_crds::all()
        .iter()
        .map(|crd| (schema::file_name(crd), schema::render(crd).unwrap()))
        .collect();
    let found = files_in(&folder).expect("crds/yaml is missing; run: make crds");
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

#[test]
fn the_chart_installs_the_same_definitions() {
    let crds = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chart = files_in(&crds.join("../charts/patchbay/crds-yaml"));
    // a package of a chart holds nothing from outside its folder, so the chart has a copy
    assert!(
        chart.expect("charts/patchbay/crds-yaml is missing; run: make crds")
            == files_in(&crds.join("yaml")).unwrap(),
        "charts/patchbay/crds-yaml differs from crds/yaml; run: make crds"
    );
}
