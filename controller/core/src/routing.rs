//! Which class a request is for, and which providers may vouch for its sender.
//!
//! A table is built once from all classes and providers and is then only read; it is refused as a whole
//! if any part of it is ambiguous. This module must not know where documents come from.

use crate::{
    class::WorkerClass,
    id::ClassName,
    identity::Identity,
    provider::{IdentityProvider, Method},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One route: a class, and who may use it.
#[derive(Debug, Clone)]
pub struct Route {
    /// The class.
    pub class: Arc<WorkerClass>,
    /// The providers that list the class, by name.
    pub providers: Vec<Arc<IdentityProvider>>,
}

/// The mode of who has the gateway's own AWS identity. They proved who they are in one of the others.
const AMBIENT: &str = "ambient";

impl Route {
    /// The mode of an authenticated user, as logs and metrics tell it.
    pub fn mode(&self, identity: &Identity) -> &'static str {
        if self.class.credentials.is_ambient_for(identity) {
            AMBIENT
        } else {
            identity.mode.as_str()
        }
    }

    /// How its users may prove who they are, in words for logs.
    pub fn modes(&self) -> String {
        let modes: BTreeSet<_> =
            self.providers.iter().flat_map(|provider| provider.method.modes()).collect();
        let mut words: Vec<_> = modes.into_iter().map(|mode| mode.as_str()).collect();
        if self.class.credentials.is_ambient() {
            words.push(AMBIENT);
        }
        words.join(", ")
    }
}

/// All routes of a gateway.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// Why a set of classes and providers makes no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two classes would answer the same requests.
    #[error(
        "classes `{first}` and `{second}` both have the path `{path}`: give one of them another \
         `spec.path`, or each its own `spec.host`"
    )]
    SamePath {
        /// One class.
        first: ClassName,
        /// The other.
        second: ClassName,
        /// Their common path.
        path: String,
    },
    /// A provider names a class that does not exist.
    #[error(
        "identity provider `{provider}` lists the class `{class}`, which does not exist: correct \
         `spec.classes`, or add a WorkerClass of that name"
    )]
    UnknownClass {
        /// The provider.
        provider: String,
        /// The missing class.
        class: ClassName,
    },
    /// Nobody could ever use a class.
    #[error(
        "no identity provider lists the class `{0}`, so nobody could use it: add it to the \
         `spec.classes` of an IdentityProvider"
    )]
    Unreachable(ClassName),
    /// Two providers of one route would judge the same credentials.
    #[error(
        "identity providers `{first}` and `{second}` would judge the same credentials for the class \
         `{class}`: {rule}"
    )]
    SameJudge {
        /// One provider.
        first: String,
        /// The other.
        second: String,
        /// The class that both list.
        class: ClassName,
        /// The rule that this breaks.
        rule: &'static str,
    },
    /// One API key id in two providers of one route.
    #[error(
        "identity providers `{first}` and `{second}` both have an API key with the id `{id}` for the \
         class `{class}`: key ids must be unique per class"
    )]
    SameApiKeyId {
        /// One provider.
        first: String,
        /// The other.
        second: String,
        /// The key's id.
        id: String,
        /// The class that both list.
        class: ClassName,
    },
}

impl RouteTable {
    /// Builds the table, or says everything that is wrong.
    pub fn build(
        classes: &[Arc<WorkerClass>],
        providers: &[Arc<IdentityProvider>],
    ) -> Result<Self, Vec<RouteError>> {
        let mut errors = same_paths(classes);
        errors.extend(unknown_classes(classes, providers));
        let mut routes = Vec::with_capacity(classes.len());
        for class in classes {
            let mut listed: Vec<_> = providers
                .iter()
                .filter(|provider| provider.classes.contains(&class.name))
                .cloned()
                .collect();
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            if listed.is_empty() {
                errors.push(RouteError::Unreachable(class.name.clone()));
            }
            errors.extend(same_api_key_ids(class, &listed));
            errors.extend(same_judge(class, &listed));
            routes.push(Route { class: class.clone(), providers: listed });
        }
        sort_by_specificity(&mut routes);
        if errors.is_empty() { Ok(Self { routes }) } else { Err(errors) }
    }

