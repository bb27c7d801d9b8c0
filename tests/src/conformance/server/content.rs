//! Tools whose answers are of each kind that there is, and tools whose arguments have schemas that are easily lost.

use super::{Conformant, text};
use rmcp::{
    ErrorData,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, JsonObject, ResourceContents},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// A picture of one red pixel (PNG, base64).
pub(super) const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A sound of no sample (WAV, base64).
const SOUND: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// Arguments of `test_custom_header`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Custom {
    /// Said again in the header `Mcp-Param-Value`, where the client has read this schema.
    #[schemars(extend("x-mcp-header" = "Value"))]
    value: String,
}

/// Arguments of `json_schema_2020_12_tool`; its schema says more of them.
#[derive(Debug, Deserialize)]
struct Person {
    name: Option<String>,
}

#[tool_router(router = content_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Answers with a text.")]
    async fn test_simple_text(&self) -> CallToolResult {
        text("This is a simple text response for testing.")
    }

    #[tool(description = "Answers with a picture.")]
    async fn test_image_content(&self) -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::image(PICTURE, "image/png")])
    }

    #[tool(description = "Answers with a sound.")]
    async fn test_audio_content(&self) -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::audio(SOUND, "audio/wav")])
    }

    #[tool(description = "Answers with a resource.")]
    async fn test_embedded_resource(&self) -> CallToolResult {
        let uri = "test://embedded-resource";
        let resource = ResourceContents::text("This is an embedded resource content.", uri);
        CallToolResult::success(vec![ContentBlock::resource(resource)])
    }

    #[tool(description = "Answers with a text, a picture and a resource.")]
    async fn test_multiple_content_types(&self) -> CallToolResult {
        let data = json!({ "test": "data", "value": 123 }).to_string();
        let resource = ResourceContents::text(data, "test://mixed-content-resource");
        CallToolResult::success(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PICTURE, "image/png"),
            ContentBlock::resource(resource.with_mime_type("application/json")),
        ])
    }

    #[tool(description = "Fails, in the tool's own words.")]
    async fn test_error_handling(&self) -> CallToolResult {
        let said = "This tool intentionally returns an error for testing";
        CallToolResult::error(vec![ContentBlock::text(said)])
    }

    #[tool(description = "Answers with an argument that a header repeats.")]
    async fn test_custom_header(&self, Parameters(custom): Parameters<Custom>) -> CallToolResult {
        text(custom.value)
    }

    #[tool(
        description = "Has a schema with all that JSON Schema 2020-12 knows.",
        input_schema = rich_schema()
    )]
    async fn json_schema_2020_12_tool(
        &self,
        Parameters(person): Parameters<Person>,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(text(format!("Hello, {}!", person.name.as_deref().unwrap_or("stranger"))))
    }
}

/// A schema that uses what clients and proxies are known to lose.
fn rich_schema() -> JsonObject {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "address",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
        },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
        "if": { "required": ["address"] },
        "then": { "properties": { "address": { "required": ["street"] } } },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    });
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}
