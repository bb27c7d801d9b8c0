//! The command line of `patchbay gateway`. Doc comments here are what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use crate::{
    clients::ClientArgs,
    cluster::{ClusterArgs, duration},
};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Arguments of `patchbay gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "PATCHBAY_LISTEN")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    /// PEM file of the certificate by which workers know this gateway. It may come later, and is read
    /// again when it changes.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_LINK_CERT")]
    pub(crate) link_cert: PathBuf,
    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_LINK_KEY")]
    pub(crate) link_key: PathBuf,
    /// The root keys of sessions, as the operator keeps them (`--session-secret`): with them sessions outlive
    /// their worker. The file may come later, and is read again when it changes [default: none, and sessions
    /// end with their worker].
    #[arg(long, value_name = "FILE", env = "PATCHBAY_SESSION_KEYS")]
    pub(crate) session_keys: Option<PathBuf>,
    /// After SIGTERM, how long new connections are still taken, while /readyz says no: so long it may take
    /// until nobody is sent here.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) lame_duck: Duration,
    /// How long open requests and streams may go on after that. Together they must be shorter than the
    /// pod's terminationGracePeriodSeconds.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) drain: Duration,
}
