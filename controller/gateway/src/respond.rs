//! The only place that turns errors into answers.
//!
//! Every error of the data path becomes a status, a JSON-RPC error in the range that the protocol leaves
//! to implementations (-32000 to -32019), and a stable `reason`. What a client may see is opt-in: each
//! text is written here or is an error type's that is made for clients. The gateway never answers a bare
//! 400, 404 or 405 on an MCP path: clients read those as statements about the server's protocol era.

use crate::{activate::ActivateError, authn::AuthnError, origin::NotForUs, waiting::QueueFull};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use patchbay_core::{
    grant::GrantError,
    orchestrator::{AssignRefusal, OfferError},
};
use serde_json::{Value, json, value::RawValue};

/// Why the gateway itself answers a request.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another host, or a foreign browser page.
    #[error(transparent)]
    NotForUs(#[from] NotForUs),
    /// Nobody is authenticated.
    #[error(transparent)]
    Authn(#[from] AuthnError),
    /// No class has this path.
    #[error("there is nothing at this path")]
    NoRoute,
    /// Too many headers, or too large.
    #[error(
        "the request's headers are too large: at most {count} headers of {bytes} bytes together"
    )]
    HeadersTooLarge {
        /// How many are allowed.
        count: usize,
        /// How large they may be together.
        bytes: usize,
    },
    /// The body is too large.
    #[error("the request body is too large: at most {0} bytes")]
    BodyTooLarge(u64),
    /// The client's own body failed; nobody may be there to read the answer.
    #[error("the request body did not arrive completely")]
    BodyIncomplete,
    /// Too many requests wait.
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    /// No worker for the user.
    #[error(transparent)]
    Activate(#[from] ActivateError),
    /// The worker is there but did not answer.
    #[error("the worker broke off; the request may or may not have had an effect")]
    WorkerBroke,
    /// The worker went away, and the request cannot be sent again.
    #[error("the worker is being replaced; send the request again")]
    WorkerReplaced,
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    status: StatusCode,
    code: i32,
    reason: &'static str,
    retry_after: Option<u32>,
}

const fn told(status: StatusCode, code: i32, reason: &'static str) -> Told {
    Told { status, code, reason, retry_after: None }
}

const fn told_retry(status: StatusCode, code: i32, reason: &'static str, after: u32) -> Told {
    Told { status, code, reason, retry_after: Some(after) }
}

impl Refusal {
    /// The stable word for this refusal, also a label of metrics.
    pub fn reason(&self) -> &'static str {
        self.told().reason
    }

    fn told(&self) -> Told {
        use StatusCode as S;
        match self {
            Self::NotForUs(NotForUs::Host) => told(S::FORBIDDEN, -32003, "host_not_allowed"),
            Self::NotForUs(NotForUs::Origin) => told(S::FORBIDDEN, -32003, "origin_not_allowed"),
            Self::Authn(error @ AuthnError::ProviderUnavailable { retry_after, .. }) => {
                let after = retry_after.unwrap_or(5);
                told_retry(S::SERVICE_UNAVAILABLE, -32001, error.reason(), after)
            }
            // a 401 would send clients to log in again, which changes nothing
            Self::Authn(error @ AuthnError::NotAllowed) => {
                told(S::FORBIDDEN, -32002, error.reason())
            }
            Self::Authn(error) => told(S::UNAUTHORIZED, -32001, error.reason()),
            Self::NoRoute => told(S::NOT_FOUND, -32004, "no_route"),
            Self::HeadersTooLarge { .. } => {
                told(S::REQUEST_HEADER_FIELDS_TOO_LARGE, -32005, "headers_too_large")
            }
            Self::BodyTooLarge(_) => told(S::PAYLOAD_TOO_LARGE, -32005, "body_too_large"),
            Self::BodyIncomplete => told(S::REQUEST_TIMEOUT, -32005, "body_incomplete"),
            Self::QueueFull(QueueFull::Tenant) => {
                told_retry(S::TOO_MANY_REQUESTS, -32006, "too_many_waiting", 5)
            }
            Self::QueueFull(QueueFull::Bytes) => {
                told_retry(S::SERVICE_UNAVAILABLE, -32006, "gateway_overloaded", 5)
            }
            Self::Activate(error) => activate_told(error),
            Self::WorkerBroke => told(S::BAD_GATEWAY, -32008, "worker_broke"),
            Self::WorkerReplaced => {
                told_retry(S::SERVICE_UNAVAILABLE, -32008, "worker_replaced", 1)
            }
        }
    }
}

