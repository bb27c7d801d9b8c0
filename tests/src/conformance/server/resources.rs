//! What can be read: a text, bytes, and whatever a template makes of an id.

use super::content::PICTURE;
use rmcp::{
    ErrorData,
    model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::json;

const TEXT: &str = "test://static-text";
const BYTES: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";
/// A template's URI, before and behind the id.
const TEMPLATE: (&str, &str) = ("test://template/", "/data");

/// All of them, save what the template makes.
pub(super) fn list() -> Vec<Resource> {
    vec![
        Resource::new(TEXT, "static-text")
            .with_description("A text that does not change")
            .with_mime_type("text/plain"),
        Resource::new(BYTES, "static-binary")
            .with_description("A picture that does not change")
            .with_mime_type("image/png"),
        Resource::new(WATCHED, "watched-resource")
            .with_description("A text that can be watched; it does not change either")
            .with_mime_type("text/plain"),
    ]
}

/// The one template.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let (before, behind) = TEMPLATE;
    vec![
        ResourceTemplate::new(format!("{before}{{id}}{behind}"), "template")
            .with_description("Data of an id")
            .with_mime_type("application/json"),
    ]
}

/// What a URI names.
///
/// # Errors
///
/// `-32002` in sessions and `-32602` since 2026-07-28 (SEP-2164), with the URI, where it names nothing.
pub(super) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri),
        BYTES => ResourceContents::blob(PICTURE, uri).with_mime_type("image/png"),
        WATCHED => ResourceContents::text("Nothing has changed.", uri),
        _ => {
            let (before, behind) = TEMPLATE;
            let id = uri.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            let id = id.ok_or_else(|| unknown(uri))?;
            let data =
                json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

fn unknown(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(
        format!("there is no resource {uri}"),
        Some(json!({ "uri": uri })),
    )
}