    /// Builds the table of what can be used, and says everything that cannot. For a set that changes while it is
    /// served: one bad part must not take the others' users down, and nothing new may take over what is there.
    ///
    /// `classes` and `providers` are in order of age, oldest first, and the oldest wins: of two classes at one
    /// path it has the path, of two providers that would judge the same credentials of one class it judges them.
    /// The other one is not there, for that class, until the quarrel is settled.
    pub fn build_usable(
        classes: &[Arc<WorkerClass>],
        providers: &[Arc<IdentityProvider>],
    ) -> (Self, Vec<RouteError>) {
        let mut errors = Vec::new();
        let mut kept: Vec<Arc<WorkerClass>> = Vec::new();
        for class in classes {
            let with = [kept.as_slice(), std::slice::from_ref(class)].concat();
            let quarrels = same_paths(&with);
            if quarrels.is_empty() {
                kept = with;
            }
            errors.extend(quarrels);
        }
        let mut routes = Vec::new();
        for class in &kept {
            let mut listed: Vec<Arc<IdentityProvider>> = Vec::new();
            let candidates = providers.iter().filter(|p| p.classes.contains(&class.name));
            for provider in candidates {
                let with = [listed.as_slice(), std::slice::from_ref(provider)].concat();
                let mut quarrels = same_api_key_ids(class, &with);
                quarrels.extend(same_judge(class, &with));
                if quarrels.is_empty() {
                    listed = with;
                }
                errors.extend(quarrels);
            }
            if listed.is_empty() {
                errors.push(RouteError::Unreachable(class.name.clone()));
            }
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            routes.push(Route { class: class.clone(), providers: listed });
        }
        errors.extend(unknown_classes(classes, providers));
        sort_by_specificity(&mut routes);
        (Self { routes }, errors)
    }

    /// The route for a request's host (no port) and path, and the part of the path behind the route.
    pub fn find<'a, 'p>(&'a self, host: &str, path: &'p str) -> Option<(&'a Route, &'p str)> {
        self.routes.iter().find_map(|route| {
            let host_matches =
                route.class.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host));
            let rest = path.strip_prefix(route.class.path.as_str())?;
            let path_matches = rest.is_empty() || rest.starts_with('/');
            (host_matches && path_matches).then_some((route, rest))
        })
    }

    /// All routes, most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// Most specific first: a host before none, then the longer path.
fn sort_by_specificity(routes: &mut [Route]) {
    routes.sort_by(|a, b| {
        let key = |route: &Route| (route.class.host.is_none(), usize::MAX - route.class.path.len());
        key(a).cmp(&key(b)).then_with(|| a.class.name.cmp(&b.class.name))
    });
}

fn unknown_classes(
    classes: &[Arc<WorkerClass>],
    providers: &[Arc<IdentityProvider>],
) -> Vec<RouteError> {
    let is_known = |name: &ClassName| classes.iter().any(|known| known.name == *name);
    let unknown = |provider: &Arc<IdentityProvider>| {
        let classes = provider.classes.iter().filter(|class| !is_known(class));
        let provider = provider.name.to_string();
        let error = |class: &ClassName| RouteError::UnknownClass {
            provider: provider.clone(),
            class: class.clone(),
        };
        classes.map(error).collect::<Vec<_>>()
    };
    providers.iter().flat_map(unknown).collect()
}

fn same_paths(classes: &[Arc<WorkerClass>]) -> Vec<RouteError> {
    let mut seen: BTreeMap<(Option<&str>, &str), &WorkerClass> = BTreeMap::new();
    let mut errors = Vec::new();
    for class in classes {
        if let Some(first) = seen.insert((class.host.as_deref(), &class.path), class) {
            errors.push(RouteError::SamePath {
                first: first.name.clone(),
                second: class.name.clone(),
                path: class.path.clone(),
            });
        }
    }
    errors
}

/// A credential is judged by one provider, so of each kind there is one: one per issuer of JWTs, and one
/// that is asked about all else.
fn same_judge(class: &WorkerClass, providers: &[Arc<IdentityProvider>]) -> Vec<RouteError> {
    let mut seen: BTreeMap<Option<&str>, &IdentityProvider> = BTreeMap::new();
    let mut errors = Vec::new();
    for provider in providers {
        let (what, rule) = match &provider.method {
            Method::Jwt(jwt) => (Some(jwt.issuer.as_str()), "give each issuer one jwt provider"),
            Method::Introspection(_) => (None, "a class may have one introspection provider"),
            Method::ApiKeys(_) => continue,
        };
        if let Some(first) = seen.insert(what, provider) {
            errors.push(RouteError::SameJudge {
                first: first.name.to_string(),
                second: provider.name.to_string(),
                class: class.name.clone(),
                rule,
            });
        }
    }
    errors
}