fn activate_told(error: &ActivateError) -> Told {
    use StatusCode as S;
    match error {
        ActivateError::HoldElapsed => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "no_worker_in_time", 5)
        }
        ActivateError::NotProvisioned => told(S::FORBIDDEN, -32002, "not_provisioned"),
        ActivateError::Refused(AssignRefusal::Suspended) => {
            told(S::FORBIDDEN, -32002, "tenant_suspended")
        }
        ActivateError::Refused(AssignRefusal::IdentityTooLong) => {
            told(S::FORBIDDEN, -32002, "identity_too_long")
        }
        ActivateError::Refused(AssignRefusal::NameMismatch) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "tenant_name_mismatch", 30)
        }
        ActivateError::Refused(AssignRefusal::Deleting) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "tenant_being_deleted", 5)
        }
        ActivateError::Refused(AssignRefusal::NotAccepted) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "control_plane_refused", 30)
        }
        ActivateError::Refused(_) => told_retry(S::SERVICE_UNAVAILABLE, -32007, "class_full", 30),
        ActivateError::Offer(OfferError::ShuttingDown) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "shutting_down", 5)
        }
        ActivateError::Offer(_) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "workers_do_not_start", 15)
        }
        ActivateError::ControlPlane(_) => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "control_plane_unavailable", 5)
        }
        ActivateError::Grant(GrantError::Refused(_)) => told(S::FORBIDDEN, -32002, "grant_refused"),
        ActivateError::Grant(GrantError::RoleDenied(_)) => {
            told(S::FORBIDDEN, -32002, "role_denied")
        }
        ActivateError::Grant(GrantError::PolicyTooLarge(_)) => {
            told(S::FORBIDDEN, -32002, "policy_too_large")
        }
        ActivateError::Grant(GrantError::NoKeys(why)) => told(S::FORBIDDEN, -32002, why.reason()),
        ActivateError::Grant(GrantError::Unavailable { retry_after, .. }) => {
            let after = retry_after.unwrap_or(5);
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "grant_unavailable", after)
        }
        ActivateError::Unreachable => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "worker_unreachable", 2)
        }
        ActivateError::BindFailed => told_retry(S::SERVICE_UNAVAILABLE, -32007, "bind_failed", 5),
        ActivateError::ServerFailed => {
            told_retry(S::SERVICE_UNAVAILABLE, -32007, "server_did_not_start", 15)
        }
        ActivateError::Outrun => told_retry(S::SERVICE_UNAVAILABLE, -32007, "outrun", 1),
    }
}

