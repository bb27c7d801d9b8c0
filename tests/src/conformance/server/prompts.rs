//! Prompts, and completions of their arguments.

use super::{
    content::PICTURE,
    input_required::{ask, elicit, field, said},
};
use rmcp::{
    ErrorData,
    model::{
        ArgumentInfo, CompletionInfo, ContentBlock, GetPromptRequestParams, GetPromptResponse,
        GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, ResourceContents, Role,
    },
};
use serde_json::Value;

/// What an argument can be completed to.
const WORDS: [&str; 4] = ["paris", "park", "party", "test"];

/// All of them.
pub(super) fn list() -> Vec<Prompt> {
    let required = |name: &str, description: &str| {
        PromptArgument::new(name).with_description(description).with_required(true)
    };
    vec![
        Prompt::new("test_simple_prompt", Some("A prompt without arguments"), None),
        Prompt::new(
            "test_prompt_with_arguments",
            Some("A prompt that says its arguments"),
            Some(vec![
                required("arg1", "First test argument"),
                required("arg2", "Second test argument"),
            ]),
        ),
        Prompt::new(
            "test_prompt_with_embedded_resource",
            Some("A prompt with a resource in it"),
            Some(vec![required("resourceUri", "URI of the resource to embed")]),
        ),
        Prompt::new("test_prompt_with_image", Some("A prompt with a picture in it"), None),
        Prompt::new(
            "test_input_required_result_prompt",
            Some("A prompt that asks before it is given (SEP-2322)"),
            None,
        ),
    ]
}

/// The prompt that a request names, or what has to be asked for it.
///
/// # Errors
///
/// `-32602` where there is no such prompt, or an argument is missing.
pub(super) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name| argument(request.arguments.as_ref(), name);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![user("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![user(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let content = "Embedded resource content for testing.";
            let resource = ResourceContents::text(content, argument("resourceUri")?);
            vec![
                PromptMessage::new(Role::User, ContentBlock::resource(resource)),
                user("Please process the embedded resource above."),
            ]
        }
        "test_prompt_with_image" => vec![
            PromptMessage::new(Role::User, ContentBlock::image(PICTURE, "image/png")),
            user("Please analyze the image above."),
        ],
        "test_input_required_result_prompt" => {
            let Some(answer) = said(request.input_responses.as_ref(), "user_context") else {
                let question = elicit("What context should the prompt use?", "context", "string")?;
                return Ok(ask([("user_context", question)]).into());
            };
            vec![user(format!("Use this context: {}", field(answer, "context")))]
        }
        unknown => {
            return Err(ErrorData::invalid_params(format!("there is no prompt {unknown}"), None));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}

/// What a value that was begun can become.
///
/// # Errors
///
/// None in truth: there are fewer words than a completion may have.
pub(super) fn complete(argument: &ArgumentInfo) -> Result<CompletionInfo, ErrorData> {
    let begun = |word: &&str| word.starts_with(&argument.value);
    CompletionInfo::new(WORDS.into_iter().filter(begun).map(str::to_owned).collect())
        .map_err(|error| ErrorData::internal_error(error, None))
}

fn user(text: impl Into<String>) -> PromptMessage {
    PromptMessage::new_text(Role::User, text)
}

fn argument<'a>(arguments: Option<&'a JsonObject>, name: &str) -> Result<&'a str, ErrorData> {
    let argument = arguments.and_then(|arguments| arguments.get(name)).and_then(Value::as_str);
    argument.ok_or_else(|| ErrorData::invalid_params(format!("{name} must be a string"), None))
}
