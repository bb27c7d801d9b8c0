//! Writes `crds/yaml/`, one file per kind, and `docs/reference/crds.md`, from the types of this crate.
//!
//! `make crds` runs it; a test compares what is there with the types, so it is never needed at run
//! time.

use patchbay_crds::{reference, schema};
use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("yaml");
    fs::create_dir_all(&folder)?;
    for crd in patchbay_crds::all() {
        let path = folder.join(schema::file_name(&crd));
        fs::write(&path, schema::render(&crd)?)?;
    }
    fs::write(here.join("../docs/reference/crds.md"), reference::markdown(&patchbay_crds::all()))?;
    Ok(())
}
