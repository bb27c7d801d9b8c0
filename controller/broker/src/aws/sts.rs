//! AWS STS by its SDK: regional endpoints, signed with the gateway's own identity, which is used for nothing else and
//! given to nobody; or, with a user's own token, unsigned and without any identity.
//!
//! The identity is the SDK's default chain: environment, profile, IRSA, Pod Identity. It is looked for where a call must be
//! signed and nowhere else. This module must not know why a
//! role is assumed.

use super::{Assume, Exchange, Sts, StsError, connector};
use async_trait::async_trait;
use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sts::{
    Client,
    config::{Credentials as OwnCredentials, ProvideCredentials, SharedHttpClient},
    error::{ProvideErrorMetadata, SdkError},
    operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
    types::{Credentials, Tag},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use patchbay_core::{chain::Chain, grant::AwsGrant};
use rustls::crypto::CryptoProvider;
use secrecy::ExposeSecret;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// How long one try may take, and all of them.
const TRY_LIMIT: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(10);
/// Tries of one call, where STS fails or is not reached.
const TRIES: u32 = 3;

/// How long temporary keys live that are made of the gateway's own long-term ones, seconds.
const OWN_SECONDS: i32 = 3600;
/// How long keys of the gateway's own are good for that do not say when they end.
const UNTOLD: SignedDuration = SignedDuration::from_mins(15);
/// Where nothing is about a region.
const DEFAULT_REGION: &str = "us-east-1";

/// What kind of identity a process has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnIdentity {
    /// Keys that end.
    Temporary,
    /// Keys that do not.
    LongTerm,
}

/// An endpoint: a region, and an address in the place of the region's own.
type Endpoint = (String, Option<String>);

/// STS at whichever endpoints classes name. Nothing is asked, and no identity looked for, before the first call.
pub struct AwsSts {
    http: SharedHttpClient,
    own: OnceCell<SdkConfig>,
    clients: Mutex<HashMap<Endpoint, Client>>,
    unsigned: Mutex<HashMap<Endpoint, Client>>,
}

impl AwsSts {
    /// STS over this crypto.
    pub fn new(crypto: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        Ok(Self {
            http: connector::client(crypto)?,
            own: OnceCell::new(),
            clients: Mutex::default(),
            unsigned: Mutex::default(),
        })
    }

    /// A client of an endpoint that has no identity and reads no environment: what it sends is all that is shown.
    fn unsigned(&self, exchange: &Exchange) -> Client {
        let Exchange { region, endpoint, .. } = exchange;
        let make = || {
            let mut config = aws_sdk_sts::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(region.clone()))
                .http_client(self.http.clone())
                .retry_config(retries())
                .timeout_config(limits());
            config.set_endpoint_url(endpoint.clone());
            Client::from_conf(config.build())
        };
        self.unsigned.lock().entry((region.clone(), endpoint.clone())).or_insert_with(make).clone()
    }

    /// The gateway's own identity, and how it asks.
    async fn own_config(&self, region: &str) -> &SdkConfig {
        let region = Region::new(region.to_owned());
        self.own.get_or_init(async || self.loader(region).load().await).await
    }

    fn loader(&self, region: Region) -> ConfigLoader {
        aws_config::defaults(BehaviorVersion::latest())
            // some of the chain asks STS itself; and a region that is given is not looked for
            .region(region)
            .http_client(self.http.clone())
            .retry_config(retries())
            .timeout_config(limits())
    }

    /// The client of an endpoint. All share one identity.
    async fn client(&self, region: &str, endpoint: Option<&str>) -> Client {
        let own = self.own_config(region).await;
        let make = || {
            let region = Region::new(region.to_owned());
            let mut config = aws_sdk_sts::config::Builder::from(own).region(region);
            config.set_endpoint_url(endpoint.or_else(|| own.endpoint_url()).map(Into::into));
            Client::from_conf(config.build())
        };
        let key = (region.to_owned(), endpoint.map(Into::into));
        self.clients.lock().entry(key).or_insert_with(make).clone()
    }

    /// What is found of the gateway's own identity.
    async fn found(&self, region: &str) -> Result<OwnCredentials, StsError> {
        let provider = self.own_config(region).await.credentials_provider();
        let provider = provider.ok_or_else(|| StsError::OwnCredentials("there are none".into()))?;
        provider
            .provide_credentials()
            .await
            .map_err(|error| StsError::OwnCredentials(Chain(&error).to_string()))
    }

    /// What kind of identity this process has of its own. Nothing is asked in its name, but it is looked for everywhere.
    pub async fn own_identity(&self) -> Result<OwnIdentity, StsError> {
        let found = self.found(DEFAULT_REGION).await?;
        Ok(if is_temporary(&found) { OwnIdentity::Temporary } else { OwnIdentity::LongTerm })
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
            endpoint,
            subject: _,
        } = assume;
        let tags: Vec<Tag> = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect::<Result<_, _>>()
            .map_err(|error| StsError::Invalid(error.to_string()))?;
        let keys = tags.iter().map(|tag| tag.key().to_owned()).collect();
        let answer = self
            .client(region, endpoint.as_deref())
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
        given(answer.credentials(), region)
    }

    async fn exchange(
        &self,
        exchange: &Exchange,
        session_name: &str,
    ) -> Result<AwsGrant, StsError> {
        let Exchange { role, policy, duration, region, token, .. } = exchange;
        let answer = self
            .unsigned(exchange)
            .assume_role_with_web_identity()
            .role_arn(role.as_str())
            .role_session_name(session_name)
            .web_identity_token(token.expose_secret())
            .set_policy(policy.clone())
            .duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| exchange_failure(&error))?;
        given(answer.credentials(), region)
    }

    /// Temporary keys are given as they are; of long-term ones STS makes temporary ones first.
    async fn own(&self, region: &str) -> Result<AwsGrant, StsError> {
        let found = self.found(region).await?;
        if is_temporary(&found) {
            return living(kept_of(&found, region, Timestamp::now()));
        }
        let answer = self
            .client(region, None)
            .await
            .get_session_token()
            .duration_seconds(OWN_SECONDS)
            .send()
            .await
            .map_err(|error| match failure(&error) {
                // it is the identity's own policy that does not allow it
                StsError::Denied => StsError::OwnCredentials("AccessDenied".into()),
                other => other,
            })?;
        given(answer.credentials(), region)
    }
}

