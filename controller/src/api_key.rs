//! `patchbay api-key`: a new key, printed once, and its digest for an `IdentityProvider`.

use crate::args::ApiKeyArgs;
use anyhow::ensure;
use jiff::Timestamp;
use patchbay_core::{
    digest::{Digest, random_bytes},
    provider::{API_KEY_PREFIX, api_key_id},
};
use std::io::Write;

/// Prints the key on stdout, and the entry to paste on stderr: `key=$(patchbay api-key ...)` works.
pub(crate) fn run(args: &ApiKeyArgs, now: Timestamp) -> anyhow::Result<()> {
    ensure!(!args.subject.trim().is_empty(), "--subject must not be empty");
    if let Some(end) = args.expires_at {
        // it would be answered `expired_credential` from its first use on
        ensure!(
            end > now,
            "--expires-at {end} has passed, it is {now:.0}: name a time to come, or leave it out for a key that never ends"
        );
    }
    let id = match &args.id {
        Some(id) => id.clone(),
        None => data_encoding::HEXLOWER.encode(&random_bytes::<6>()?),
    };
    let secret = data_encoding::BASE64URL_NOPAD.encode(&random_bytes::<32>()?);
    let key = format!("{API_KEY_PREFIX}{id}_{secret}");
    ensure!(
        api_key_id(&key) == Some(id.as_str()),
        "--id must be 1 to 32 lower-case letters and digits"
    );
    let mut entry = serde_json::Map::new();
    entry.insert("id".into(), id.into());
    entry.insert("subject".into(), args.subject.clone().into());
    entry.insert("digest".into(), format!("sha256:{}", Digest::of(key.as_bytes())).into());
    if let Some(end) = args.expires_at {
        entry.insert("expiresAt".into(), end.to_string().into());
    }
    // one line of JSON is also YAML, whatever the subject is made of
    let entry = serde_json::Value::Object(entry);
    eprintln!(
        "The key is shown this once. Its entry for `spec.apiKeys.keys` of an IdentityProvider:"
    );
    eprintln!("      - {entry}");
    writeln!(std::io::stdout(), "{key}")?;
    Ok(())
}
