//! Counts what the broker asks of others for its users: roles that are assumed and tokens that are exchanged, by how it came
//! out. Answers are passed on as they come. It must not know what is asked, or for whom.

use async_trait::async_trait;
use http::StatusCode;
use patchbay_broker::{Answered, Assume, Exchange, Sts, StsError, TokenEndpoint};
use patchbay_core::{class::TokenExchange, grant::AwsGrant};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use secrecy::SecretString;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `assume_role`, `web_identity`, `own_identity` or `token_exchange`.
    kind: &'static str,
    /// `ok`, or why not in one word.
    outcome: &'static str,
}

/// What is counted, as `patchbay_broker_credentials_total`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Family<Labels, Counter>);

impl Counts {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help =
            "Roles that were assumed and tokens that were exchanged for users, by kind and outcome";
        registry.sub_registry_with_prefix("patchbay_broker").register(
            "credentials",
            help,
            counts.0.clone(),
        );
        counts
    }

    fn count(&self, kind: &'static str, outcome: &'static str) {
        self.0.get_or_create(&Labels { kind, outcome }).inc();
    }

    fn keys(
        &self,
        kind: &'static str,
        answer: Result<AwsGrant, StsError>,
    ) -> Result<AwsGrant, StsError> {
        self.count(kind, answer.as_ref().map_or_else(of_sts, |_| "ok"));
        answer
    }
}

/// Somebody who is asked, and what came of it counted.
pub(crate) struct Counted<T>(pub(crate) T, pub(crate) Counts);

#[async_trait]
impl<T: Sts> Sts for Counted<T> {
    async fn assume(&self, assume: &Assume, session_name: &str) -> Result<AwsGrant, StsError> {
        self.1.keys("assume_role", self.0.assume(assume, session_name).await)
    }

    async fn exchange(
        &self,
        exchange: &Exchange,
        session_name: &str,
    ) -> Result<AwsGrant, StsError> {
        self.1.keys("web_identity", self.0.exchange(exchange, session_name).await)
    }

    async fn own(&self, region: &str) -> Result<AwsGrant, StsError> {
        self.1.keys("own_identity", self.0.own(region).await)
    }
}

#[async_trait]
impl<T: TokenEndpoint> TokenEndpoint for Counted<T> {
    async fn post(
        &self,
        exchange: &TokenExchange,
        ca_bundle: Option<&str>,
        form: &[(&str, SecretString)],
    ) -> Result<Answered, String> {
        let answer = self.0.post(exchange, ca_bundle, form).await;
        let outcome =
            answer.as_ref().map_or("unreachable", |answered| of_endpoint(answered.status));
        self.1.count("token_exchange", outcome);
        answer
    }
}

const fn of_sts(error: &StsError) -> &'static str {
    match error {
        StsError::Denied => "denied",
        StsError::PackedTooLarge => "policy_too_large",
        StsError::Throttled => "throttled",
        StsError::Failed(_) => "failed",
        StsError::OwnCredentials(_) => "own_credentials",
        StsError::Invalid(_) => "invalid_request",
        StsError::TokenRefused(_) => "token_refused",
        StsError::TokenEnded => "token_ended",
        StsError::NotTemporary => "not_temporary",
    }
}

/// What a status says of an exchange: its body is for whoever asked.
fn of_endpoint(status: StatusCode) -> &'static str {
    if status.is_success() {
        "ok"
    } else if status == StatusCode::TOO_MANY_REQUESTS {
        "throttled"
    } else if status.is_client_error() {
        "denied"
    } else {
        "failed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    /// Knows one region, and nobody.
    struct Double;

    #[async_trait]
    impl Sts for Double {
        async fn assume(&self, _: &Assume, _: &str) -> Result<AwsGrant, StsError> {
            Err(StsError::Denied)
        }

        async fn exchange(&self, _: &Exchange, _: &str) -> Result<AwsGrant, StsError> {
            Err(StsError::TokenEnded)
        }

        async fn own(&self, region: &str) -> Result<AwsGrant, StsError> {
            let end = jiff::Timestamp::now();
            AwsGrant::temporary("ASIAX".into(), "s".into(), "t".into(), end, region.into())
                .filter(|_| region == "known")
                .ok_or(StsError::Throttled)
        }
    }

    #[tokio::test]
    async fn what_was_asked_is_counted_by_how_it_came_out_and_passed_on() {
        let mut registry = Registry::default();
        let sts = Counted(Double, Counts::register(&mut registry));
        assert!(sts.own("known").await.is_ok() && sts.own("known").await.is_ok());
        assert_eq!(sts.own("unknown").await.unwrap_err(), StsError::Throttled);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "patchbay_broker_credentials_total{kind=\"own_identity\",outcome=\"ok\"} 2",
            "patchbay_broker_credentials_total{kind=\"own_identity\",outcome=\"throttled\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn an_endpoints_status_tells_whose_doing_it_is() {
        let of = |status: u16| of_endpoint(StatusCode::from_u16(status).unwrap());
        assert_eq!(
            [200, 400, 401, 429, 500, 302].map(of),
            ["ok", "denied", "denied", "throttled", "failed", "failed"]
        );
    }
}
