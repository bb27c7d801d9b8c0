//! Writes `crds/yaml/`: one file per kind, from the types of this crate.
//!
//! `make crds` runs it; a test compares the folder with the types, so it is never needed at run
//! time.

use patchbay_crds::schema;
use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    fs::create_dir_all(&folder)?;
    for crd in patchbay_crds::all() {
        let path = folder.join(schema::file_name(&crd));
        fs::write(&path, schema::render(&crd)?)?;
    }
    Ok(())
}
