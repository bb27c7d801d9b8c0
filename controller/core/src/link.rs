//! The worker link: what a gateway and an agent say to each other, over HTTP/2 and mutual TLS.
//!
//! Control requests live under [`CONTROL_PREFIX`] and forwarded ones under [`FORWARD_PREFIX`]; a gateway
//! makes the second kind only by [`forward_path`], so no client can reach the first (invariant 1). The
//! golden file `golden/link.json` pins the JSON: both ends of a link may be of different releases. So an end passes over
//! members that it does not know, except in a grant and what is in one: what must be understood to be obeyed goes there,
//! and a worker that does not understand it refuses the bind.
//! This module must not know sockets, TLS or clients.

use crate::{
    allowed,
    grant::{Grant, expose},
    id::{Epoch, TenantUid},
    session::SessionKeys,
    tenant::TenantName,
};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Where control requests live.
pub const CONTROL_PREFIX: &str = "/v1/";
/// `POST`: bind a tenant. Body [`BindRequest`]; 200 [`BindAccepted`], 409 [`Refused`], 503 [`Refused`].
pub const BIND_PATH: &str = "/v1/bind";
/// `POST`: keep the worker for a tenant for a moment, if it is nobody's. Body [`Reservation`]; 204, 409 [`Refused`],
/// 503 [`Refused`].
pub const RESERVE_PATH: &str = "/v1/reserve";
/// `POST`: the tenant does not take the worker after all. Body [`Reservation`]; 204, whether it was kept or not.
pub const RELEASE_PATH: &str = "/v1/release";
/// `GET`: the worker's [`Enrolment`]; 404 where it has nothing to show; operators only.
pub const ENROL_PATH: &str = "/v1/enrol";
/// `GET`: the worker's [`WorkerStatus`]; operators only.
pub const STATUS_PATH: &str = "/v1/status";
/// `POST`: leave if anonymous; 202, or 409 [`Refused`] if it is a tenant's, or kept for one; operators only.
pub const RETIRE_PATH: &str = "/v1/retire";
/// `POST`: finish what is in flight and leave; 202; operators only. With the query [`WHEN_IDLE`] it serves on
/// until its next idle moment, and takes new calls until then.
pub const DRAIN_PATH: &str = "/v1/drain";
/// The query of [`DRAIN_PATH`] that interrupts nobody.
pub const WHEN_IDLE: &str = "when=idle";
/// Where forwarded requests live: the rest of the path is the MCP server's.
pub const FORWARD_PREFIX: &str = "/mcp-server";

/// Header of every forwarded request: the tenant's UID.
pub const TENANT_HEADER: &str = "patchbay-tenant";
/// Header of every forwarded request: the assignment's epoch, decimal.
pub const EPOCH_HEADER: &str = "patchbay-epoch";
/// Header of every forwarded request: the gateway's id for it, for logs on both sides.
pub const REQUEST_ID_HEADER: &str = "patchbay-request-id";
/// Header of an answer that the agent gave in the MCP server's place; its value is the reason, as in the
/// body. Without it, whatever the status, the answer is the MCP server's.
pub const REFUSAL_HEADER: &str = "patchbay-refusal";
/// Value of [`REFUSAL_HEADER`] with 421: the request named a tenant or epoch that is not the worker's.
pub const MISDIRECTED: &str = "misdirected";
/// No header with this prefix is ever taken from a client or shown to an MCP server.
pub const HEADER_PREFIX: &str = "patchbay-";

/// A bind's body is at most this long, bytes.
pub const MAX_BIND_BYTES: usize = 64 * 1024 + allowed::MAX_BYTES;
/// A reservation's body is at most this long, bytes.
pub const MAX_RESERVATION_BYTES: usize = 1024;

/// The path on the link for a client's path, whose part behind the route is `rest` (empty, or starting
/// with `/`), and query.
pub fn forward_path(rest: &str, query: Option<&str>) -> String {
    let mut path = String::with_capacity(FORWARD_PREFIX.len() + rest.len() + 1);
    path.push_str(FORWARD_PREFIX);
    path.push_str(rest);
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// For whom a worker is kept, or no longer: by name, since the tenant may not be recorded yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The tenant's derived name.
    pub tenant: TenantName,
}

