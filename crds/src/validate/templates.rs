//! From a class's `credentials.files` and `credentials.env` as written to validated ones.
//!
//! This module must not know where values come from, or when texts are made.

use super::{Findings, Problem, element, member};
use crate::worker_class::{CredentialFile, Credentials, Profile, Start, WorkerClassSpec};
use patchbay_core::{
    class,
    quilt::DATA_DIR,
    template::{FileTemplate, InvalidTemplate, Template, Templates},
};
use std::collections::BTreeMap;

/// Variables that Patchbay sets itself.
pub const SET_BY_PATCHBAY: [&str; 8] = [
    "HOME",
    "PATH",
    "TMPDIR",
    "LANG",
    "PORT",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
];
/// Beginnings of variables that decide whose identity the server has, or which code it runs.
pub const RESERVED_BEGINNINGS: [&str; 2] = ["AWS_CONTAINER_", "LD_"];
/// The longest segment of a file's path: what is written beside it has a longer name.
pub const MOST_SEGMENT: usize = 200;
/// The beginning of names that are Patchbay's.
pub const OWN_NAMES: &str = ".patchbay";

const FILES: &str = "spec.credentials.files";
const ENV: &str = "spec.credentials.env";

/// What is written and set, as far as it is valid.
pub(super) fn templates(
    findings: &mut Findings,
    spec: &WorkerClassSpec,
    source: Option<&class::CredentialSource>,
) -> Templates {
    let Credentials { files, env, .. } = &spec.credentials;
    if env.is_some() && spec.start != Start::OnBind {
        let fix = "set it, or use `credentials.files`";
        let problem =
            "needs `start: onBind`: the environment of a server that runs cannot be changed";
        findings.add(ENV, Problem::new(problem, fix));
    }
    // where the source itself is wrong, that is said already
    let has_keys = source.is_none_or(class::CredentialSource::grants_aws_keys);
    let files = files.as_deref().unwrap_or_default();
    paths(findings, files, spec.profile);
    let files =
        files.iter().enumerate().filter_map(|(index, CredentialFile { path, template })| {
            let field = format!("{}.template", element(FILES, index));
            let template = findings.check(field, self::template(template, has_keys))?;
            Some(FileTemplate { path: path.clone(), template })
        });
    Templates {
        files: files.collect(),
        env: env
            .as_ref()
            .map(|env| self::env(findings, env, &spec.env, has_keys))
            .unwrap_or_default(),
    }
}

fn paths(findings: &mut Findings, files: &[CredentialFile], profile: Profile) {
    for (index, CredentialFile { path, .. }) in files.iter().enumerate() {
        let field = format!("{}.path", element(FILES, index));
        if !is_path(path) {
            let fix = "write it without `/` in front, such as `.config/server.json`, of segments of at most 200 \
                       letters, digits and `-_.+@`, none of them `.` or `..`";
            findings.add(field, Problem::with(path, "is not a path under the home directory", fix));
        } else if path.split('/').any(|segment| segment.starts_with(OWN_NAMES)) {
            let fix = "choose another name";
            findings.add(
                field,
                Problem::with(path, "begins a name with `.patchbay`, as Patchbay's own do", fix),
            );
        } else if profile == Profile::Quilt && meet(path, DATA_DIR) {
            let fix = "choose another path: the profile writes what quilt3 reads there";
            findings.add(
                field,
                Problem::with(path, "is quilt3's own, as `profile: quilt` has it", fix),
            );
        } else if files.iter().take(index).any(|earlier| meet(path, &earlier.path)) {
            let fix = "let each be a file of its own";
            findings.add(
                field,
                Problem::with(path, "is an earlier file, or one is the other's directory", fix),
            );
        }
    }
}

fn is_path(path: &str) -> bool {
    path.split('/').all(|segment| {
        (1..=MOST_SEGMENT).contains(&segment.len())
            && ![".", ".."].contains(&segment)
            && segment.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.+@".contains(&c))
    })
}

/// Whether two paths are one, or one leads through the other.
fn meet(a: &str, b: &str) -> bool {
    a.split('/').zip(b.split('/')).all(|(a, b)| a == b)
}

