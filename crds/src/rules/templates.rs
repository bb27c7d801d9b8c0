//! What `credentials.files` and `credentials.env` of a `WorkerClass` may say.
//!
//! This module must not know what becomes of a template.

use super::{form, rule};
use crate::validate::{
    templates::{MOST_SEGMENT, OWN_NAMES, PLACEHOLDERS, RESERVED_BEGINNINGS, SET_BY_PATCHBAY},
    worker_class::RESERVED_ENV_ANY_CASE,
};
use kube::core::Rule;
use patchbay_core::template::Placeholder;

/// A whole template: text, doubled dollars, placeholders.
fn is_template(text: &str) -> String {
    let names: Vec<_> = Placeholder::ALL.iter().map(|it| it.as_str().replace('.', r"\.")).collect();
    let names = names.join("|");
    form::is(text, &format!(r"([^$\x00]|\$\$|\$\{{(json:)?({names})\}})*"))
}

/// An AWS placeholder is in `text`: after an even number of dollars, which are text.
fn asks_for_keys(text: &str) -> String {
    format!(r"{text}.matches(r'(^|[^$])(\$\$)*\$\{{(json:)?aws\.')")
}

/// The rule about a file's template. It is the object's, which is not repeated to who wrote it: a secret may have been
/// pasted there.
pub(crate) fn file() -> [Rule; 1] {
    [rule(is_template("self.template"), &format!("is not a template; {PLACEHOLDERS}"))
        .field_path(".template")]
}

/// The rules about the path of a file under the home directory.
pub(crate) fn path() -> [Rule; 2] {
    let segment = format!("[-_.+@A-Za-z0-9]{{1,{MOST_SEGMENT}}}");
    [
        rule(
            format!(
                "{} && !{}",
                form::is("self", &format!("{segment}(/{segment})*")),
                r"self.matches(r'(^|/)\.{1,2}(/|$)')"
            ),
            "is not a path under the home directory; write it without `/` in front, such as \
             `.config/server.json`, of segments of at most 200 letters, digits and `-_.+@`, none \
             of them `.` or `..`",
        ),
        rule(
            format!(r"!self.matches(r'(^|/)\{OWN_NAMES}')"),
            "begins a name with `.patchbay`, as Patchbay's own do; choose another name",
        ),
    ]
}

/// The rules about credentials that go into an environment.
pub(crate) fn env() -> Vec<Rule> {
    let fix = "remove it: Patchbay sets it, or it would change who the server is or what it runs";
    let exact: Vec<_> = SET_BY_PATCHBAY.iter().map(|name| format!("'{name}'")).collect();
    let mut rules = super::worker_class::names().to_vec();
    rules.push(rule(
        format!("self.all(name, !(name in [{}]))", exact.join(", ")),
        &format!("sets a variable that is reserved; {fix}"),
    ));
    rules.push(rule(
        format!(
            "self.all(name, !name.matches('^((?i:{})$|{})'))",
            RESERVED_ENV_ANY_CASE.join("|"),
            RESERVED_BEGINNINGS.join("|")
        ),
        &format!("sets a variable that is reserved; {fix}"),
    ));
    rules.push(rule(
        format!("self.all(name, {})", is_template("self[name]")),
        &format!("has a value that is not a template; {PLACEHOLDERS}"),
    ));
    rules
}

/// The rules about both that the rest of the credentials decides.
pub(crate) fn credentials() -> Vec<Rule> {
    let fix = "use a source of AWS keys, such as `assumeRole`, or remove it";
    let gives_none = "self.source in ['none', 'catalog']";
    let message = &format!("has a placeholder of AWS keys, and `source` gives no AWS keys; {fix}");
    vec![
        rule(
            format!(
                "!({gives_none}) || !has(self.files) || !self.files.exists(file, {})",
                asks_for_keys("file.template")
            ),
            message,
        )
        .field_path(".files"),
        rule(
            format!(
                "!({gives_none}) || !has(self.env) || !self.env.exists(name, {})",
                asks_for_keys("self.env[name]")
            ),
            message,
        )
        .field_path(".env"),
        rule(
            "!has(self.files) || self.files.all(a, self.files.exists_one(b, a.path == b.path || \
             a.path.startsWith(b.path + '/') || b.path.startsWith(a.path + '/')))",
            "has a file twice, or one that is another's directory; let each be a file of its own",
        )
        .field_path(".files"),
    ]
}

/// The rules about both that the rest of the class decides.
pub(crate) fn spec() -> [Rule; 3] {
    [
        rule(
            "!has(self.credentials.env) || self.start == 'onBind'",
            "needs `start: onBind`: the environment of a server that runs cannot be changed; set \
             it, or use `credentials.files`",
        )
        .field_path(".credentials.env"),
        rule(
            "!has(self.credentials.env) || !has(self.env) || \
             self.credentials.env.all(name, !(name in self.env))",
            "has a variable that is in `spec.env` too; remove it from one of them",
        )
        .field_path(".credentials.env"),
        rule(
            "self.profile != 'quilt' || !has(self.credentials.files) || \
             self.credentials.files.all(file, \
             !file.path.matches(r'^\\.local(/share(/Quilt(/.*)?)?)?$'))",
            "has a path that is quilt3's own, as `profile: quilt` has it; choose another path: the \
             profile writes what quilt3 reads there",
        )
        .field_path(".credentials.files"),
    ]
}
