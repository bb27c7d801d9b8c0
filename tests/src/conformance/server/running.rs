//! Tools that say something while they run: how far they are, and what they do.
#![expect(deprecated, reason = "the suite still asks for what 2026-07-28 deprecates")]

use super::{Conformant, text};
use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolResult, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
        ProtocolVersion,
    },
    service::{RequestContext, ServiceError},
    tool, tool_router,
};
use serde_json::json;
use std::time::Duration;

/// Between two things that are said: long enough that whoever holds them back shows it.
const PACE: Duration = Duration::from_millis(50);

#[tool_router(router = running_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Says what it does, three times.")]
    async fn test_tool_with_logging(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            log(&context, said).await?;
            tokio::time::sleep(PACE).await;
        }
        Ok(text("Logging test completed"))
    }

    #[tool(description = "Says what it does where the request wants to know.")]
    async fn test_logging_tool(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        log(&context, "This request wants to know").await?;
        Ok(text("Logging tool completed"))
    }

    #[tool(description = "Says how far it is: at its start, half way, at its end.")]
    async fn test_tool_with_progress(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let token = context.meta.get_progress_token();
        for done in [0.0, 50.0, 100.0] {
            if let Some(token) = &token {
                let said = ProgressNotificationParam::new(token.clone(), done)
                    .with_total(100.0)
                    .with_message(format!("Completed step {done} of 100"));
                context.peer.notify_progress(said).await.map_err(|error| unheard(&error))?;
            }
            tokio::time::sleep(PACE).await;
        }
        Ok(text("Progress test completed"))
    }

    #[tool(description = "Takes its time, so that a client can come back for the answer.")]
    async fn test_reconnection(&self) -> CallToolResult {
        tokio::time::sleep(2 * PACE).await;
        text("Reconnection test completed")
    }
}

/// Says something at the level that the request asks for; in a session, of which nothing may have asked, as information.
/// A request of 2026-07-28 that names no level is told nothing (SEP-2575).
async fn log(context: &RequestContext<RoleServer>, said: &str) -> Result<(), ErrorData> {
    let is_modern =
        context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    let level = match context.meta.log_level() {
        Some(level) => level,
        None if is_modern => return Ok(()),
        None => LoggingLevel::Info,
    };
    let said = LoggingMessageNotificationParam::new(level, json!(said)).with_logger("conformance");
    context.peer.notify_logging_message(said).await.map_err(|error| unheard(&error))
}

/// A client that is not there any more has no answer either.
fn unheard(error: &ServiceError) -> ErrorData {
    ErrorData::internal_error(format!("the client does not hear this call: {error}"), None)
}
