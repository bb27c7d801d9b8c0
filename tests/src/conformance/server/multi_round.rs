//! Tools that ask in rounds, and keep where they are in what the client carries for them: sealed, since a client can put
//! anything there (SEP-2322).

use super::{
    Conformant,
    input_required::{ask, elicit, roots, said, sample},
    text,
};
use rmcp::{
    ErrorData,
    handler::server::tool::{InputResponses, RequestState},
    model::{CallToolResponse, InputRequest, RequestStateCodec},
    tool, tool_router,
};
use serde::{Deserialize, Serialize};

/// Longer than the 32 bytes that it must have. No secret: it seals nothing but a test's rounds, in a server that anybody
/// may read.
const KEY: &[u8] = b"the conformance fixture seals its rounds with this";

/// Seals rounds, and opens what was sealed.
#[derive(Clone)]
pub(super) struct Sealed(RequestStateCodec);

/// Where a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    answered: u8,
}

impl Default for Sealed {
    fn default() -> Self {
        Self(RequestStateCodec::new_unchecked(KEY))
    }
}

impl Sealed {
    fn seal(&self, answered: u8) -> Result<String, ErrorData> {
        self.0
            .seal_json(&Round { answered })
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// How many rounds were answered: none before the first.
    fn open(&self, state: Option<&str>) -> Result<u8, ErrorData> {
        let Some(state) = state else { return Ok(0) };
        let round: Round = self
            .0
            .open_json(state)
            .map_err(|_| ErrorData::invalid_params("requestState is not what was sent", None))?;
        Ok(round.answered)
    }

    /// Asks, and keeps that `answered` rounds will have been.
    fn ask<'a>(
        &self,
        answered: u8,
        questions: impl IntoIterator<Item = (&'a str, InputRequest)>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut asked = ask(questions);
        asked.request_state = Some(self.seal(answered)?);
        Ok(asked.into())
    }
}

#[tool_router(router = multi_round_tools, vis = "pub(super)")]
impl Conformant {
    #[tool(description = "Asks once, and knows by its state that it did.")]
    async fn test_input_required_result_request_state(
        &self,
        RequestState(state): RequestState,
    ) -> Result<CallToolResponse, ErrorData> {
        self.confirmed(state.as_deref())
    }

    #[tool(description = "Takes no state but its own.")]
    async fn test_input_required_result_tampered_state(
        &self,
        RequestState(state): RequestState,
    ) -> Result<CallToolResponse, ErrorData> {
        self.confirmed(state.as_deref())
    }

    #[tool(description = "Asks for everything at once.")]
    async fn test_input_required_result_multiple_inputs(
        &self,
        InputResponses(responses): InputResponses,
        RequestState(state): RequestState,
    ) -> Result<CallToolResponse, ErrorData> {
        let keys = ["user_name", "greeting", "client_roots"];
        let was_asked = self.sealed.open(state.as_deref())? > 0;
        if was_asked && keys.iter().all(|key| said(responses.as_ref(), key).is_some()) {
            return Ok(text("All of it was answered").into());
        }
        let questions = [
            elicit("What is your name?", "name", "string")?,
            sample("Generate a greeting")?,
            roots()?,
        ];
        self.sealed.ask(1, keys.into_iter().zip(questions))
    }

    #[tool(description = "Asks for a name, then for a colour.")]
    async fn test_input_required_result_multi_round(
        &self,
        RequestState(state): RequestState,
    ) -> Result<CallToolResponse, ErrorData> {
        match self.sealed.open(state.as_deref())? {
            0 => {
                let question = elicit("Step 1: What is your name?", "name", "string")?;
                self.sealed.ask(1, [("step1", question)])
            }
            1 => {
                let question = elicit("Step 2: What is your favorite color?", "color", "string")?;
                self.sealed.ask(2, [("step2", question)])
            }
            _ => Ok(text("Both rounds are over").into()),
        }
    }
}

impl Conformant {
    fn confirmed(&self, state: Option<&str>) -> Result<CallToolResponse, ErrorData> {
        if self.sealed.open(state)? == 0 {
            return self.sealed.ask(1, [("confirm", elicit("Please confirm", "ok", "boolean")?)]);
        }
        Ok(text("state-ok").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_comes_back_and_nothing_else_does() {
        let sealed = Sealed::default();
        assert_eq!(sealed.open(None), Ok(0));
        let state = sealed.seal(2).unwrap();
        assert_eq!(sealed.open(Some(&state)), Ok(2));
        for forged in [format!("{state}x"), "anything".to_owned(), String::new()] {
            assert!(sealed.open(Some(&forged)).is_err(), "{forged}");
        }
    }
}