/// Binds a worker to a tenant for life, or offers the tenant's worker a newer grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindRequest {
    /// The tenant object's UID.
    pub tenant: TenantUid,
    /// The assignment's epoch.
    pub epoch: Epoch,
    /// What the worker may hold.
    pub grant: Grant,
    /// Who the tenant is, for a class whose templates say so; no other worker is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What the tenant's session ids are sealed and opened with; none where no root key is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionKeys>,
}

/// Who a tenant is. It is no secret; a worker that need not know is not told all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Who vouches for the user.
    pub issuer: String,
    /// The user's name there.
    pub subject: String,
}

/// A worker took a bind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindAccepted {
    /// What the bind changed.
    pub outcome: BindOutcome,
}

/// What a bind changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BindOutcome {
    /// The worker was anonymous and is now this tenant's.
    Bound,
    /// The worker was this tenant's and took the grant.
    Replaced,
    /// The worker was this tenant's and holds a grant at least as good.
    Kept,
}

/// Why a worker refused a control request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum BindRefusal {
    /// Another tenant is bound, for life.
    #[error("the worker serves another tenant")]
    OtherTenant,
    /// This tenant is bound, by another assignment.
    #[error("the worker serves another assignment of this tenant")]
    OtherEpoch,
    /// For the moment it is kept for another tenant, which may yet leave it.
    #[error("the worker is kept for another tenant for the moment")]
    Reserved,
    /// The worker is leaving.
    #[error("the worker is leaving")]
    Leaving,
    /// The MCP server does not answer yet; ask again.
    #[error("the worker's MCP server is not ready")]
    Warming,
    /// The worker could not store the grant.
    #[error("the worker could not store the grant")]
    StorageFailed,
    /// The MCP server, which is started at bind, did not come to answer. The worker leaves.
    #[error("the worker's MCP server did not start for the user")]
    ServerFailed,
}

impl BindRefusal {
    /// Whether this worker will never serve the tenant: it is somebody else's.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::OtherTenant | Self::OtherEpoch)
    }
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Why.
    pub reason: BindRefusal,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkerPhase {
    /// The MCP server does not answer yet.
    Warming,
    /// Ready, and nobody's.
    Anonymous,
    /// One tenant's.
    Bound,
    /// Finishing what is in flight.
    Leaving,
}

/// How a worker shows an operator which pod it is in. The operator asks the cluster whose the token is, and
/// records the key that this connection proved; the token is good for nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// The worker's own service-account token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// Where the worker is in its life.
    pub phase: WorkerPhase,
}

/// What an operator may see of a worker; nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Where the worker is in its life.
    pub phase: WorkerPhase,
    /// The tenant that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantUid>,
    /// Calls in flight: those that keep it busy, no idle streams.
    pub in_flight: u64,
    /// When the last call began or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Timestamp>,
}

/// Why a worker left; its last words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaveReason {
    /// No call for the class's `idleTimeout`.
    Idle,
    /// Older than the class's `maxAge`, at an idle moment.
    MaxAge,
    /// An operator asked, or SIGTERM came.
    Drained,
    /// Retired while anonymous.
    Retired,
    /// The MCP server ended by itself.
    ServerExited,
    /// The MCP server did not answer in time after its start.
    ServerNotReady,
    /// The keys in the MCP server's environment, which cannot be renewed, were about to end.
    CredentialsEnd,
}

