//! What to do with a request of the MCP server: pure, over its method, target and headers.
//!
//! Two plain-http names are the catalog's; there alone the stand-in is worth the user's bearer. All
//! else is a destination that the class lists, or is refused. This module must not know sockets or
//! the bearer itself.

use super::{
    keys::{self, Asker},
    origin::{InvalidOrigin, Origin, port_of},
    refusal::Reason,
};
use crate::agent::held_grant::StandIn;
use http::{HeaderMap, HeaderValue, Method, Uri, header, uri::Scheme};
use patchbay_core::{
    boot::{RelayBoot, RelayCatalog},
    egress::{EgressPolicy, Means},
};

/// Where requests may go.
#[derive(Debug)]
pub(crate) struct Destinations {
    /// What the class lists.
    pub(crate) policy: EgressPolicy,
    origins: Option<Origins>,
    /// Whether AWS keys are asked for here.
    aws_keys: bool,
}

/// The two origins that the user's bearer is for.
#[derive(Debug)]
pub(crate) struct Origins {
    /// The catalog.
    pub(crate) catalog: Origin,
    /// The registry.
    pub(crate) registry: Origin,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// Send it over https to this origin.
    Originate(&'a Origin, Authorization),
    /// Answer it with the grant's AWS keys.
    Keys(Asker),
    /// Send it as it is to this host and port.
    Plain(Target),
    /// Connect, and pass bytes.
    Tunnel(Target),
    /// Answer with this.
    Refuse(Reason),
}

/// Whether the user's bearer goes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// In the place of the stand-in.
    Swap,
    /// None was presented, none is sent.
    None,
}

/// A host, without the brackets of an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// DNS name or IP address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl Destinations {
    /// What a boot document says.
    pub(crate) fn new(boot: &RelayBoot) -> Result<Self, InvalidOrigin> {
        let origins = |catalog: &RelayCatalog| {
            Ok(Origins {
                catalog: Origin::parse(&catalog.origin)?,
                registry: Origin::parse(&catalog.registry)?,
            })
        };
        Ok(Self {
            policy: EgressPolicy::new(boot.hosts.iter().cloned()),
            origins: boot.catalog.as_ref().map(origins).transpose()?,
            aws_keys: boot.aws_keys,
        })
    }

    /// The class's catalog and registry.
    pub(crate) const fn origins(&self) -> Option<&Origins> {
        self.origins.as_ref()
    }

    /// Whether an origin's AWS keys, which it makes of the user's bearer, are not the ones of this class.
    fn has_other_keys(&self, origin: &Origin) -> bool {
        let is_registry = self.origins.as_ref().is_some_and(|origins| *origin == origins.registry);
        self.aws_keys && is_registry
    }

    /// The origin whose plain name this is. Where one origin is both, it is that one.
    fn origin_named(&self, host: &str, port: Option<u16>) -> Option<&Origin> {
        let Origins { catalog, registry } = self.origins.as_ref()?;
        [catalog, registry].into_iter().find(|origin| origin.is_plainly(host, port))
    }
}

impl Target {
    /// Of a URL's host.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self { host: bare.to_owned(), port }
    }
}

/// Decides; `stand_in` is that of the present grant.
pub(crate) fn decide<'a>(
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    destinations: &'a Destinations,
    stand_in: Option<&StandIn>,
) -> Route<'a> {
    if destinations.aws_keys && keys::is_own_address(target) {
        return own(method, headers, stand_in);
    }
    let Some(authority) = target.authority() else {
        return Route::Refuse(Reason::InvalidTarget);
    };
    let Ok(port) = port_of(authority) else {
        return Route::Refuse(Reason::InvalidTarget);
    };
    let host = authority.host();
    let is_http = target.scheme() == Some(&Scheme::HTTP);
    match (method == Method::CONNECT, target.scheme(), port) {
        (true, None, Some(port)) => tunnel(host, port, &destinations.policy),
        (false, Some(_), _) if is_http => match destinations.origin_named(host, port) {
            Some(origin) => match originate(method, headers, origin, stand_in) {
                Route::Originate(_, Authorization::Swap) if destinations.has_other_keys(origin) => {
                    registry(method, target.path(), origin)
                }
                route => route,
            },
            None => plain(target, host, port.unwrap_or(80), headers, destinations, stand_in),
        },
        _ => Route::Refuse(Reason::InvalidTarget),
    }
}