fn is_temporary(found: &OwnCredentials) -> bool {
    found.session_token().is_some_and(|token| !token.is_empty())
}

/// The gateway's own keys, as a grant. Where nobody says when they end they are good for a while, and looked for again.
fn kept_of(found: &OwnCredentials, region: &str, now: Timestamp) -> Option<AwsGrant> {
    let end = match found.expiry() {
        Some(end) => Timestamp::try_from(end).ok()?,
        None => now.checked_add(UNTOLD).ok()?,
    };
    AwsGrant::temporary(
        found.access_key_id().to_owned(),
        found.secret_access_key().into(),
        found.session_token().unwrap_or_default().into(),
        end,
        region.to_owned(),
    )
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(TRIES)
}

fn limits() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(TRY_LIMIT).operation_timeout(LIMIT).build()
}

/// What STS gave, if it is temporary and has not ended yet. Where an answer does not say when, the SDK says 1970.
fn given(given: Option<&Credentials>, region: &str) -> Result<AwsGrant, StsError> {
    living(given.and_then(|given| keys_of(given, region)))
}

fn living(keys: Option<AwsGrant>) -> Result<AwsGrant, StsError> {
    keys.filter(|keys| keys.expires_at > Timestamp::now()).ok_or(StsError::NotTemporary)
}

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
/// common errors). Its answer is never told: one that cannot be read may hold keys.
fn failure<E, R>(error: &SdkError<E, R>) -> StsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Some(code) = error.code() else {
        return match error {
            // no credentials at all are found before anything is sent
            SdkError::DispatchFailure(dispatch) if !dispatch.is_io() && !dispatch.is_timeout() => {
                StsError::OwnCredentials(Chain(error).to_string())
            }
            _ => StsError::Failed(Chain(error).to_string()),
        };
    };
    told(code)
}

/// The same of a failed exchange.
fn exchange_failure<R>(error: &SdkError<AssumeRoleWithWebIdentityError, R>) -> StsError
where
    R: std::fmt::Debug,
{
    error.code().map_or_else(|| StsError::Failed(Chain(error).to_string()), told_of_token)
}

/// What an error code of STS means where a token was shown: that one has ended, and not the gateway's own.
fn told_of_token(code: &str) -> StsError {
    match code {
        "InvalidIdentityToken"
        | "InvalidIdentityTokenException"
        | "IDPRejectedClaim"
        | "IDPRejectedClaimException" => StsError::TokenRefused(code.to_owned()),
        "ExpiredToken" | "ExpiredTokenException" => StsError::TokenEnded,
        // and so `IDPCommunicationError`, which has been tried again by then
        other => told(other),
    }
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
mod tests;