/// The JSON-RPC error for a request whose id is `id`, as it is written.
pub(crate) fn error(refusal: &Refusal, id: &RawValue, request_id: &str) -> String {
    let error = error_object(refusal, refusal.told(), request_id);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

fn error_object(refusal: &Refusal, told: Told, request_id: &str) -> Value {
    json!({
        "code": told.code,
        "message": refusal.to_string(),
        "data": { "reason": told.reason, "requestId": request_id },
    })
}

/// The answer to a refused request. `request_id` is in the body, so that a user's report and the logs can
/// be brought together.
///
/// `metadata_url` is where a client that must log in finds out where (RFC 9728).
pub fn refuse(
    refusal: &Refusal,
    request_id: &str,
    metadata_url: Option<&str>,
) -> Response<Full<Bytes>> {
    let told = refusal.told();
    let body = json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": error_object(refusal, told, request_id),
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = told.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = told.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Refusal::Authn(error) = refusal
        && told.status == StatusCode::UNAUTHORIZED
    {
        headers.insert(header::WWW_AUTHENTICATE, challenge(error, metadata_url));
    }
    response
}

/// RFC 6750, 3: no error code where no credential was sent; `invalid_request` where it was sent wrongly.
/// The realm is fixed, so nothing of the request is reflected but the host that was checked.
fn challenge(error: &AuthnError, metadata_url: Option<&str>) -> HeaderValue {
    let fixed = match error {
        AuthnError::Missing => "Bearer realm=\"patchbay\"",
        AuthnError::Malformed(_) => "Bearer realm=\"patchbay\", error=\"invalid_request\"",
        AuthnError::WrongAudience => {
            "Bearer realm=\"patchbay\", error=\"invalid_token\", \
             error_description=\"the credential was issued for another audience\""
        }
        AuthnError::Expired => {
            "Bearer realm=\"patchbay\", error=\"invalid_token\", \
             error_description=\"the credential has expired\""
        }
        AuthnError::RevokedKey => {
            "Bearer realm=\"patchbay\", error=\"invalid_token\", \
             error_description=\"the API key was revoked\""
        }
        _ => "Bearer realm=\"patchbay\", error=\"invalid_token\"",
    };
    let with_url = metadata_url.and_then(|url| {
        HeaderValue::try_from(format!("{fixed}, resource_metadata=\"{url}\"")).ok()
    });
    with_url.unwrap_or(HeaderValue::from_static(fixed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use patchbay_core::{grant::NoKeys, orchestrator::Unavailable};
    use std::collections::BTreeSet;

    fn all() -> Vec<Refusal> {
        let activate = |error| Refusal::Activate(error);
        vec![
            Refusal::NotForUs(NotForUs::Host),
            Refusal::NotForUs(NotForUs::Origin),
            Refusal::Authn(AuthnError::Missing),
            Refusal::Authn(AuthnError::Malformed("it is empty")),
            Refusal::Authn(AuthnError::NotAccepted),
            Refusal::Authn(AuthnError::UnknownIssuer),
            Refusal::Authn(AuthnError::LoginCode),
            Refusal::Authn(AuthnError::Invalid),
            Refusal::Authn(AuthnError::InvalidKey),
            Refusal::Authn(AuthnError::RevokedKey),
            Refusal::Authn(AuthnError::Expired),
            Refusal::Authn(AuthnError::NotYetValid),
            Refusal::Authn(AuthnError::WrongAudience),
            Refusal::Authn(AuthnError::MissingClaim("sub".into())),
            Refusal::Authn(AuthnError::NotAllowed),
            Refusal::Authn(unavailable(None)),
            Refusal::HeadersTooLarge { count: 1, bytes: 2 },
            Refusal::BodyTooLarge(3),
            Refusal::BodyIncomplete,
            Refusal::QueueFull(QueueFull::Tenant),
            Refusal::QueueFull(QueueFull::Bytes),
            activate(ActivateError::HoldElapsed),
            activate(ActivateError::NotProvisioned),
            activate(ActivateError::Refused(AssignRefusal::Suspended)),
            activate(ActivateError::Refused(AssignRefusal::TenantLimit)),
            activate(ActivateError::Refused(AssignRefusal::IdentityTooLong)),
            activate(ActivateError::Refused(AssignRefusal::NameMismatch)),
            activate(ActivateError::Refused(AssignRefusal::Deleting)),
            activate(ActivateError::Refused(AssignRefusal::NotAccepted)),
            activate(ActivateError::Offer(OfferError::UnknownClass)),
            activate(ActivateError::Offer(OfferError::NotStarting("/opt/secret-path".into()))),
            activate(ActivateError::Offer(OfferError::ShuttingDown)),
            activate(ActivateError::ControlPlane(Unavailable("10.0.0.1 refused".into()))),
            activate(ActivateError::Grant(GrantError::Refused("the catalog".into()))),
            activate(ActivateError::Grant(GrantError::unavailable("the catalog"))),
            activate(ActivateError::Grant(GrantError::RoleDenied("the class lists none".into()))),
            activate(ActivateError::Grant(GrantError::PolicyTooLarge("3000 characters".into()))),
            activate(ActivateError::Grant(NoKeys::NotAToken.into())),
            activate(ActivateError::Grant(NoKeys::SaidByHolder.into())),
            activate(ActivateError::Grant(NoKeys::Missing.into())),
            activate(ActivateError::Grant(NoKeys::Unusable("they are not complete").into())),
            activate(ActivateError::Grant(NoKeys::LongTerm.into())),
            activate(ActivateError::Grant(NoKeys::NotTheUser.into())),
            activate(ActivateError::Grant(NoKeys::NotForAws.into())),
            activate(ActivateError::Grant(NoKeys::TokenRefused.into())),
            activate(ActivateError::Grant(NoKeys::TokenEnded.into())),
            activate(ActivateError::Grant(NoKeys::Ended.into())),
            activate(ActivateError::Unreachable),
            activate(ActivateError::BindFailed),
            activate(ActivateError::ServerFailed),
            activate(ActivateError::Outrun),
            Refusal::WorkerBroke,
            Refusal::WorkerReplaced,
        ]
    }

    #[test]
    fn no_refusal_on_an_mcp_path_says_anything_about_the_servers_era() {
        for refusal in all() {
            let status = refuse(&refusal, "r", None).status().as_u16();
            assert!(![400, 404, 405].contains(&status), "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn every_refusal_is_a_json_rpc_error_in_the_range_left_to_us() {
        for refusal in all() {
            let body =
                refuse(&refusal, "r-1", None).into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let code = body["error"]["code"].as_i64().unwrap();
            assert!((-32019..=-32000).contains(&code), "{refusal:?}");
            assert_eq!(body["error"]["data"]["requestId"], "r-1");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_the_inside_said_is_not_told_to_clients() {
        for refusal in all() {
            let body = refuse(&refusal, "r", None).into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(body.to_vec()).unwrap();
            for inner in ["secret-path", "10.0.0.1"] {
                assert!(!text.contains(inner), "{text}");
            }
        }
    }

    #[test]
    fn a_401_always_carries_a_challenge_and_nothing_else_does() {
        for refusal in all() {
            let response = refuse(&refusal, "r", None);
            assert_eq!(
                response.status() == StatusCode::UNAUTHORIZED,
                response.headers().contains_key(header::WWW_AUTHENTICATE),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn a_client_that_must_log_in_is_told_where_to_find_out_how() {
        let url = "https://mcp.example/.well-known/oauth-protected-resource/mcp";
        let response = refuse(&Refusal::Authn(AuthnError::Missing), "r", Some(url));
        let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert_eq!(challenge, format!("Bearer realm=\"patchbay\", resource_metadata=\"{url}\""));
    }

    #[test]
    fn every_reason_is_in_the_reference_with_its_status_and_no_other_is() {
        let page = include_str!("../../../docs/reference/errors.md");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let reason = cells.next()?.strip_suffix('`')?.to_owned();
            let (status, _, fix) = (cells.next()?.parse().ok()?, cells.next()?, cells.next()?);
            (!fix.trim_end_matches(" |").is_empty()).then_some((reason, status))
        };
        let written: BTreeSet<(String, u16)> = page.lines().filter_map(row).collect();
        let known = all().into_iter().chain([Refusal::NoRoute]).map(|refusal| {
            let told = refusal.told();
            (told.reason.to_owned(), told.status.as_u16())
        });
        assert_eq!(written, known.collect());
    }

    fn unavailable(retry_after: Option<u32>) -> AuthnError {
        AuthnError::ProviderUnavailable { who: "the catalog".into(), retry_after }
    }

    #[test]
    fn a_client_comes_back_when_who_judges_it_or_gives_its_token_says_so() {
        let grant = |retry_after| GrantError::Unavailable { who: "tokens".into(), retry_after };
        for (said, told) in [(Some(7), "7"), (None, "5")] {
            for refusal in [
                Refusal::Authn(unavailable(said)),
                Refusal::Activate(ActivateError::Grant(grant(said))),
            ] {
                let response = refuse(&refusal, "r", None);
                assert_eq!(response.headers()[header::RETRY_AFTER], told, "{refusal}");
            }
        }
    }

    #[test]
    fn a_503_or_429_always_says_when_to_come_back() {
        for refusal in all() {
            let response = refuse(&refusal, "r", None);
            if [503, 429].contains(&response.status().as_u16()) {
                assert!(response.headers().contains_key(header::RETRY_AFTER), "{refusal:?}");
            }
        }
    }
}