fn same_api_key_ids(class: &WorkerClass, providers: &[Arc<IdentityProvider>]) -> Vec<RouteError> {
    let mut seen: BTreeMap<&str, &IdentityProvider> = BTreeMap::new();
    let mut errors = Vec::new();
    for provider in providers {
        let Method::ApiKeys(keys) = &provider.method else { continue };
        for key in &keys.keys {
            if let Some(first) = seen.insert(&key.id, provider) {
                errors.push(RouteError::SameApiKeyId {
                    first: first.name.to_string(),
                    second: provider.name.to_string(),
                    id: key.id.clone(),
                    class: class.name.clone(),
                });
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{api_keys, class, introspection, jwt};

    fn build(
        classes: Vec<WorkerClass>,
        providers: Vec<IdentityProvider>,
    ) -> Result<RouteTable, Vec<RouteError>> {
        let classes: Vec<_> = classes.into_iter().map(Arc::new).collect();
        let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
        RouteTable::build(&classes, &providers)
    }

    #[test]
    fn a_path_matches_whole_segments_only() {
        let table = build(vec![class("a", "/mcp")], vec![api_keys("p", &["a"], &[])]).unwrap();
        assert_eq!(table.find("h", "/mcp").unwrap().1, "");
        assert_eq!(table.find("h", "/mcp/messages").unwrap().1, "/messages");
        for other in ["/mcpx", "/", "/v1/bind", "/MCP", "//mcp"] {
            assert!(table.find("h", other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_route_says_how_its_users_may_prove_who_they_are_each_way_once() {
        let providers = vec![
            jwt("staff", &["a"], "https://i"),
            introspection("catalog", &["a"]),
            api_keys("agents", &["a"], &[]),
        ];
        let table = build(vec![class("a", "/mcp")], providers).unwrap();
        assert_eq!(table.routes()[0].modes(), "api_key, jwt, opaque");
    }

    #[test]
    fn the_longest_path_and_the_named_host_win() {
        let mut hosted = class("hosted", "/mcp");
        hosted.host = Some("one.example".into());
        let table = build(
            vec![class("short", "/mcp"), class("long", "/mcp/deep"), hosted],
            vec![api_keys("p", &["short", "long", "hosted"], &[])],
        )
        .unwrap();
        let name = |host, path| table.find(host, path).unwrap().0.class.name.to_string();
        assert_eq!(name("other.example", "/mcp/x"), "short");
        assert_eq!(name("other.example", "/mcp/deep/x"), "long");
        assert_eq!(name("ONE.example", "/mcp/x"), "hosted");
    }

    #[test]
    fn two_providers_that_would_judge_the_same_credential_are_refused() {
        let same_issuer = build(
            vec![class("a", "/mcp")],
            vec![jwt("one", &["a"], "https://i"), jwt("two", &["a"], "https://i")],
        );
        let two_asked = build(
            vec![class("a", "/mcp")],
            vec![introspection("one", &["a"]), introspection("two", &["a"])],
        );
        for refused in [same_issuer, two_asked] {
            assert!(matches!(refused.unwrap_err()[..], [RouteError::SameJudge { .. }]));
        }
        let apart = vec![
            jwt("one", &["a"], "https://i"),
            jwt("two", &["a"], "https://j"),
            introspection("three", &["a"]),
        ];
        assert!(build(vec![class("a", "/mcp")], apart).is_ok());
    }

    #[test]
    fn an_ambiguous_or_useless_set_is_refused_with_every_reason() {
        let errors = build(
            vec![class("a", "/mcp"), class("b", "/mcp"), class("c", "/c")],
            vec![api_keys("p", &["a", "b", "nope"], &["k1"]), api_keys("q", &["a"], &["k1"])],
        )
        .unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        for error in &errors {
            assert!(error.to_string().contains('`'), "{error}");
        }
    }

    #[test]
    fn of_two_that_quarrel_the_older_is_there_and_the_others_are_not_touched() {
        let classes = [class("old", "/mcp"), class("other", "/o"), class("new", "/mcp")];
        let providers = [
            jwt("old-issuer", &["old"], "https://i"),
            jwt("new-issuer", &["old", "other", "nope"], "https://i"),
            api_keys("old-keys", &["old"], &["k1"]),
            api_keys("new-keys", &["old", "other"], &["k1", "k2"]),
        ];
        let (classes, providers) = (classes.map(Arc::new), providers.map(Arc::new));
        let (table, errors) = RouteTable::build_usable(&classes, &providers);
        let named = |route: &Route| {
            let providers = route.providers.iter().map(|p| p.name.to_string());
            (route.class.name.to_string(), providers.collect::<Vec<_>>().join(" "))
        };
        let routes: Vec<_> = table.routes().iter().map(named).collect();
        let expected = [("old", "old-issuer old-keys"), ("other", "new-issuer new-keys")];
        assert_eq!(routes, expected.map(|(class, judges)| (class.to_owned(), judges.to_owned())));
        assert!(matches!(
            errors[..],
            [
                RouteError::SamePath { .. },
                RouteError::SameJudge { .. },
                RouteError::SameApiKeyId { .. },
                RouteError::UnknownClass { .. },
            ]
        ));
        // the same set is refused as a whole where it is read once
        assert!(RouteTable::build(&classes, &providers).is_err());
    }

    #[test]
    fn a_class_that_nobody_vouches_for_is_there_and_lets_nobody_in() {
        let (table, errors) = RouteTable::build_usable(&[Arc::new(class("a", "/mcp"))], &[]);
        assert!(table.find("h", "/mcp").unwrap().0.providers.is_empty());
        assert!(matches!(errors[..], [RouteError::Unreachable(_)]));
    }
}
