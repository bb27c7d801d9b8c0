//! What STS is asked over the wire, for how long and how often; and what its answers are told as.

use super::*;
use crate::aws::{self, tests::identity};
use aws_sdk_sts::primitives::DateTime;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
};
use patchbay_core::{
    class::{AssumeRole, SessionPolicy},
    digest::Digest,
    entitlement::Entitlement,
    id::ClassName,
};
use tokio::time::Instant;

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
fn an_answer_that_cannot_be_read_is_not_told_because_keys_may_be_in_it() {
    let body = "<Credentials><SecretAccessKey>wJalrXUtnFEMI</SecretAccessKey>";
    let answer = HttpResponse::new(200.try_into().unwrap(), body.into());
    let error = SdkError::response_error("it has no end", answer);
    for told in [exchange_failure(&error), failure(&error)] {
        assert_eq!(told, StsError::Failed("response error: it has no end".into()));
    }
}

#[test]
fn keys_that_have_ended_are_none() {
    let now = Timestamp::now();
    let ending = |after: i64| {
        let end = DateTime::from_secs(now.as_second() + after);
        let keys = Credentials::builder().access_key_id("ASIAX").secret_access_key("s");
        keys.session_token("t").expiration(end).build().unwrap()
    };
    assert!(super::given(Some(&ending(60)), "us-east-1").is_ok());
    for ended in [Some(ending(-1)), None] {
        let refused = super::given(ended.as_ref(), "us-east-1").map(drop);
        assert_eq!(refused, Err(StsError::NotTemporary));
    }
}

#[test]
fn own_keys_end_when_they_say_or_are_looked_for_again() {
    let now = Timestamp::from_second(1_767_225_600).unwrap();
    let own = |id: &str, end: Option<Timestamp>| {
        let token = Some("t".to_owned());
        let found = OwnCredentials::new(id, "s", token, end.map(Into::into), "test");
        assert!(is_temporary(&found));
        kept_of(&found, "us-east-1", now)
    };
    let end = now + SignedDuration::from_hours(2);
    assert_eq!(own("ASIAX", Some(end)).unwrap().expires_at, end);
    assert_eq!(own("ASIAX", None).unwrap().expires_at, now + UNTOLD);
    assert!(own("AKIAX", None).is_none());
    assert!(!is_temporary(&OwnCredentials::new("AKIAX", "s", None, None, "test")));
}

#[test]
fn every_code_is_told_as_what_can_be_done_about_it() {
    assert_eq!(told("AccessDenied"), StsError::Denied);
    assert_eq!(told("PackedPolicyTooLarge"), StsError::PackedTooLarge);
    assert_eq!(told("Throttling"), StsError::Throttled);
    assert_eq!(told("ExpiredToken"), StsError::OwnCredentials("ExpiredToken".into()));
    assert_eq!(told("ValidationError"), StsError::Invalid("ValidationError".into()));
    assert_eq!(told("InternalFailure"), StsError::Failed("InternalFailure".into()));
    for code in ["InvalidIdentityToken", "IDPRejectedClaim"] {
        assert_eq!(told_of_token(code), StsError::TokenRefused(code.into()));
    }
    assert_eq!(told_of_token("ExpiredTokenException"), StsError::TokenEnded);
    assert_eq!(told_of_token("AccessDenied"), StsError::Denied);
    let away = "IDPCommunicationError";
    assert_eq!(told_of_token(away), StsError::Failed(away.into()));
}

/// Where, and by whose signature.
type Asked = (String, Option<String>);

/// In the place of all endpoints: it remembers where it was asked and who signed, and answers with an error or never.
#[derive(Debug, Clone)]
struct Endpoints {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Option<(u16, &'static str)>,
}

impl HttpConnector for Endpoints {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let signed = request.headers().get("authorization").map(str::to_owned);
        self.asked.lock().push((request.uri().to_owned(), signed));
        let Some((status, code)) = self.answer else {
            return HttpConnectorFuture::new(std::future::pending());
        };
        let text = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
        );
        let answer = http::Response::builder().status(status).body(text.into()).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::try_from(answer).unwrap()))
    }
}