fn env(
    findings: &mut Findings,
    env: &BTreeMap<String, String>,
    of_class: &BTreeMap<String, String>,
    has_keys: bool,
) -> BTreeMap<String, Template> {
    let mut valid = BTreeMap::new();
    for (name, template) in env {
        let field = member(ENV, name);
        if let Some(problem) = name_problem(name, of_class) {
            findings.add(field, problem);
        } else if let Some(template) = findings.check(field, self::template(template, has_keys)) {
            valid.insert(name.clone(), template);
        }
    }
    valid
}

fn name_problem(name: &str, of_class: &BTreeMap<String, String>) -> Option<Problem> {
    let is_proxy = super::worker_class::RESERVED_ENV_ANY_CASE
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(name));
    let begins_reserved = RESERVED_BEGINNINGS.iter().any(|reserved| name.starts_with(reserved));
    if !super::worker_class::is_variable(name) {
        let problem = "is not the name of an environment variable";
        let fix = "use letters, digits and `_`, not starting with a digit, at most 256";
        Some(Problem::with(name, problem, fix))
    } else if SET_BY_PATCHBAY.contains(&name) || is_proxy || begins_reserved {
        let fix =
            "remove it: Patchbay sets it, or it would change who the server is or what it runs";
        Some(Problem::with(name, "is reserved", fix))
    } else if of_class.contains_key(name) {
        Some(Problem::with(name, "is in `spec.env` too", "remove it from one of them"))
    } else {
        None
    }
}

/// A wrong template is not quoted: it may be the very secret that a placeholder stands for.
fn template(text: &str, has_keys: bool) -> Result<Template, Problem> {
    let template = Template::parse(text).map_err(|error| {
        let fix = match error {
            InvalidTemplate::Zero => "remove it",
            InvalidTemplate::Dollar(_) | InvalidTemplate::Unknown(_) => PLACEHOLDERS,
        };
        Problem::new(error.to_string(), fix)
    })?;
    match template.first_of_aws() {
        Some(name) if !has_keys => {
            let problem = format!("has `{name}`, and `source` gives no AWS keys");
            Err(Problem::new(
                problem,
                "use a source of AWS keys, such as `assumeRole`, or remove it",
            ))
        }
        _ => Ok(template),
    }
}

/// What may stand in a template.
pub(crate) const PLACEHOLDERS: &str = "write `$$` for a dollar, and `${NAME}` or `${json:NAME}` with one of \
     aws.accessKeyId, aws.secretAccessKey, aws.sessionToken, aws.expiration, aws.region, user.issuer, user.subject";

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::template::Placeholder;

    #[test]
    fn the_fix_names_every_placeholder() {
        let names: Vec<_> = Placeholder::ALL.iter().map(|it| it.as_str()).collect();
        assert!(PLACEHOLDERS.ends_with(&names.join(", ")));
    }

    #[test]
    fn a_path_is_plain_and_below() {
        for good in ["a", ".aws/credentials", "a/b/c.json", "...", "a+b@c-d_e", &"x".repeat(200)] {
            assert!(is_path(good), "{good}");
        }
        for bad in
            ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a\nb", "é", &"x".repeat(201)]
        {
            assert!(!is_path(bad), "{bad}");
        }
    }

    #[test]
    fn paths_meet_where_one_leads_through_the_other() {
        for (a, b) in [("a", "a"), ("a", "a/b"), ("a/b", "a")] {
            assert!(meet(a, b), "{a} {b}");
        }
        for (a, b) in [("a", "ab"), ("a/b", "a/c"), ("x/a", "a")] {
            assert!(!meet(a, b), "{a} {b}");
        }
    }

    #[test]
    fn patchbay_sets_what_is_reserved_and_nothing_else() {
        let mut class = patchbay_core::fixtures::class("c", "/mcp");
        let role = patchbay_core::role::RoleArn::parse("arn:aws:iam::123456789012:role/r").unwrap();
        class.credentials = class::CredentialSource::AssumeRole(Box::new(class::AssumeRole {
            role: class::RoleChoice::Fixed(role),
            external_id: None,
            region: "us-east-1".into(),
            endpoint: None,
            duration: std::time::Duration::from_mins(15),
            tags: BTreeMap::new(),
            session_policy: class::SessionPolicy::Required,
            claims: None,
            catalog: None,
        }));
        for name in patchbay_core::launch::server_env(&class).keys() {
            assert!(name_problem(name, &BTreeMap::new()).is_some(), "{name} can be overridden");
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "TOKEN", "_x"] {
            assert!(name_problem(name, &BTreeMap::new()).is_none(), "{name}");
        }
    }
}
