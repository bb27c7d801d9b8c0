//! What a request is about, as IAM calls it: an action and a resource. What is not known is an error, and so refused. It
//! must not know who asks, or what they may do.

use anyhow::{Context, bail};
use axum::extract::Query;
use bytes::Bytes;
use http::{Method, Uri, request::Parts};
use std::collections::BTreeMap;

pub(super) type Form = BTreeMap<String, String>;

pub(super) fn form(body: &Bytes) -> anyhow::Result<Form> {
    let uri: Uri = format!("http://form/?{}", std::str::from_utf8(body)?).parse()?;
    Ok(Query::<Form>::try_from_uri(&uri)?.0)
}

/// The action and the resource that a request is about. What is not known is an error, and so refused.
pub(super) fn asked(
    service: &str,
    parts: &Parts,
    body: &Bytes,
) -> anyhow::Result<(String, String)> {
    match service {
        "sts" => Ok(("sts:GetCallerIdentity".into(), "*".into())),
        "iam" => {
            let action = form(body)?.remove("Action").context("no action")?;
            Ok((format!("iam:{action}"), "*".into()))
        }
        "s3" => s3(&parts.method, &parts.uri),
        other => {
            let target = parts.headers.get("x-amz-target").context("no target")?.to_str()?;
            let (_, action) = target.split_once('.').context("no action")?;
            Ok((format!("{other}:{action}"), "*".into()))
        }
    }
}

/// S3 in path style (Amazon S3 User Guide, "Required permissions for Amazon S3 API operations").
fn s3(method: &Method, uri: &Uri) -> anyhow::Result<(String, String)> {
    let (bucket, key) = uri
        .path()
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((uri.path().trim_start_matches('/'), ""));
    let query: Form = Query::<Form>::try_from_uri(uri)?.0;
    let has = |name: &str| query.contains_key(name);
    let action = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => "ListAllMyBuckets",
        ("GET", false, true) if has("location") => "GetBucketLocation",
        ("GET", false, true) if has("versions") => "ListBucketVersions",
        ("GET", false, true) if has("policy") => "GetBucketPolicy",
        ("GET", false, true) if has("versioning") => "GetBucketVersioning",
        ("GET" | "HEAD", false, true) => "ListBucket",
        ("GET" | "HEAD", false, false) if has("versionId") => "GetObjectVersion",
        ("GET" | "HEAD", false, false) => "GetObject",
        ("PUT" | "POST", false, false) => "PutObject",
        ("DELETE", false, false) => "DeleteObject",
        (method, ..) => bail!("{method} {uri} is not known"),
    };
    let resource = match (bucket, key) {
        ("", _) => "*".to_owned(),
        (bucket, "") => format!("arn:aws:s3:::{bucket}"),
        (bucket, key) => format!("arn:aws:s3:::{bucket}/{key}"),
    };
    Ok((format!("s3:{action}"), resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_s3_are_known_by_method_path_and_query() {
        let asked = |method: Method, uri: &str| s3(&method, &uri.parse().unwrap()).unwrap();
        assert_eq!(asked(Method::GET, "/"), ("s3:ListAllMyBuckets".into(), "*".into()));
        let list = ("s3:ListBucket".to_owned(), "arn:aws:s3:::b".to_owned());
        assert_eq!(asked(Method::GET, "/b?list-type=2&prefix=x"), list);
        assert_eq!(asked(Method::HEAD, "/b"), list);
        assert_eq!(asked(Method::GET, "/b/k/l").1, "arn:aws:s3:::b/k/l");
        assert_eq!(asked(Method::PUT, "/b/k").0, "s3:PutObject");
        assert!(s3(&Method::PATCH, &"/b/k".parse().unwrap()).is_err());
    }
}
