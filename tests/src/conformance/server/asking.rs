//! Tools that ask the client before they answer, as sessions have it: by a request of the server's own on the stream of
//! the call.
#![expect(deprecated, reason = "the suite still asks for what 2026-07-28 deprecates")]

use super::{Conformant, text};
use rmcp::{
    ErrorData, RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, CreateMessageRequestParams, ElicitRequestParams, SamplingMessage},
    service::{Peer, RequestContext, ServiceError},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Tokens that a model may spend for a test.
const TOKENS: u32 = 100;

/// Arguments of `test_sampling`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Prompt {
    /// What the client's model is asked.
    prompt: String,
}

/// Arguments of `test_elicitation`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Message {
    /// What the user is asked.
    message: String,
}

#[tool_router(router = asking_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Asks the client's model.")]
    async fn test_sampling(
        &self,
        Parameters(Prompt { prompt }): Parameters<Prompt>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let asked =
            CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], TOKENS);
        let said = context.peer.create_message(asked).await.map_err(|error| unanswered(&error))?;
        let first = said.message.content.first().and_then(|content| content.as_text());
        Ok(text(format!("LLM response: {}", first.map_or("no text", |said| said.text.as_str()))))
    }

    #[tool(description = "Asks the user for a name and an address.")]
    async fn test_elicitation(
        &self,
        Parameters(Message { message }): Parameters<Message>,
        peer: Peer<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let schema = json!({
            "type": "object",
            "properties": {
                "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" },
            },
            "required": ["username", "email"],
        });
        Ok(text(format!("User response: {}", ask(&peer, &message, schema).await?)))
    }

    #[tool(description = "Asks the user for values that all have defaults (SEP-1034).")]
    async fn test_elicitation_sep1034_defaults(
        &self,
        peer: Peer<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "User name", "default": "John Doe" },
                "age": { "type": "integer", "description": "User age", "default": 30 },
                "score": { "type": "number", "description": "User score", "default": 95.5 },
                "status": {
                    "type": "string",
                    "description": "User status",
                    "enum": ["active", "inactive", "pending"],
                    "default": "active",
                },
                "verified": { "type": "boolean", "description": "Verified?", "default": true },
            },
        });
        let said = ask(&peer, "Please review what is filled in", schema).await?;
        Ok(text(format!("Elicitation completed: {said}")))
    }

    #[tool(description = "Asks the user to choose, in every form of a choice (SEP-1330).")]
    async fn test_elicitation_sep1330_enums(
        &self,
        peer: Peer<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let plain = json!(["option1", "option2", "option3"]);
        let titled = json!([
            { "const": "value1", "title": "First Option" },
            { "const": "value2", "title": "Second Option" },
            { "const": "value3", "title": "Third Option" },
        ]);
        let schema = json!({
            "type": "object",
            "properties": {
                "untitledSingle": { "type": "string", "enum": plain },
                "titledSingle": { "type": "string", "oneOf": titled },
                "legacyEnum": {
                    "type": "string",
                    "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"],
                },
                "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
                "titledMulti": { "type": "array", "items": { "anyOf": titled } },
            },
        });
        Ok(text(format!("Elicitation completed: {}", ask(&peer, "Please choose", schema).await?)))
    }
}

/// Asks the user to fill in a form; what they did, and what they filled in.
async fn ask(peer: &Peer<RoleServer>, message: &str, schema: Value) -> Result<String, ErrorData> {
    let requested_schema = serde_json::from_value(schema)
        .map_err(|error| ErrorData::internal_error(format!("no form: {error}"), None))?;
    let form = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema,
    };
    let said = peer.create_elicitation(form).await.map_err(|error| unanswered(&error))?;
    Ok(format!("action={}, content={}", json!(said.action), json!(said.content)))
}

fn unanswered(error: &ServiceError) -> ErrorData {
    ErrorData::internal_error(format!("the client did not answer what it was asked: {error}"), None)
}