/// A request with the user's bearer of a registry whose keys are not the class's.
fn registry<'a>(method: &Method, path: &str, origin: &'a Origin) -> Route<'a> {
    if keys::is_asked_of_registry(method, path) {
        Route::Keys(Asker::Quilt3)
    } else if keys::may_mean_the_registrys(path) {
        Route::Refuse(Reason::PathNotAllowed)
    } else {
        Route::Originate(origin, Authorization::Swap)
    }
}

/// A request of an AWS SDK. It presents the token without a scheme.
fn own<'a>(method: &Method, headers: &HeaderMap, stand_in: Option<&StandIn>) -> Route<'a> {
    let Some(stand_in) = stand_in else {
        return Route::Refuse(Reason::NoGrant);
    };
    if method != Method::GET {
        return Route::Refuse(Reason::MethodNotAllowed);
    }
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    match (presented.next(), presented.next()) {
        (Some(value), None) if stand_in.is(value.as_bytes()) => Route::Keys(Asker::Sdk),
        _ => Route::Refuse(Reason::ForeignCredential),
    }
}

fn tunnel<'a>(host: &str, port: u16, policy: &EgressPolicy) -> Route<'a> {
    if policy.allows(host, port, Means::Tunnel) {
        Route::Tunnel(Target::new(host, port))
    } else {
        Route::Refuse(Reason::HostNotAllowed)
    }
}

fn originate<'a>(
    method: &Method,
    headers: &HeaderMap,
    origin: &'a Origin,
    stand_in: Option<&StandIn>,
) -> Route<'a> {
    let Some(stand_in) = stand_in else {
        return Route::Refuse(Reason::NoGrant);
    };
    // its answer is the request itself, bearer included
    if method == Method::TRACE {
        return Route::Refuse(Reason::MethodNotAllowed);
    }
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    match (presented.next(), presented.next()) {
        (None, _) => Route::Originate(origin, Authorization::None),
        (Some(value), None) if bearer(value).is_some_and(|token| stand_in.is(token)) => {
            Route::Originate(origin, Authorization::Swap)
        }
        _ => Route::Refuse(Reason::ForeignCredential),
    }
}