impl Endpoints {
    fn new(answer: Option<(u16, &'static str)>) -> Self {
        Self { asked: Arc::default(), answer }
    }

    /// STS there, with an identity of its own.
    async fn sts(&self) -> AwsSts {
        let double = self.clone();
        let http = http_client_fn(move |_, _| SharedHttpConnector::new(double.clone()));
        let (clients, unsigned) = (Mutex::default(), Mutex::default());
        let sts = AwsSts { http, own: OnceCell::new(), clients, unsigned };
        let keys = OwnCredentials::new("AKIAX", "s", None, None, "test");
        let own = sts.loader(Region::new("us-east-1")).credentials_provider(keys).load().await;
        AwsSts { own: OnceCell::from(own), ..sts }
    }

    fn count(&self) -> usize {
        self.asked.lock().len()
    }
}

fn asked(region: &str) -> Assume {
    let source = AssumeRole {
        session_policy: SessionPolicy::WhenClaimed,
        region: region.into(),
        ..aws::tests::source()
    };
    let class = ClassName::parse("c").unwrap();
    aws::assume(&source, &class, &identity(Entitlement::default())).unwrap()
}

fn shown(region: &str) -> Exchange {
    let Assume { role, policy, duration, region, endpoint, subject, .. } = asked(region);
    let (token, digest, ends) = ("token".into(), Digest::of(b"token"), Timestamp::MAX);
    Exchange { role, policy, duration, region, endpoint, subject, token, digest, ends }
}

#[tokio::test]
async fn each_region_is_asked_at_its_own_endpoint_and_signed_for_or_at_the_one_that_a_class_names()
{
    let endpoints = Endpoints::new(Some((403, "AccessDenied")));
    let sts = endpoints.sts().await;
    for (region, named, host) in [
        ("eu-west-1", None, "https://sts.eu-west-1.amazonaws.com/"),
        // the global endpoint is another one
        ("us-east-1", None, "https://sts.us-east-1.amazonaws.com/"),
        ("us-gov-west-1", None, "https://sts.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", None, "https://sts.cn-north-1.amazonaws.com.cn/"),
        ("eu-west-1", Some("https://sts.example"), "https://sts.example/"),
    ] {
        endpoints.asked.lock().clear();
        let named = named.map(str::to_owned);
        let assume = Assume { endpoint: named.clone(), ..asked(region) };
        assert_eq!(sts.assume(&assume, "n").await.map(drop), Err(StsError::Denied));
        let exchange = Exchange { endpoint: named, ..shown(region) };
        assert_eq!(sts.exchange(&exchange, "n").await.map(drop), Err(StsError::Denied));
        let asked = endpoints.asked.lock().clone();
        let [(by_role, Some(signed)), (by_token, None)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((by_role.as_str(), by_token.as_str()), (host, host));
        assert!(signed.contains(&format!("/{region}/sts/aws4_request")), "{signed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_is_given_up_within_the_limit_and_asked_more_than_once() {
    let endpoints = Endpoints::new(None);
    let sts = endpoints.sts().await;
    for by_token in [false, true] {
        endpoints.asked.lock().clear();
        let begun = Instant::now();
        let answer = if by_token {
            sts.exchange(&shown("eu-west-1"), "n").await
        } else {
            sts.assume(&asked("eu-west-1"), "n").await
        };
        assert!(matches!(answer, Err(StsError::Failed(_))), "{answer:?}");
        let took = begun.elapsed();
        assert!(took <= LIMIT + Duration::from_millis(100), "{took:?}");
        assert!(took >= TRY_LIMIT * 2, "{took:?}");
        assert!((2..=TRIES as usize).contains(&endpoints.count()), "{}", endpoints.count());
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_a_few_times_and_a_refusal_is_not() {
    for (answer, told, tries) in [
        ((500, "InternalFailure"), StsError::Failed("InternalFailure".into()), TRIES),
        ((503, "ServiceUnavailable"), StsError::Failed("ServiceUnavailable".into()), TRIES),
        ((400, "Throttling"), StsError::Throttled, TRIES),
        ((400, "IDPCommunicationError"), StsError::Failed("IDPCommunicationError".into()), TRIES),
        ((403, "AccessDenied"), StsError::Denied, 1),
        ((400, "ExpiredToken"), StsError::TokenEnded, 1),
    ] {
        let endpoints = Endpoints::new(Some(answer));
        let sts = endpoints.sts().await;
        assert_eq!(sts.exchange(&shown("eu-west-1"), "n").await.map(drop), Err(told));
        assert_eq!(endpoints.count(), tries as usize, "{answer:?}");
    }
}
