//! The definitions in `crds/yaml/` are those that the types make, and there are no others.

use patchbay_crds::schema;
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
