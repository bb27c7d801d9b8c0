//! Classes and providers as they are now, each checked by itself.
//!
//! What an administrator wrote wrongly must not shut out users who are served, nor let anybody in. So of a class
//! the last good version stays until it is corrected or deleted; a provider that is wrong is no provider at all,
//! because nobody knows whom its author wanted to keep out. This module must not know routes.

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};
use patchbay_core::{class, provider};
use patchbay_crds::{
    IdentityProvider, WorkerClass,
    validate::{self, FieldError},
};
use std::{collections::BTreeMap, sync::Arc};

/// All classes and providers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    classes: Kind<class::WorkerClass>,
    providers: Kind<provider::IdentityProvider>,
}

/// All objects of one kind.
#[derive(Debug, Clone, PartialEq)]
struct Kind<T>(BTreeMap<String, Definition<T>>);

impl<T> Default for Kind<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Definition<T> {
    created: Timestamp,
    /// What is used.
    good: Option<Arc<T>>,
    /// What is wrong with what is written.
    wrong: Option<Arc<str>>,
}

/// Something that is written wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Its kind and name, as in `kubectl get`.
    pub object: String,
    /// What is wrong, and what is used in its place.
    pub problem: String,
}

impl Definitions {
    /// The classes that can be used, oldest first.
    pub fn classes(&self) -> Vec<Arc<class::WorkerClass>> {
        self.classes.good()
    }

    /// The providers that can be used, oldest first.
    pub fn providers(&self) -> Vec<Arc<provider::IdentityProvider>> {
        self.providers.good()
    }

    /// What these objects say, as a gateway that has just begun would have it.
    pub fn of(classes: &[WorkerClass], providers: &[IdentityProvider]) -> Self {
        let mut definitions = Self::default();
        for class in classes {
            definitions.class_seen(class);
        }
        for provider in providers {
            definitions.provider_seen(provider);
        }
        definitions
    }

    /// A class.
    pub fn class(&self, name: &patchbay_core::id::ClassName) -> Option<Arc<class::WorkerClass>> {
        self.classes.0.get(name.as_str())?.good.clone()
    }

    /// What cannot be used as it is written.
    pub fn wrong(&self) -> Vec<Wrong> {
        let classes = self.classes.wrong("workerclass", "its last good version is used");
        let providers = self.providers.wrong("identityprovider", "it lets nobody in");
        classes.chain(providers).collect()
    }

    pub(super) fn class_seen(&mut self, object: &WorkerClass) {
        let checked = validate::worker_class::validate(object);
        let name = object.name_any();
        let before = self.classes.0.get(&name);
        // another object of the same name is another class
        let last = before.filter(|before| before.created == created(object));
        let last = last.and_then(|before| before.good.clone());
        self.classes.0.insert(name, Definition::of(object, checked, last));
    }

    pub(super) fn provider_seen(&mut self, object: &IdentityProvider) {
        let checked = validate::identity_provider::validate(object);
        self.providers.0.insert(object.name_any(), Definition::of(object, checked, None));
    }

    pub(super) fn class_deleted(&mut self, name: &str) {
        self.classes.0.remove(name);
    }

    pub(super) fn provider_deleted(&mut self, name: &str) {
        self.providers.0.remove(name);
    }

    pub(super) fn keep_classes(&mut self, listed: &[String]) {
        self.classes.0.retain(|name, _| listed.contains(name));
    }

    pub(super) fn keep_providers(&mut self, listed: &[String]) {
        self.providers.0.retain(|name, _| listed.contains(name));
    }
}

