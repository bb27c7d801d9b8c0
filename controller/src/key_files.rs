//! Keys of providers in files of this machine: `<directory>/<name of the Secret>/<key of the entry>`.
//!
//! It must not know tokens.

use async_trait::async_trait;
use patchbay_core::provider::SecretEntry;
use patchbay_gateway::authn::{KeySetSource, MAX_KEY_SET_BYTES, NamedKeys};
use secrecy::SecretSlice;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, Error},
};

/// How often a file is looked at, as those of certificates are.
const LOOK: Duration = Duration::from_secs(5);

/// The files below one directory.
pub(crate) struct KeyFiles(pub(crate) PathBuf);

impl NamedKeys for KeyFiles {
    fn source(&self, entry: &SecretEntry) -> Arc<dyn KeySetSource> {
        Arc::new(KeyFile(self.0.join(&entry.name).join(&entry.key)))
    }
}

struct KeyFile(PathBuf);

#[async_trait]
impl KeySetSource for KeyFile {
    async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
        let path = self.0.display();
        let unreadable = |error: Error| format!("cannot read {path}: {error}");
        let file = File::open(&self.0).await.map_err(unreadable)?;
        let mut content = Vec::new();
        // one byte more than is allowed, so that more is noticed
        let most = MAX_KEY_SET_BYTES as u64 + 1;
        file.take(most).read_to_end(&mut content).await.map_err(unreadable)?;
        let content = SecretSlice::from(content);
        if secrecy::ExposeSecret::expose_secret(&content).len() > MAX_KEY_SET_BYTES {
            return Err(format!("{path} is longer than {MAX_KEY_SET_BYTES} bytes"));
        }
        Ok(content)
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[tokio::test]
    async fn an_entry_is_a_file_in_the_folder_of_its_secret() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("keys")).unwrap();
        std::fs::write(directory.path().join("keys/k"), b"bytes\n").unwrap();
        std::fs::write(directory.path().join("keys/long"), vec![0; MAX_KEY_SET_BYTES + 1]).unwrap();
        let files = KeyFiles(directory.path().to_owned());
        let read = async |key: &str| {
            files.source(&SecretEntry { name: "keys".into(), key: key.into() }).key_set().await
        };
        assert_eq!(read("k").await.unwrap().expose_secret(), b"bytes\n");
        assert!(read("long").await.err().unwrap().contains("longer than"));
        assert!(read("absent").await.err().unwrap().contains("keys/absent"));
    }
}
