//! The conformance fixture as a program: it serves `/mcp` and `/healthz` on `127.0.0.1:$PORT`, or, with `--stdio`, the
//! client that started it.
//!
//! Over HTTP it says `listening on ADDRESS` on standard output when it is ready; port 0 picks a free one.

use clap::Parser;
use patchbay_tests::{conformance::server, listening};

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
    listening::serve(port, server::router()).await
}
