//! The Tenants of `patchbay local`'s documents, read again from time to time: one that is added, edited or removed is
//! noticed without a restart. Classes and identity providers are not: that they changed is told.
//!
//! Files are compared by content and polled, as certificates are. An editor may write a file in two steps, of which the
//! first leaves it empty; so what counts is what two looks in a row found. This module must not know who serves tenants.

use patchbay_core::{class::WorkerClass, provider::IdentityProvider, tenant::TenantKey};
use patchbay_crds::documents::{self, DocumentError, Text, Validated};
use std::{path::PathBuf, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};

/// How often files are looked at: a suspended user's worker ends within five seconds (DESIGN.md, invariant 8), and that
/// takes three.
const LOOK: Duration = Duration::from_millis(500);

/// What an operator says of tenants: whose each is, and whether it is suspended.
pub(crate) type Tenants = Vec<(TenantKey, bool)>;

/// Tenants as an operator says them.
pub(crate) fn tenants(validated: &Validated) -> Tenants {
    validated.tenants.iter().map(|made| (made.key.clone(), made.suspended)).collect()
}

/// Looks at documents for ever.
pub(crate) struct Following {
    paths: Vec<PathBuf>,
    /// What was found last.
    seen: Vec<Text>,
    /// What was found last and counts, good or bad.
    settled: Vec<Text>,
    in_force: (Vec<WorkerClass>, Vec<IdentityProvider>),
    /// Whether it was told that what is in force is not what the documents say.
    told_of_others: bool,
}

/// What a look came to.
#[derive(Debug, PartialEq)]
enum Found {
    /// Nothing new.
    Nothing,
    /// These tenants from now on.
    Tenants(Tenants),
    /// What cannot be used; the last good word stays.
    Wrong(Vec<DocumentError>),
}

impl Following {
    /// Of these files and folders, which said this when the program started.
    pub(crate) fn new(paths: Vec<PathBuf>, texts: Vec<Text>, at_start: &Validated) -> Self {
        let in_force = (at_start.classes.clone(), at_start.providers.clone());
        Self { paths, seen: texts.clone(), settled: texts, in_force, told_of_others: false }
    }

    /// Hands the documents' tenants to `take` whenever they change. Never ends; the caller drops it.
    pub(crate) async fn run(mut self, take: impl Fn(Tenants)) {
        loop {
            sleep(LOOK).await;
            let paths = self.paths.clone();
            // files of a disk that hangs hold up nobody else
            let Ok(texts) = spawn_blocking(move || documents::texts(paths)).await else { continue };
            match self.look(texts) {
                Found::Nothing => {}
                Found::Tenants(tenants) => take(tenants),
                Found::Wrong(errors) => {
                    for error in errors {
                        tracing::warn!(%error, "a document cannot be used; the last good word of its tenants stays");
                    }
                }
            }
        }
    }

    /// What these texts come to.
    fn look(&mut self, texts: Vec<Text>) -> Found {
        let is_new = self.seen != texts;
        self.seen = texts;
        if is_new || self.seen == self.settled {
            return Found::Nothing;
        }
        self.settled.clone_from(&self.seen);
        match documents::read(&self.settled).and_then(|documents| documents.validate()) {
            Ok(validated) => {
                self.tell_of_others(&validated);
                Found::Tenants(tenants(&validated))
            }
            Err(errors) => Found::Wrong(errors),
        }
    }

    /// Says once that classes or providers are others than those in force.
    fn tell_of_others(&mut self, now: &Validated) {
        let (classes, providers) = &self.in_force;
        let are_others = now.classes != *classes || now.providers != *providers;
        if are_others && !self.told_of_others {
            tracing::warn!(
                "WorkerClasses or IdentityProviders of the documents changed; restart to use them: only Tenants are read again"
            );
        }
        self.told_of_others = are_others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{id::ClassName, tenant::Authority};
    use std::path::Path;

    fn key(subject: &str) -> TenantKey {
        TenantKey {
            issuer: "urn:i".into(),
            subject: subject.into(),
            class: ClassName::parse("notes").unwrap(),
            authority: Authority::unrestricted(),
        }
    }

    fn document(subject: &str, suspended: bool) -> String {
        format!(
            "apiVersion: patchbay.dev/v1alpha1\nkind: Tenant\nmetadata: {{ name: {} }}\nspec:\n  \
             identity: {{ issuer: 'urn:i', subject: {subject} }}\n  className: notes\n  \
             suspended: {suspended}\n",
            key(subject).name()
        )
    }

    /// Files of a folder that is followed.
    struct Folder {
        folder: tempfile::TempDir,
        following: Following,
    }

    impl Folder {
        fn new(documents: &[(&str, String)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in documents {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            let texts = documents::texts([folder.path()]);
            let at_start = documents::read(&texts).unwrap().validate().unwrap();
            let following = Following::new(vec![folder.path().to_owned()], texts, &at_start);
            Self { folder, following }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn path(&self, name: &str) -> impl AsRef<Path> + use<> {
            self.folder.path().join(name)
        }

        fn look(&mut self) -> Found {
            self.following.look(documents::texts([self.folder.path()]))
        }
    }

    #[test]
    fn a_tenant_that_is_edited_added_or_removed_is_noticed_at_the_second_look() {
        let mut folder =
            Folder::new(&[("a.yaml", document("a", false)), ("b.yaml", document("b", false))]);
        assert_eq!(folder.look(), Found::Nothing);
        folder.write("a.yaml", &document("a", true));
        assert_eq!(folder.look(), Found::Nothing);
        let suspended = vec![(key("a"), true), (key("b"), false)];
        assert_eq!(folder.look(), Found::Tenants(suspended));
        assert_eq!(folder.look(), Found::Nothing);
        std::fs::remove_file(folder.path("b.yaml")).unwrap();
        folder.write("c.yaml", &document("c", false));
        assert_eq!(folder.look(), Found::Nothing);
        assert_eq!(folder.look(), Found::Tenants(vec![(key("a"), true), (key("c"), false)]));
    }

    #[test]
    fn a_file_that_is_being_written_says_nothing() {
        let mut folder = Folder::new(&[("a.yaml", document("a", false))]);
        folder.write("a.yaml", "");
        assert_eq!(folder.look(), Found::Nothing);
        folder.write("a.yaml", &document("a", true));
        assert_eq!(folder.look(), Found::Nothing);
        assert_eq!(folder.look(), Found::Tenants(vec![(key("a"), true)]));
    }

    #[test]
    fn what_is_wrong_is_told_once_with_its_place_and_changes_nothing() {
        let mut folder = Folder::new(&[("a.yaml", document("a", true))]);
        folder.write(
            "a.yaml",
            &document("a", false).replace("suspended: false", "suspended: no-idea"),
        );
        folder.look();
        let Found::Wrong(errors) = folder.look() else { panic!("it was taken") };
        let told = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(told.contains("a.yaml:7: document 1: spec.suspended"), "{told}");
        assert_eq!(folder.look(), Found::Nothing);
        // a folder that is gone is no word of anybody
        std::fs::remove_file(folder.path("a.yaml")).unwrap();
        folder.look();
        assert!(matches!(folder.look(), Found::Wrong(_)));
        // and what was said before is said again
        folder.write("a.yaml", &document("a", true));
        folder.look();
        assert_eq!(folder.look(), Found::Tenants(vec![(key("a"), true)]));
    }
}