fn plain<'a>(
    target: &Uri,
    host: &str,
    port: u16,
    headers: &HeaderMap,
    destinations: &Destinations,
    stand_in: Option<&StandIn>,
) -> Route<'a> {
    if !destinations.policy.allows(host, port, Means::PlainHttp) {
        return Route::Refuse(Reason::HostNotAllowed);
    }
    let path = target.path_and_query().map(|path| path.as_str().as_bytes());
    let mut texts = headers.values().map(HeaderValue::as_bytes).chain(path);
    if stand_in.is_some_and(|stand_in| texts.any(|text| stand_in.is_in(text))) {
        return Route::Refuse(Reason::SessionElsewhere);
    }
    Route::Plain(Target::new(host, port))
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::class::HostPort;
    use proptest::prelude::*;

    const STAND_IN: &str = "pod-stand-in";

    fn listed(host: &str, port: u16, plain_http: bool) -> HostPort {
        HostPort { host: host.into(), port, plain_http }
    }

    fn destinations() -> Destinations {
        Destinations::new(&RelayBoot {
            hosts: vec![
                listed("api.example", 443, false),
                listed("127.0.0.2", 5000, true),
                listed("plain.example", 80, true),
                listed("::1", 6000, true),
                listed("catalog.example", 443, false),
                listed("registry.example", 8443, false),
            ],
            catalog: Some(RelayCatalog {
                origin: "https://catalog.example".into(),
                registry: "https://registry.example:8443".into(),
                ca_bundle: None,
            }),
            aws_keys: false,
            via: None,
        })
        .unwrap()
    }

    fn with_keys() -> Destinations {
        Destinations { aws_keys: true, ..destinations() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// Decides with the session of a bound worker.
    fn route<'a>(
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        destinations: &'a Destinations,
    ) -> Route<'a> {
        let stand_in = StandIn::new(STAND_IN);
        decide(method, &target.parse().unwrap(), headers, destinations, Some(&stand_in))
    }

    #[test]
    fn the_two_plain_names_lead_to_their_origins_and_the_stand_in_is_swapped() {
        let d = destinations();
        let Origins { catalog, registry } = d.origins().unwrap();
        for (target, origin) in [
            ("http://catalog.example/config.json", catalog),
            ("http://CATALOG.example:80/", catalog),
            ("http://registry.example/graphql", registry),
        ] {
            for (presented, expected) in [
                (headers(&[]), Authorization::None),
                (headers(&[("authorization", "Bearer pod-stand-in")]), Authorization::Swap),
                (headers(&[("authorization", "bearer  pod-stand-in ")]), Authorization::Swap),
            ] {
                let route = route(&Method::POST, target, &presented, &d);
                assert_eq!(route, Route::Originate(origin, expected), "{target} {presented:?}");
            }
        }
    }

    #[test]
    fn any_other_credential_for_the_catalog_is_refused() {
        let d = destinations();
        for presented in [
            headers(&[("authorization", "Bearer pod-stand-i")]),
            headers(&[("authorization", "Bearer pod-stand-in2")]),
            headers(&[("authorization", "Bearer")]),
            headers(&[("authorization", "Basic pod-stand-in")]),
            headers(&[("authorization", "pod-stand-in")]),
            headers(&[
                ("authorization", "Bearer pod-stand-in"),
                ("authorization", "Bearer pod-stand-in"),
            ]),
        ] {
            let route = route(&Method::GET, "http://catalog.example/", &presented, &d);
            assert_eq!(route, Route::Refuse(Reason::ForeignCredential), "{presented:?}");
        }
        let trace = route(&Method::TRACE, "http://catalog.example/", &headers(&[]), &d);
        assert_eq!(trace, Route::Refuse(Reason::MethodNotAllowed));
    }

    #[test]
    fn nobody_reaches_the_catalog_before_a_grant_is_held() {
        let target = "http://catalog.example/".parse().unwrap();
        let d = destinations();
        let route = decide(&Method::GET, &target, &headers(&[]), &d, None);
        assert_eq!(route, Route::Refuse(Reason::NoGrant));
    }

    #[test]
    fn keys_are_for_who_presents_the_stand_in_at_one_of_two_places() {
        let d = with_keys();
        let bare = headers(&[("authorization", "pod-stand-in")]);
        let bearer = headers(&[("authorization", "Bearer pod-stand-in")]);
        let own = "/.patchbay/aws-credentials";
        let absolute = format!("http://127.0.0.1:3128{own}");
        let registry = "http://registry.example/api/auth/get_credentials";
        for target in [own, absolute.as_str()] {
            assert_eq!(route(&Method::GET, target, &bare, &d), Route::Keys(Asker::Sdk), "{target}");
            let post = route(&Method::POST, target, &bare, &d);
            assert_eq!(post, Route::Refuse(Reason::MethodNotAllowed), "{target}");
            for other in [&headers(&[]), &bearer, &headers(&[("authorization", "pod-other")])] {
                let route = route(&Method::GET, target, other, &d);
                assert_eq!(route, Route::Refuse(Reason::ForeignCredential), "{target} {other:?}");
            }
            let early = decide(&Method::GET, &target.parse().unwrap(), &bare, &d, None);
            assert_eq!(early, Route::Refuse(Reason::NoGrant));
        }
        assert_eq!(route(&Method::GET, registry, &bearer, &d), Route::Keys(Asker::Quilt3));
        let elsewise = [
            (Method::POST, registry),
            (Method::GET, "http://registry.example//api/auth/get_credentials"),
            (Method::GET, "http://registry.example/api/auth/get%5Fcredentials"),
        ];
        for (method, target) in elsewise {
            let refused = route(&method, target, &bearer, &d);
            assert_eq!(refused, Route::Refuse(Reason::PathNotAllowed), "{method} {target}");
        }
        let refused = route(&Method::GET, registry, &bare, &d);
        assert_eq!(refused, Route::Refuse(Reason::ForeignCredential));
        for target in
            ["http://registry.example/graphql", "http://catalog.example/api/auth/get_credentials"]
        {
            let route = route(&Method::GET, target, &bearer, &d);
            assert!(
                matches!(route, Route::Originate(_, Authorization::Swap)),
                "{target} {route:?}"
            );
        }
    }

    #[test]
    fn where_a_class_grants_no_keys_nothing_is_answered_for_them() {
        let d = destinations();
        let bearer = headers(&[("authorization", "Bearer pod-stand-in")]);
        let registry = "http://registry.example/api/auth/get_credentials";
        let route_of = |target| route(&Method::GET, target, &bearer, &d);
        assert!(matches!(route_of(registry), Route::Originate(_, Authorization::Swap)));
        assert_eq!(route_of("/.patchbay/aws-credentials"), Route::Refuse(Reason::InvalidTarget));
    }

    #[test]
    fn a_listed_host_is_reached_by_the_means_it_is_listed_for() {
        let d = destinations();
        let none = headers(&[]);
        let to = |host: &str, port| Target { host: host.into(), port };
        let refused = || Route::Refuse(Reason::HostNotAllowed);
        for (method, target, expected) in [
            (Method::CONNECT, "api.example:443", Route::Tunnel(to("api.example", 443))),
            (Method::CONNECT, "catalog.example:443", Route::Tunnel(to("catalog.example", 443))),
            (Method::CONNECT, "[::1]:6000", Route::Tunnel(to("::1", 6000))),
            (Method::CONNECT, "catalog.example:80", refused()),
            (Method::CONNECT, "evil.example:443", refused()),
            (Method::PUT, "http://127.0.0.2:5000/b/k", Route::Plain(to("127.0.0.2", 5000))),
            (Method::GET, "http://plain.example/", Route::Plain(to("plain.example", 80))),
            (Method::GET, "http://[::1]:6000/", Route::Plain(to("::1", 6000))),
            (Method::GET, "http://api.example:443/", refused()),
            (Method::GET, "http://catalog.example:443/", refused()),
            (Method::GET, "http://registry.example:8443/", refused()),
            (Method::GET, "http://169.254.169.254/", refused()),
        ] {
            assert_eq!(route(&method, target, &none, &d), expected, "{method} {target}");
        }
    }

    #[test]
    fn the_stand_in_goes_nowhere_else() {
        let d = destinations();
        let refused = Route::Refuse(Reason::SessionElsewhere);
        for (name, value) in
            [("authorization", "Bearer pod-stand-in"), ("x-any", "a pod-stand-in b")]
        {
            let presented = headers(&[(name, value)]);
            assert_eq!(route(&Method::GET, "http://plain.example/", &presented, &d), refused);
        }
        let target = "http://plain.example/x?token=pod-stand-in";
        assert_eq!(route(&Method::GET, target, &headers(&[]), &d), refused);
    }

    #[test]
    fn what_is_no_proxy_request_is_refused() {
        let d = destinations();
        for (method, target) in [
            (Method::GET, "/"),
            (Method::OPTIONS, "*"),
            (Method::GET, "api.example:443"),
            (Method::GET, "https://api.example/"),
            (Method::GET, "https://catalog.example/"),
            (Method::CONNECT, "api.example"),
            (Method::CONNECT, "http://api.example:443/"),
            (Method::CONNECT, "u@api.example:443"),
            (Method::GET, "http://u:p@plain.example/"),
            (Method::GET, "http://plain.example:99999/"),
            (Method::GET, "ftp://plain.example/"),
        ] {
            let route = route(&method, target, &headers(&[]), &d);
            assert_eq!(route, Route::Refuse(Reason::InvalidTarget), "{method} {target}");
        }
    }

    #[test]
    fn without_a_catalog_no_name_is_special() {
        let d = Destinations::new(&RelayBoot::default()).unwrap();
        let presented = headers(&[("authorization", "Bearer pod-stand-in")]);
        let route = route(&Method::GET, "http://catalog.example/", &presented, &d);
        assert_eq!(route, Route::Refuse(Reason::HostNotAllowed));
    }

    proptest! {
        #[test]
        fn the_bearer_goes_to_the_two_origins_for_the_stand_in_alone(
            method in "(GET|POST|CONNECT|TRACE|OPTIONS)",
            scheme in "(http://|https://|)",
            host in "((catalog|registry|plain)\\.example|127\\.0\\.0\\.2|[a-z.]{1,12})",
            port in "(:80|:443|:8443|:5000|)",
            path in "(/[a-z]{0,5}|)",
            scheme_word in "(Bearer|bearer|Basic|)",
            token in "(pod-stand-in|pod-[a-z]{0,8}|)",
            copies in 0..3_usize,
        ) {
            let Ok(target) = format!("{scheme}{host}{port}{path}").parse::<Uri>() else {
                return Ok(());
            };
            let value = HeaderValue::from_str(&format!("{scheme_word} {token}")).unwrap();
            let mut presented = HeaderMap::new();
            for _ in 0..copies {
                presented.append(header::AUTHORIZATION, value.clone());
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let d = destinations();
            let stand_in = StandIn::new(STAND_IN);
            let route = decide(&method, &target, &presented, &d, Some(&stand_in));
            if let Route::Originate(origin, Authorization::Swap) = route {
                prop_assert_eq!(target.scheme_str(), Some("http"));
                prop_assert!(host == "catalog.example" || host == "registry.example");
                prop_assert_eq!(origin.authority().host(), host);
                prop_assert!(port.is_empty() || port == ":80");
                prop_assert!(copies == 1 && token == STAND_IN);
                prop_assert!(scheme_word.eq_ignore_ascii_case("bearer"));
            }
            if matches!(route, Route::Plain(_)) && copies > 0 {
                prop_assert!(!token.contains(STAND_IN));
            }
        }
    }
}
