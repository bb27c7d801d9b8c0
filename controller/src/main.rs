//! Patchbay: one isolated MCP worker per user. This is the composition root: it builds the parts and
//! hands them to each other; the parts hold the logic.

mod admin;
mod api_key;
mod args;
mod ca;
mod certificates;
mod clients;
mod cluster;
mod contact;
mod counted;
mod doctor;
mod form;
mod gateway;
mod key_files;
mod local;
mod login;
mod operator;
mod probes;
mod session_keys;
mod telemetry;
mod tenant;
mod tenant_documents;
mod token_endpoint;
mod verify;
mod why;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // every TLS connection and every signature check of this process uses this one backend
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("patchbay: another crypto provider is installed in this process");
        return ExitCode::FAILURE;
    }
    if jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().is_err() {
        eprintln!("patchbay: another provider of token signatures is installed in this process");
        return ExitCode::FAILURE;
    }
    match args::Args::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("patchbay: {error:#}");
            ExitCode::FAILURE
        }
    }
}
