//! Whole files: what is read from them, and how each mistake is told.

use super::*;
use std::fs;

const CLASS: &str = "\
apiVersion: patchbay.dev/v1alpha1
kind: WorkerClass
metadata:
  name: quilt
spec:
  image: registry.example/quilt:1
  command: [/usr/bin/server]
";

const PROVIDER: &str = "\
apiVersion: patchbay.dev/v1alpha1
kind: IdentityProvider
metadata:
  name: keys
spec:
  classes: [quilt]
  apiKeys:
    keys:
      - id: alice1
        subject: alice
        digest: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
";

const TENANT: &str = "\
apiVersion: patchbay.dev/v1alpha1
kind: Tenant
metadata:
  name: t-go5gbctxrdlmessgoznl
spec:
  identity: {issuer: https://issuer.example, subject: alice}
  className: quilt
";

fn read(text: &str) -> Result<Documents, Vec<DocumentError>> {
    parse(text, Path::new("x.yaml"))
}

fn told(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn each_kind_is_read_and_validates() {
    let documents = read(&[CLASS, PROVIDER, TENANT].join("---\n")).unwrap();
    assert_eq!(documents.classes[0].0.document, 1);
    assert_eq!(documents.providers[0].0.document, 2);
    assert_eq!(documents.tenants[0].0.document, 3);
    let validated = documents.validate().unwrap();
    assert_eq!(validated.classes[0].name.as_str(), "quilt");
    assert_eq!(validated.providers[0].name.as_str(), "keys");
    assert_eq!(validated.tenants[0].key.subject, "alice");
    assert!(!validated.tenants[0].suspended);
}

#[test]
fn what_an_api_server_adds_is_no_mistake() {
    let dumped = CLASS.replace("  name: quilt\n", "  name: quilt\n  uid: u\n  generation: 2\n")
        + "status:\n  warm: 2\n  fieldOfAnotherRelease: true\n";
    let documents = read(&dumped).unwrap();
    assert_eq!(documents.classes[0].1.status, None);
}

#[test]
fn empty_documents_are_skipped() {
    let text = format!("---\n# nothing\n---\n{CLASS}---\n");
    let documents = read(&text).unwrap();
    assert_eq!(documents.classes[0].0.document, 2);
    assert!(read("").unwrap().classes.is_empty());
}

#[test]
fn an_unknown_field_is_told_with_file_line_document_and_what_was_meant() {
    let text = format!("{PROVIDER}---\n{}", CLASS.replace("command:", "comand:"));
    assert_eq!(
        told(&text),
        [
            "x.yaml:17: document 2: spec.command: is missing; add it (Command line of the MCP \
             server)",
            "x.yaml:19: document 2: spec.comand: unknown field; did you mean `command`?",
        ]
    );
}

#[test]
fn mistakes_beside_the_spec_are_told_too() {
    let text =
        CLASS.replace("metadata:", "metadata:\n  lables: {}").replace("spec:", "extra: 1\nspec:");
    assert_eq!(
        told(&text),
        [
            "x.yaml:4: document 1: metadata.lables: unknown field; did you mean `labels`?",
            "x.yaml:6: document 1: extra: unknown field; use one of `apiVersion`, `kind`, \
             `metadata`, `spec`",
        ]
    );
}

#[test]
fn another_api_version_is_refused() {
    let text = CLASS.replace("v1alpha1", "v1");
    assert_eq!(
        told(&text),
        ["x.yaml:1: document 1: apiVersion: `patchbay.dev/v1` is not known here; write \
             `apiVersion: patchbay.dev/v1alpha1`"]
    );
}

#[test]
fn an_unknown_kind_is_refused() {
    assert_eq!(
        told(&CLASS.replace("kind: WorkerClass", "kind: Workerclas")),
        ["x.yaml:2: document 1: kind: `Workerclas` is not known here; did you mean `WorkerClass`?"]
    );
    let config_map = told(&CLASS.replace("kind: WorkerClass", "kind: ConfigMap"));
    assert!(config_map[0].ends_with("use one of `WorkerClass`, `IdentityProvider`, `Tenant`"));
    let none = told(&CLASS.replace("kind: WorkerClass\n", ""));
    assert_eq!(
        none,
        ["x.yaml:1: document 1: kind: is missing, or no text; write `kind: WorkerClass`"]
    );
}

#[test]
fn a_name_is_needed() {
    for wrong in [
        CLASS.replace("  name: quilt", "  labels: {}"),
        CLASS.replace("metadata:\n  name: quilt\n", ""),
        CLASS.replace("name: quilt", "name: 5"),
        CLASS.replace("name: quilt", "name: ''"),
    ] {
        let told = told(&wrong);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("metadata.name: is missing"), "{told:?}");
    }
}

#[test]
fn a_spec_is_needed() {
    let text = "apiVersion: patchbay.dev/v1alpha1\nkind: Tenant\nmetadata: {name: t}\n";
    assert_eq!(told(text), ["x.yaml:1: document 1: spec: is missing; add it"]);
}

#[test]
fn a_document_that_is_no_mapping_is_refused() {
    assert_eq!(
        told("- a\n- b\n"),
        ["x.yaml:1: document 1: is not a mapping; start it with `apiVersion:` and `kind:`"]
    );
}

#[test]
fn one_name_is_one_object_of_its_kind() {
    let same_name_other_kind = PROVIDER.replace("name: keys", "name: quilt");
    assert!(read(&format!("{CLASS}---\n{same_name_other_kind}")).is_ok());
    assert_eq!(
        told(&format!("{CLASS}---\n{CLASS}")),
        [
            "x.yaml:12: document 2: metadata.name: `quilt` is already the name of another WorkerClass \
             (x.yaml, document 1); rename one of them"
        ]
    );
}

#[test]
fn broken_yaml_hides_no_mistake_in_other_documents() {
    let bad_class = CLASS.replace("image:", "imgae:");
    let told = told(&format!("a: [1\nb: 2\n---\n{bad_class}---\n{{\n"));
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].starts_with("x.yaml:2: document 1: "), "{told:?}");
    assert!(told[1].starts_with("x.yaml:8: document 2: spec.image"), "{told:?}");
    assert!(told[2].starts_with("x.yaml:9: document 2: spec.imgae"), "{told:?}");
    assert!(told[3].contains(": document 3: "), "{told:?}");
}

