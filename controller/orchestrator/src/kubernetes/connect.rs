//! A client of the API server that never waits for ever and never repeats a write by itself.

use kube::{Client, Config};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take to be sent.
const SEND: Duration = Duration::from_secs(10);
/// How long a watch lasts, seconds: then the API server ends it, and the next one begins where it was.
pub(super) const WATCH_SECONDS: u32 = 60;
/// How long a connection may be silent: a watch hears at least of its end.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 20);

/// A client with this configuration, which says where the API server is and who asks.
///
/// The library would send a request again where the API server is busy. For a claim the second one is not the
/// first: what became of that must be read before.
pub fn connect(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(SEND);
    config.read_timeout = Some(SILENCE);
    // counted from a request, not from when its connection was last of use
    config.reset_reader_on_write = true;
    Client::try_from(config)
}
