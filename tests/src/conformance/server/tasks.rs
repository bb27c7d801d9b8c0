//! Tools whose answers may come later (the extension of SEP-2663): the call is answered with a task, which is asked for,
//! fed and cancelled by requests of its own.

use super::{
    Conformant,
    input_required::{ask, elicit, field, said},
    text,
};
use rmcp::{
    ErrorData, RoleServer,
    handler::server::{tool::InputResponses, wrapper::Parameters},
    model::{
        CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult,
        JsonObject,
    },
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskOptions},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::{future::Future, time::Duration};

/// Arguments of `greet`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Name {
    name: String,
}

/// Arguments of `slow_compute`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Work {
    /// How long it takes.
    #[serde(default)]
    seconds: f64,
    /// Said with the answer.
    #[serde(default)]
    label: String,
}

/// Arguments of `confirm_delete`.
#[derive(Debug, Deserialize, JsonSchema)]
struct File {
    filename: String,
}

#[tool_router(router = task_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Greets at once, and is never a task.")]
    async fn greet(&self, Parameters(Name { name }): Parameters<Name>) -> CallToolResult {
        text(format!("Hello, {name}!"))
    }

    #[tool(description = "Takes its time: as a task where the client knows tasks.")]
    async fn slow_compute(
        &self,
        Parameters(Work { seconds, label }): Parameters<Work>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let time = Duration::try_from_secs_f64(seconds)
            .map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
        let done = text(format!("slow_compute({label}) done after {seconds}s"));
        if !knows_tasks(&context) {
            tokio::time::sleep(time).await;
            return Ok(done.into());
        }
        Ok(self.task(|task| async move {
            tokio::select! {
                () = task.cancelled() => Err(TaskExit::Cancelled),
                () = tokio::time::sleep(time) => Ok(done),
            }
        }))
    }

    #[tool(description = "Fails as a task, in the tool's own words.")]
    async fn failing_job(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        must_know_tasks(&context)?;
        Ok(self.task(|_| async {
            Ok(CallToolResult::error(vec![ContentBlock::text("This job fails, as it should")]))
        }))
    }

    #[tool(description = "Fails as the protocol has it.")]
    async fn protocol_error_job(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let failure = ErrorData::internal_error("This job breaks, as it should", None);
        if !knows_tasks(&context) {
            return Err(failure);
        }
        Ok(self.task(|_| async { Err(failure.into()) }))
    }

    #[tool(description = "Asks before it deletes; there is nothing to delete.")]
    async fn confirm_delete(
        &self,
        Parameters(File { filename }): Parameters<File>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        must_know_tasks(&context)?;
        let question = elicit(&format!("Delete {filename}?"), "confirm", "boolean")?;
        Ok(self.task(|task| async move {
            let answer = task.request_input("confirm", question).await?;
            let is_confirmed = answer["content"]["confirm"].as_bool() == Some(true);
            Ok(text(format!("{filename} is deleted: {is_confirmed}")))
        }))
    }

    #[tool(description = "Asks for two values at once, which may be answered one by one.")]
    async fn multi_input(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        must_know_tasks(&context)?;
        let first = elicit("Provide value A", "value", "string")?;
        let second = elicit("Provide value B", "value", "string")?;
        Ok(self.task(|task| async move {
            let (first, second) = tokio::try_join!(
                task.request_input("input-a", first),
                task.request_input("input-b", second),
            )?;
            let value = |answer: &Value| answer["content"]["value"].to_string();
            Ok(text(format!("The values are {} and {}", value(&first), value(&second))))
        }))
    }

    #[tool(description = "Asks for a name at once, and greets as a task.")]
    async fn test_tool_with_task(
        &self,
        InputResponses(responses): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        must_know_tasks(&context)?;
        let Some(answer) = said(responses.as_ref(), "user_name") else {
            return Ok(ask([("user_name", elicit("What is your name?", "name", "string")?)]).into());
        };
        let greeting = greeting(answer);
        Ok(self.task(|_| async { Ok(text(greeting)) }))
    }
}

impl Conformant {
    /// Answers with a task, and works on it.
    fn task<F>(&self, work: impl FnOnce(TaskContext) -> F) -> CallToolResponse
    where
        F: Future<Output = Result<CallToolResult, TaskExit>> + Send + 'static,
    {
        let task = self.tasks.spawn(TaskOptions::default(), |context| Box::pin(work(context)));
        CreateTaskResult::new(task).into()
    }
}

fn greeting(answer: &JsonObject) -> String {
    format!("Hello, {}!", field(answer, "name"))
}

fn knows_tasks(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().is_some_and(|can| can.supports_tasks())
}

/// For tools that can answer in no other way.
fn must_know_tasks(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if knows_tasks(context) {
        return Ok(());
    }
    let needed = ClientCapabilities::builder().enable_tasks().build();
    Err(ErrorData::missing_required_client_capability(needed))
}