fn created(object: &impl Resource) -> Timestamp {
    object.meta().creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

impl<T> Definition<T> {
    fn of(
        object: &impl Resource,
        checked: Result<T, Vec<FieldError>>,
        last: Option<Arc<T>>,
    ) -> Self {
        let created = created(object);
        match checked {
            Ok(good) => Self { created, good: Some(Arc::new(good)), wrong: None },
            Err(errors) => {
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                Self { created, good: last, wrong: Some(errors.join("; ").into()) }
            }
        }
    }
}

impl<T> Kind<T> {
    fn good(&self) -> Vec<Arc<T>> {
        let mut all: Vec<_> = self.0.iter().collect();
        // stable, and the map is in order of names
        all.sort_by_key(|(_, definition)| definition.created);
        all.into_iter().filter_map(|(_, definition)| definition.good.clone()).collect()
    }

    fn wrong(&self, kind: &str, meanwhile: &str) -> impl Iterator<Item = Wrong> {
        self.0.iter().filter_map(move |(name, definition)| {
            let wrong = definition.wrong.as_ref()?;
            let meanwhile = if definition.good.is_some() { meanwhile } else { "it is not used" };
            let problem = format!("{wrong}; until then {meanwhile}");
            Some(Wrong { object: format!("{kind}/{name}"), problem })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(command: &Value, created: &str) -> WorkerClass {
        serde_json::from_value(json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "WorkerClass",
            "metadata": { "name": "tools", "creationTimestamp": created },
            "spec": { "image": "i", "command": command },
        }))
        .unwrap()
    }

    fn provider(name: &str, classes: &Value, created: &str) -> IdentityProvider {
        serde_json::from_value(json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": { "name": name, "creationTimestamp": created },
            "spec": { "classes": classes, "apiKeys": { "keys": [] } },
        }))
        .unwrap()
    }

    const EARLY: &str = "2030-01-01T00:00:00Z";
    const LATE: &str = "2031-01-01T00:00:00Z";

    #[test]
    fn a_class_that_becomes_wrong_stays_as_it_was_and_says_so() {
        let mut definitions = Definitions::default();
        definitions.class_seen(&class(&json!(["/server"]), EARLY));
        definitions.class_seen(&class(&json!([]), EARLY));
        assert_eq!(definitions.classes()[0].command, ["/server"]);
        let wrong = definitions.wrong();
        assert_eq!(wrong[0].object, "workerclass/tools");
        assert!(wrong[0].problem.contains("spec.command"), "{wrong:?}");
        assert!(wrong[0].problem.ends_with("its last good version is used"), "{wrong:?}");
        definitions.class_seen(&class(&json!(["/corrected"]), EARLY));
        assert!(definitions.wrong().is_empty());
        definitions.class_deleted("tools");
        assert!(definitions.classes().is_empty());
    }

    #[test]
    fn a_class_that_was_made_anew_has_no_last_good_version() {
        let mut definitions = Definitions::default();
        definitions.class_seen(&class(&json!(["/server"]), EARLY));
        definitions.class_seen(&class(&json!([]), LATE));
        assert!(definitions.classes().is_empty());
        assert!(definitions.wrong()[0].problem.ends_with("it is not used"));
    }

    #[test]
    fn a_provider_that_becomes_wrong_lets_nobody_in() {
        let mut definitions = Definitions::default();
        definitions.provider_seen(&provider("keys", &json!(["tools"]), EARLY));
        assert_eq!(definitions.providers().len(), 1);
        definitions.provider_seen(&provider("keys", &json!(["Not A Name"]), EARLY));
        assert!(definitions.providers().is_empty());
        assert_eq!(definitions.wrong()[0].object, "identityprovider/keys");
    }

    #[test]
    fn the_oldest_come_first_and_what_a_list_does_not_show_is_gone() {
        let mut definitions = Definitions::default();
        definitions.provider_seen(&provider("a-new", &json!(["tools"]), LATE));
        definitions.provider_seen(&provider("b-old", &json!(["tools"]), EARLY));
        let names = |of: &Definitions| {
            of.providers().iter().map(|p| p.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&definitions), ["b-old", "a-new"]);
        definitions.keep_providers(&["a-new".to_owned()]);
        assert_eq!(names(&definitions), ["a-new"]);
    }
}
