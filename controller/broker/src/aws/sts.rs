//! AWS STS by its SDK: regional endpoints, signed with the gateway's own identity, which is used for nothing else and
//! given to nobody.
//!
//! The identity is the SDK's default chain: environment, profile, IRSA, Pod Identity. This module must not know why a
//! role is assumed.

use super::{Assume, Sts, StsError, connector};
use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sts::{
    Client,
    config::SharedHttpClient,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::assume_role::AssumeRoleError,
    types::{Credentials, Tag},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use patchbay_core::grant::AwsGrant;
use rustls::crypto::CryptoProvider;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// How long one try may take, and all of them.
const TRY_LIMIT: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(10);
/// Tries of one call, where STS fails or is not reached.
const TRIES: u32 = 3;

/// An endpoint: a region, and an address in the place of the region's own.
type Endpoint = (String, Option<String>);

/// STS at whichever endpoints classes name. Nothing is asked, and no identity looked for, before the first call.
pub struct AwsSts {
    http: SharedHttpClient,
    own: OnceCell<SdkConfig>,
    clients: Mutex<HashMap<Endpoint, Client>>,
}

impl AwsSts {
    /// STS over this crypto.
    pub fn new(crypto: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        Ok(Self {
            http: connector::client(crypto)?,
            own: OnceCell::new(),
            clients: Mutex::default(),
        })
    }

    /// The client of an endpoint. All share one identity.
    async fn client(&self, assume: &Assume) -> Client {
        let region = Region::new(assume.region.clone());
        let own = self.own.get_or_init(async || {
            aws_config::defaults(BehaviorVersion::latest())
                // some of the chain asks STS itself; and a region that is given is not looked for
                .region(region.clone())
                .http_client(self.http.clone())
                .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
                .timeout_config(
                    TimeoutConfig::builder()
                        .operation_attempt_timeout(TRY_LIMIT)
                        .operation_timeout(LIMIT)
                        .build(),
                )
                .load()
                .await
        });
        let own = own.await;
        let endpoint = (assume.region.clone(), assume.endpoint.clone());
        let make = || {
            let mut config = aws_sdk_sts::config::Builder::from(own).region(region.clone());
            config.set_endpoint_url(
                assume.endpoint.clone().or_else(|| own.endpoint_url().map(Into::into)),
            );
            Client::from_conf(config.build())
        };
        self.clients.lock().entry(endpoint).or_insert_with(make).clone()
    }
}

#[async_trait]
impl Sts for AwsSts {
    async fn assume(&self, assume: &Assume, session_name: &str) -> Result<AwsGrant, StsError> {
        let Assume {
            role,
            source_identity,
            tags,
            policy,
            duration,
            external_id,
            region,
            endpoint: _,
            subject: _,
        } = assume;
        let tags: Vec<Tag> = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect::<Result<_, _>>()
            .map_err(|error| StsError::Invalid(error.to_string()))?;
        let keys = tags.iter().map(|tag| tag.key().to_owned()).collect();
        let answer = self
            .client(assume)
            .await
            .assume_role()
            .role_arn(role.as_str())
            .role_session_name(session_name)
            .source_identity(source_identity)
            .set_tags(Some(tags))
            .set_transitive_tag_keys(Some(keys))
            .set_policy(policy.clone())
            .set_external_id(external_id.clone())
            .duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| failure(&error))?;
        answer.credentials().and_then(|given| keys_of(given, region)).ok_or(StsError::NotTemporary)
    }
}

/// What STS gave, if it is temporary.
fn keys_of(given: &Credentials, region: &str) -> Option<AwsGrant> {
    let end = Timestamp::from_second(given.expiration().secs()).ok()?;
    AwsGrant::temporary(
        given.access_key_id().to_owned(),
        given.secret_access_key().into(),
        given.session_token().into(),
        end,
        region.to_owned(),
    )
}

/// What a failed call is told as. STS has few errors of its own; the others are by code alone (STS API reference,
/// common errors).
fn failure<R>(error: &SdkError<AssumeRoleError, R>) -> StsError
where
    R: std::fmt::Debug,
{
    let Some(code) = error.code() else {
        return match error {
            // no credentials at all are found before anything is sent
            SdkError::DispatchFailure(dispatch) if !dispatch.is_io() && !dispatch.is_timeout() => {
                StsError::OwnCredentials(DisplayErrorContext(error).to_string())
            }
            _ => StsError::Failed(DisplayErrorContext(error).to_string()),
        };
    };
    told(code)
}

/// What an error code of STS means.
fn told(code: &str) -> StsError {
    match code {
        "AccessDenied" | "AccessDeniedException" => StsError::Denied,
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => StsError::PackedTooLarge,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => StsError::Throttled,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "InvalidToken"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "AuthFailure"
        | "OptInRequired" => StsError::OwnCredentials(code.to_owned()),
        "ValidationError"
        | "ValidationException"
        | "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException"
        | "InvalidParameterValue"
        | "RegionDisabledException" => StsError::Invalid(code.to_owned()),
        _ => StsError::Failed(code.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sts::primitives::DateTime;

    fn given(id: &str, token: &str) -> Credentials {
        Credentials::builder()
            .access_key_id(id)
            .secret_access_key("s")
            .session_token(token)
            .expiration(DateTime::from_secs(1_767_225_600))
            .build()
            .unwrap()
    }

    #[test]
    fn only_temporary_keys_are_keys() {
        let keys = keys_of(&given("ASIAX", "t"), "us-east-1").unwrap();
        assert_eq!(keys.expires_at.to_string(), "2026-01-01T00:00:00Z");
        assert!(keys_of(&given("AKIAX", "t"), "us-east-1").is_none());
        assert!(keys_of(&given("ASIAX", ""), "us-east-1").is_none());
    }

    #[test]
    fn every_code_is_told_as_what_can_be_done_about_it() {
        assert_eq!(told("AccessDenied"), StsError::Denied);
        assert_eq!(told("PackedPolicyTooLarge"), StsError::PackedTooLarge);
        assert_eq!(told("Throttling"), StsError::Throttled);
        assert_eq!(told("ExpiredToken"), StsError::OwnCredentials("ExpiredToken".into()));
        assert_eq!(told("ValidationError"), StsError::Invalid("ValidationError".into()));
        assert_eq!(told("InternalFailure"), StsError::Failed("InternalFailure".into()));
    }
}
