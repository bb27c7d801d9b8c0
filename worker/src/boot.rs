//! Reads a boot document: one bounded JSON text, from a descriptor or a file, into the types of
//! `patchbay_core::boot`. It must not know what the documents say.

use crate::inherited::{self, InheritedError};
use patchbay_core::boot::MAX_BOOT_BYTES;
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

/// Where a boot document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootSource {
    /// An inherited descriptor, read to its end and closed.
    Fd(i32),
    /// A file.
    File(PathBuf),
}

/// A boot document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("descriptor {fd} cannot be read")]
    Descriptor {
        fd: i32,
        #[source]
        source: InheritedError,
    },
    #[error("`{}` cannot be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading failed")]
    Read(#[source] io::Error),
    #[error("it is longer than {MAX_BOOT_BYTES} bytes")]
    TooLong,
    #[error("it is not a valid boot document of this part")]
    Invalid(#[source] serde_json::Error),
}

/// Reads the boot document at `source`.
pub(crate) fn read<T: DeserializeOwned>(source: BootSource) -> Result<T, BootError> {
    match source {
        BootSource::Fd(fd) => {
            let file =
                inherited::reader(fd).map_err(|source| BootError::Descriptor { fd, source })?;
            parse(file)
        }
        BootSource::File(path) => {
            let file = File::open(&path).map_err(|source| BootError::Open { path, source })?;
            parse(file)
        }
    }
}

fn parse<T: DeserializeOwned>(reader: impl Read) -> Result<T, BootError> {
    let mut text = Vec::new();
    // one byte over the limit tells "too long" from "exactly as long as allowed"
    reader.take(MAX_BOOT_BYTES + 1).read_to_end(&mut text).map_err(BootError::Read)?;
    if text.len() as u64 > MAX_BOOT_BYTES {
        return Err(BootError::TooLong);
    }
    serde_json::from_slice(&text).map_err(BootError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::boot::HostBoot;

    #[test]
    fn a_document_over_the_limit_is_refused_before_it_is_parsed() {
        let fits = vec![b' '; usize::try_from(MAX_BOOT_BYTES).unwrap()];
        assert!(matches!(parse::<HostBoot>(&fits[..]), Err(BootError::Invalid(_))));
        let endless = io::repeat(b' ');
        assert!(matches!(parse::<HostBoot>(endless), Err(BootError::TooLong)));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = parse::<HostBoot>(&br#"{"command":[],"secret":"x"}"#[..]).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("unknown field `secret`"), "{source}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let source = BootSource::File("/nowhere/boot.json".into());
        let error = read::<HostBoot>(source).unwrap_err();
        assert_eq!(error.to_string(), "`/nowhere/boot.json` cannot be opened");
    }
}
