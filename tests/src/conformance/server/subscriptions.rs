//! Changes of what the server offers, as tools pretend them, and who listens to them.

use super::{Conformant, text};
use rmcp::{
    ErrorData,
    model::{CallToolResult, SubscriptionFilter},
    service::{SubscriptionContext, SubscriptionSendError},
    tool, tool_router,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Changes that a listener may be behind with.
const BACKLOG: usize = 64;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Tools,
    Prompts,
}

/// Tells all who listen.
#[derive(Debug, Clone)]
pub(super) struct Changes(broadcast::Sender<Change>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Changes {
    fn tell(&self, change: Change) {
        // nobody may be listening
        let _ = self.0.send(change);
    }

    /// Tells one listener of every change that it wants to know of, until it is gone.
    pub(super) async fn listen(&self, listener: &SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.0.subscribe();
        loop {
            let change = tokio::select! {
                () = listener.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            match change {
                Ok(change) if wants(listener.accepted(), change) => {
                    told(listener, change).await.map_err(unheard)?;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    return Err(unheard(format!("it is {missed} changes behind")));
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

#[tool_router(router = subscription_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Tells all who listen that the tools have changed.")]
    async fn test_trigger_tool_change(&self) -> CallToolResult {
        self.changes.tell(Change::Tools);
        text("All who listen to tools were told")
    }

    #[tool(description = "Tells all who listen that the prompts have changed.")]
    async fn test_trigger_prompt_change(&self) -> CallToolResult {
        self.changes.tell(Change::Prompts);
        text("All who listen to prompts were told")
    }
}

fn wants(accepted: &SubscriptionFilter, change: Change) -> bool {
    let wanted = match change {
        Change::Tools => accepted.tools_list_changed,
        Change::Prompts => accepted.prompts_list_changed,
    };
    wanted == Some(true)
}

async fn told(listener: &SubscriptionContext, change: Change) -> Result<(), SubscriptionSendError> {
    match change {
        Change::Tools => listener.sink().notify_tool_list_changed().await,
        Change::Prompts => listener.sink().notify_prompt_list_changed().await,
    }
}

fn unheard(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(format!("the listener does not hear of changes: {error}"), None)
}
