//! AWS Signature Version 4 of a form POST to `/`: pure, so that it can be checked against AWS's own
//! test vector. Nothing else is signed here: STS is all that the registry calls.

use super::world::AwsKey;
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use jiff::{Timestamp, tz::TimeZone};
use patchbay_core::digest::Digest;
use secrecy::ExposeSecret;

/// The body's media type; part of what is signed.
pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// What a request is signed for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Whose key.
    pub key: &'a AwsKey,
    /// Region.
    pub region: &'a str,
    /// Service, such as `sts`.
    pub service: &'a str,
}

/// The two headers that a signature adds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SignedHeaders {
    /// `X-Amz-Date`.
    pub date: String,
    /// `Authorization`.
    pub authorization: String,
}

/// Signs `POST /` with `body` to `host` at the time `now`.
pub(super) fn sign_form_post(
    scope: Scope<'_>,
    host: &str,
    body: &str,
    now: Timestamp,
) -> SignedHeaders {
    let utc = now.to_zoned(TimeZone::UTC);
    let date = utc.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = utc.strftime("%Y%m%d").to_string();
    let Scope { key, region, service } = scope;

    let signed = "content-type;host;x-amz-date";
    let headers = format!("content-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{date}\n");
    let body_digest = Digest::of(body.as_bytes());
    let canonical = format!("POST\n/\n\n{headers}\n{signed}\n{body_digest}");
    let range = format!("{day}/{region}/{service}/aws4_request");
    let canonical_digest = Digest::of(canonical.as_bytes());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{range}\n{canonical_digest}");

    let secret = format!("AWS4{}", key.secret_access_key.expose_secret());
    let signing_key = [day.as_str(), region, service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part));
    let signature = HEXLOWER.encode(&mac(&signing_key, &to_sign));
    let id = &key.access_key_id;
    SignedHeaders {
        date,
        authorization: format!(
            "AWS4-HMAC-SHA256 Credential={id}/{range}, SignedHeaders={signed}, \
             Signature={signature}"
        ),
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `post-x-www-form-urlencoded` of the test suite that AWS published for Signature Version 4.
    #[test]
    fn the_signature_is_that_of_the_published_vector() {
        let key = AwsKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        };
        let scope = Scope { key: &key, region: "us-east-1", service: "service" };
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let signed = sign_form_post(scope, "example.amazonaws.com", "Param1=value1", now);
        assert_eq!(signed.date, "20150830T123600Z");
        assert_eq!(
            signed.authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }
}
