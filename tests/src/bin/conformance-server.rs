//! The conformance fixture as a program: it serves `/mcp` and `/healthz` on `127.0.0.1:$PORT`, or, with `--stdio`, the
//! client that started it.
//!
//! Over HTTP it says `listening on ADDRESS` on standard output when it is ready; port 0 picks a free one.

use anyhow::Context;
use axum::serve::ListenerExt as _;
use clap::Parser;
use patchbay_tests::conformance::server;
use std::{io::Write, net::Ipv4Addr};

/// An MCP server with all that the official conformance suite asks for.
#[derive(Debug, Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Speak over standard input and output instead.
    #[arg(long)]
    stdio: bool,
}

// One thread: a fixture is to weigh little.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { port, stdio } = Args::parse();
    if stdio {
        return server::serve_stdio().await;
    }
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
    axum::serve(listener, server::router()).await?;
    Ok(())
}
