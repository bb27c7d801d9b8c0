//! A fixture's routes on a port of this machine, until the program ends. It must not know what they answer.

use anyhow::Context;
use axum::{Router, serve::ListenerExt as _};
use std::{io::Write, net::Ipv4Addr};

/// Serves on this port of 127.0.0.1, 0 for a free one, and says `listening on ADDRESS` on standard output once it does.
///
/// # Errors
///
/// If the port cannot be had, or standard output is gone.
pub async fn serve(port: u16, routes: Router) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    // answers are streams of small chunks, which must not wait for each other
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("a connection went away at once: {error}");
        }
    });
    axum::serve(listener, routes).await?;
    Ok(())
}
