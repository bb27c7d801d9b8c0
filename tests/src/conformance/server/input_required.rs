//! Tools that ask before they answer, as 2026-07-28 has it: what is asked is the answer, and what was said comes with the
//! next call (SEP-2322).

use super::{Conformant, text};
use rmcp::{
    ErrorData, RoleServer,
    handler::server::tool::InputResponses,
    model::{
        self, CallToolResponse, CallToolResult, ClientCapabilities, InputRequest,
        InputRequiredResult, JsonObject,
    },
    service::RequestContext,
    tool, tool_router,
};
use serde_json::{Value, json};

#[tool_router(router = input_required_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Asks for a name, and greets.")]
    async fn test_input_required_result_elicitation(
        &self,
        InputResponses(responses): InputResponses,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(answer) = said(responses.as_ref(), "user_name") else {
            return Ok(ask([("user_name", elicit("What is your name?", "name", "string")?)]).into());
        };
        Ok(text(format!("Hello, {}!", field(answer, "name"))).into())
    }

    #[tool(description = "Asks the client's model, and repeats it.")]
    async fn test_input_required_result_sampling(
        &self,
        InputResponses(responses): InputResponses,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(answer) = said(responses.as_ref(), "capital_question") else {
            let question = sample("What is the capital of France?")?;
            return Ok(ask([("capital_question", question)]).into());
        };
        let words = answer.get("content").and_then(|content| content.get("text"));
        Ok(text(words.and_then(Value::as_str).unwrap_or("nothing was said")).into())
    }

    #[tool(description = "Asks for the client's roots, and names them.")]
    async fn test_input_required_result_list_roots(
        &self,
        InputResponses(responses): InputResponses,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(answer) = said(responses.as_ref(), "client_roots") else {
            return Ok(ask([("client_roots", roots()?)]).into());
        };
        let roots = answer.get("roots").and_then(Value::as_array).into_iter().flatten();
        let uris: Vec<&str> = roots.filter_map(|root| root["uri"].as_str()).collect();
        Ok(text(format!("Client roots: {}", uris.join(", "))).into())
    }

    #[tool(description = "Asks for what the client says that it can be asked for, and no more.")]
    async fn test_input_required_result_capabilities(
        &self,
        InputResponses(responses): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if responses.is_some() {
            return Ok(text("All that could be asked was answered").into());
        }
        let can = context.client_capabilities().unwrap_or_default();
        let mut asked = Vec::new();
        if can.elicitation.is_some() {
            asked.push(("user_name", elicit("What is your name?", "name", "string")?));
        }
        if can.sampling.is_some() {
            asked.push(("greeting", sample("Generate a greeting")?));
        }
        if can.roots.is_some() {
            asked.push(("client_roots", roots()?));
        }
        if asked.is_empty() {
            return Ok(text("The client can be asked for nothing").into());
        }
        Ok(ask(asked).into())
    }

    #[tool(description = "Asks, so that the stream of its call can be looked at.")]
    async fn test_streaming_elicitation(&self) -> Result<InputRequiredResult, ErrorData> {
        Ok(ask([("streaming_elicitation", elicit("Provide a value", "value", "string")?)]))
    }

    #[tool(description = "Needs a client that has a model.")]
    async fn test_missing_capability(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let can = context.client_capabilities().unwrap_or_default();
        if can.sampling.is_none() {
            #[expect(deprecated, reason = "the suite still asks for what 2026-07-28 deprecates")]
            let needed = ClientCapabilities::builder().enable_sampling().build();
            return Err(ErrorData::missing_required_client_capability(needed));
        }
        Ok(text("The client has a model"))
    }
}

/// An answer that asks, each question under its key.
pub(super) fn ask<'a>(
    questions: impl IntoIterator<Item = (&'a str, InputRequest)>,
) -> InputRequiredResult {
    let questions = questions.into_iter().map(|(key, question)| (key.to_owned(), question));
    InputRequiredResult::from_input_requests(questions.collect())
}

/// Asks the user for one field of a form.
pub(super) fn elicit(message: &str, field: &str, kind: &str) -> Result<InputRequest, ErrorData> {
    question(json!({
        "method": "elicitation/create",
        "params": {
            "mode": "form",
            "message": message,
            "requestedSchema": {
                "type": "object",
                "properties": { field: { "type": kind } },
                "required": [field],
            },
        },
    }))
}

/// Asks the client's model.
pub(super) fn sample(prompt: &str) -> Result<InputRequest, ErrorData> {
    question(json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": 100,
        },
    }))
}

/// Asks for the client's roots.
pub(super) fn roots() -> Result<InputRequest, ErrorData> {
    question(json!({ "method": "roots/list", "params": {} }))
}

fn question(question: Value) -> Result<InputRequest, ErrorData> {
    serde_json::from_value(question)
        .map_err(|error| ErrorData::internal_error(format!("no question: {error}"), None))
}

/// What was said to a question; none where it is no object, which is no answer: the question is asked again.
pub(super) fn said<'a>(
    responses: Option<&'a model::InputResponses>,
    key: &str,
) -> Option<&'a JsonObject> {
    responses?.get(key)?.as_object()
}

/// What the user filled in.
pub(super) fn field<'a>(answer: &'a JsonObject, name: &str) -> &'a str {
    let content = answer.get("content").and_then(|content| content.get(name));
    content.and_then(Value::as_str).unwrap_or("nobody")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_the_protocol_calls_one() {
        for (question, method) in [
            (elicit("Sure?", "ok", "boolean").unwrap(), "elicitation/create"),
            (sample("Hello?").unwrap(), "sampling/createMessage"),
            (roots().unwrap(), "roots/list"),
        ] {
            assert_eq!(json!(question)["method"], method);
        }
    }

    #[test]
    fn what_is_no_object_answers_nothing() {
        let responses = [("a".to_owned(), json!({})), ("b".to_owned(), json!(7))].into();
        assert!(said(Some(&responses), "a").is_some());
        assert!(said(Some(&responses), "b").is_none());
        assert!(said(Some(&responses), "c").is_none());
        assert!(said(None, "a").is_none());
    }
}
