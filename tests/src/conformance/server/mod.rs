//! The conformance fixture: an MCP server with every tool, resource and prompt that the official suite's server scenarios
//! ask for, in both eras, over HTTP and over standard streams.
//!
//! It turns what the suite asks into what the suite wants to see, and has no other purpose: what fails in front of it, and
//! not here, is the fault of what stands between. It must not know Patchbay.

mod asking;
mod content;
mod handler;
mod input_required;
mod multi_round;
mod prompts;
mod resources;
mod running;
mod subscriptions;
mod tasks;

use axum::{
    Router,
    body::Bytes,
    routing::{get, post},
};
use multi_round::Sealed;
use rmcp::{
    ServiceExt as _,
    handler::server::router::tool::ToolRouter,
    model::{CallToolResult, ContentBlock},
    task_manager::TaskManager,
    transport::{
        io::stdio_pipes,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};
use std::sync::Arc;
use subscriptions::Changes;

/// One session's (or one request's) handler; all that are cloned from one share tasks and changes.
#[derive(Clone)]
pub struct Conformant {
    tools: ToolRouter<Self>,
    tasks: TaskManager,
    changes: Changes,
    sealed: Sealed,
}

impl Default for Conformant {
    fn default() -> Self {
        Self {
            tools: Self::content_tools()
                + Self::running_tools()
                + Self::asking_tools()
                + Self::input_required_tools()
                + Self::multi_round_tools()
                + Self::task_tools()
                + Self::subscription_tools(),
            tasks: TaskManager::default(),
            changes: Changes::default(),
            sealed: Sealed::default(),
        }
    }
}

/// The fixture's routes: MCP in both eras on `/mcp`, `GET /healthz`, and `POST /mcp/raw`, which answers with the body that
/// came: what MCP's SDKs no longer read can still be seen to arrive.
///
/// A `Host` that is no loopback name is refused: the suite wants it of servers on loopback. A stream on which nothing
/// happens is silent: what keeps it open on its way has to do so of its own.
pub fn router() -> Router {
    let server = Conformant::default();
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default().with_sse_keep_alive(None),
    );
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/mcp/raw", post(async |body: Bytes| body))
        .nest_service("/mcp", mcp)
}

/// Serves the client at the other end of the standard streams until it closes them.
pub async fn serve_stdio() -> anyhow::Result<()> {
    Conformant::default().serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}

/// A tool's answer that is one text.
fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}
