//! Shows an operator which pod this is: the pod's own service-account token, read anew each time, since it
//! is replaced while the worker lives. It must not know who asks; the route has seen to that.

use super::{
    answer::{Body, bare, secret_json},
    state::Worker,
};
use http::{Response, StatusCode};
use patchbay_core::{chain::Chain, link::Enrolment};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{fs::File, io::AsyncReadExt as _};
use zeroize::Zeroizing;

/// A token is one to two kilobytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// A token that cannot be shown. The texts never quote it.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("`{}` cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` holds no token", .0.display())]
    NoToken(PathBuf),
}

/// The answer; 404 where this worker has no token to show.
pub(crate) async fn enrol(worker: &Worker, token: Option<&Path>) -> Response<Body> {
    let Some(path) = token else {
        return bare(StatusCode::NOT_FOUND);
    };
    match read(path).await {
        Ok(token) => {
            let token = token.as_str().into();
            secret_json(StatusCode::OK, &Enrolment { token, phase: worker.status().phase })
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "an operator cannot be shown who this is");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn read(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let fail = |source| TokenError::Read { path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).await.map_err(fail)?;
    file.take(MAX_TOKEN_BYTES + 1).read_to_end(&mut bytes).await.map_err(fail)?;
    let text = str::from_utf8(&bytes).map(str::trim_ascii).unwrap_or_default();
    // a token has no other characters (RFC 7515, 7.1)
    let is_token = !text.is_empty()
        && bytes.len() as u64 <= MAX_TOKEN_BYTES
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    if is_token {
        Ok(Zeroizing::new(text.to_owned()))
    } else {
        Err(TokenError::NoToken(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::credentials::Credentials;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn the_token_is_the_files_of_this_moment_and_a_worker_without_one_has_nothing_to_show() {
        let worker = Worker::new(Credentials::Nothing);
        assert_eq!(enrol(&worker, None).await.status(), StatusCode::NOT_FOUND);
        let file = tempfile::NamedTempFile::new().unwrap();
        for token in ["first.token", "second_token"] {
            std::fs::write(file.path(), format!("{token}\n")).unwrap();
            let answer = enrol(&worker, Some(file.path())).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body, serde_json::json!({ "token": token, "phase": "warming" }));
        }
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_shown() {
        let worker = Worker::new(Credentials::Nothing);
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "\n", "two words", "a\"b", &"x".repeat(20_000)] {
            std::fs::write(file.path(), text).unwrap();
            let answer = enrol(&worker, Some(file.path())).await;
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{text}");
        }
        let missing = enrol(&worker, Some(Path::new("/nowhere/token"))).await;
        assert_eq!(missing.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