/// A worker's last words: written once, when it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Farewell {
    /// Whose worker it was; none if it was nobody's, or of a release that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantUid>,
    /// Why it left.
    pub reason: LeaveReason,
    /// When its last call began or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Timestamp>,
    /// More about it, for people; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        allowed::Allowed,
        digest::Digest,
        enhanced::Level,
        grant::{AwsGrant, CatalogGrant},
    };
    use proptest::prelude::*;

    fn full_bind() -> BindRequest {
        BindRequest {
            tenant: TenantUid::parse("6f1c7b1e-0000-4000-8000-000000000001").unwrap(),
            epoch: Epoch(3),
            grant: Grant {
                credential: Digest::of(b"credential"),
                expires_at: Some("2026-11-22T12:00:00Z".parse().unwrap()),
                catalog: Some(CatalogGrant {
                    origin: "https://catalog.example".into(),
                    registry: "https://registry.example".into(),
                    bearer: "the-bearer".into(),
                    lease: None,
                }),
                aws: Some(AwsGrant {
                    access_key_id: "ASIAEXAMPLE".into(),
                    secret_access_key: "the-secret-key".into(),
                    session_token: "the-session-token".into(),
                    expires_at: "2026-11-22T12:15:00Z".parse().unwrap(),
                    region: "us-east-1".into(),
                    renew_at: None,
                }),
                allowed: Some(Allowed {
                    level: Level::Write,
                    permissions: ["s3:GetObject".to_owned()].into(),
                    buckets: ["b-alice".to_owned()].into(),
                }),
            },
            user: Some(User { issuer: "https://issuer.example".into(), subject: "alice".into() }),
            sessions: serde_json::from_value(serde_json::json!({
                "sealing": { "id": "00000002", "key": "the-sealing-key" },
                "opening": [{ "id": "00000001", "key": "the-opening-key" }],
            }))
            .unwrap(),
        }
    }

    #[test]
    fn the_wire_form_matches_the_golden_file() {
        let minimal = BindRequest {
            grant: Grant {
                expires_at: None,
                catalog: None,
                aws: None,
                allowed: None,
                ..full_bind().grant
            },
            user: None,
            sessions: None,
            ..full_bind()
        };
        let accepted = [BindOutcome::Bound, BindOutcome::Replaced, BindOutcome::Kept]
            .map(|outcome| BindAccepted { outcome });
        let refused = [
            BindRefusal::OtherTenant,
            BindRefusal::OtherEpoch,
            BindRefusal::Reserved,
            BindRefusal::Leaving,
            BindRefusal::Warming,
            BindRefusal::StorageFailed,
            BindRefusal::ServerFailed,
        ]
        .map(|reason| Refused { reason });
        let document = serde_json::json!({
            "bindFull": full_bind(),
            "bindMinimal": minimal,
            "accepted": accepted,
            "refused": refused,
            "reservation": Reservation {
                tenant: TenantName::parse("t-go5gbctxrdlmessgoznl").unwrap(),
            },
            "enrolment": Enrolment {
                token: "the-token".into(),
                phase: WorkerPhase::Anonymous,
            },
            "status": WorkerStatus {
                phase: WorkerPhase::Bound,
                tenant: Some(full_bind().tenant),
                in_flight: 2,
                last_activity: Some("2026-11-22T11:59:00Z".parse().unwrap()),
            },
            "farewell": Farewell {
                tenant: Some(full_bind().tenant),
                reason: LeaveReason::Idle,
                last_activity: Some("2026-11-22T11:59:00Z".parse().unwrap()),
                detail: None,
            },
        });
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../golden/link.json")).unwrap();
        assert_eq!(
            document, golden,
            "the wire form changed: is the other end of every running link able to read it?\n{document:#}"
        );
        let read: BindRequest = serde_json::from_value(golden["bindFull"].clone()).unwrap();
        assert_eq!(read.epoch, Epoch(3));
    }

    #[test]
    fn what_a_newer_end_adds_is_passed_over_but_in_a_grant() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../golden/link.json")).unwrap();
        let with_more = |name: &str| {
            let mut document = golden[name].clone();
            document["more"] = serde_json::json!({ "of": "a newer release" });
            document
        };
        let mut bind = with_more("bindFull");
        for part in ["user", "sessions"] {
            bind[part]["more"] = "of a newer release".into();
        }
        assert!(serde_json::from_value::<Reservation>(with_more("reservation")).is_ok());
        assert!(serde_json::from_value::<BindRequest>(bind.clone()).is_ok());
        assert!(serde_json::from_value::<Enrolment>(with_more("enrolment")).is_ok());
        assert!(serde_json::from_value::<WorkerStatus>(with_more("status")).is_ok());
        assert!(serde_json::from_value::<Farewell>(with_more("farewell")).is_ok());
        bind["grant"]["role"] = "admin".into();
        assert!(serde_json::from_value::<BindRequest>(bind).is_err());
    }

    proptest! {
        #[test]
        fn no_client_path_becomes_a_control_path(rest in "(/.*)?", query in proptest::option::of(".*")) {
            let path = forward_path(&rest, query.as_deref());
            prop_assert!(path.starts_with(FORWARD_PREFIX));
            prop_assert!(!path.starts_with(CONTROL_PREFIX));
        }
    }
}
