//! Arguments of `patchbay login`.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use std::path::PathBuf;

/// Arguments of `patchbay login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The catalog's origin: https://HOST[:PORT].
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) catalog: String,
    /// Its registry's origin [default: what the catalog's config.json says].
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) registry: Option<String>,
    /// The name of the new key, by which the catalog lists it.
    #[arg(long, default_value = "patchbay")]
    pub(crate) name: String,
    /// How long the new key is good, days.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub(crate) expires_in_days: u16,
    /// File with the login code [default: standard input]. It is no argument, which other users of this machine
    /// could read.
    #[arg(long, value_name = "FILE")]
    pub(crate) code_file: Option<PathBuf>,
    /// PEM file of certificates to trust besides the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}