#[test]
fn a_value_that_makes_no_sense_is_told_with_its_line() {
    let text = format!(
        "{CLASS}  egress:\n    hosts:\n      - host: '*.example'\n  warm: 3\n  idleTimeout: soon\n"
    );
    let told: Vec<_> =
        read(&text).unwrap().validate().unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "x.yaml:10: document 1: spec.egress.hosts[0].host: `*.example` is a wildcard; list \
             each host by its own name",
            "x.yaml:12: document 1: spec.idleTimeout: `soon` is not a duration; write numbers \
             with the units d, h, m, s, such as `30s`, `15m` or `1h30m`",
        ]
    );
}

#[test]
fn a_tenant_under_another_name_is_refused() {
    let documents = read(&TENANT.replace("t-go5", "t-aaa")).unwrap();
    let errors = documents.validate().unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field.as_deref(), Some("metadata.name"));
    assert!(errors[0].fix.contains("t-go5gbctxrdlmessgoznl"));
}

#[test]
fn a_file_of_too_many_documents_is_refused() {
    let many = "--- {}\n".repeat(MAX_DOCUMENTS + 1);
    assert_eq!(
        told(&many),
        ["x.yaml: holds more than 1000 documents; split it into several files"]
    );
}

#[test]
fn all_errors_of_all_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), CLASS.replace("image:", "imgae:")).unwrap();
    fs::write(path("b.yml"), CLASS).unwrap();
    fs::write(path("c.yaml"), PROVIDER.replace("kind:", "kin:")).unwrap();
    let errors = load([folder.path(), &path("none")]).unwrap_err();
    let files: Vec<_> =
        errors.iter().map(|error| error.file.file_name().unwrap().to_str().unwrap()).collect();
    // b.yml: the name of a.yaml's class, though that one is broken
    assert_eq!(files, ["a.yaml", "a.yaml", "b.yml", "c.yaml", "c.yaml", "none"]);
}

#[test]
fn files_and_folders_are_read_together() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), CLASS).unwrap();
    let file = other.path().join("providers.txt");
    fs::write(&file, PROVIDER).unwrap();
    let documents = load([folder.path(), &file]).unwrap();
    assert_eq!(documents.classes.len(), 1);
    assert_eq!(documents.providers[0].0.file, file);
}

#[test]
fn the_line_of_a_field_that_was_not_written_is_that_of_the_nearest_that_was() {
    let documents = read(CLASS).unwrap();
    let origin = &documents.classes[0].0;
    assert_eq!(origin.line_of("spec.command[0]"), Some(7));
    assert_eq!(origin.line_of("spec.server.port"), Some(5));
    assert_eq!(origin.line_of("nowhere"), Some(1));
}
