//! Manifests from YAML files: the same kinds, checked against the same schemas as in a cluster.
//!
//! Files are read at the edge ([`load`], [`texts`]); everything else is a pure function of their text. A set
//! with a mistake in it is refused as a whole, with every mistake of every file, each with its
//! place and its fix. This module must not know what the documents are used for.

mod file;
mod structure;
mod yaml;

use crate::{
    API_VERSION, IdentityProvider, Tenant, WorkerClass, schema,
    validate::{self, FieldError, Place, Problem, quoted},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use patchbay_core::{class, provider, tenant::TenantKey};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The most documents that one file may hold.
pub const MAX_DOCUMENTS: usize = 1000;

/// Where a document was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Which of the file's documents, from 1.
    pub document: u32,
    lines: Arc<BTreeMap<String, u32>>,
}

impl Origin {
    /// The line of a field such as `spec.egress.hosts[0].host`, or of the nearest part of its path
    /// that was written.
    pub fn line_of(&self, field: &str) -> Option<u32> {
        let mut field = field;
        loop {
            if let Some(line) = self.lines.get(field) {
                return Some(*line);
            }
            if field.is_empty() {
                return None;
            }
            let end = field.rfind(['.', '[']).unwrap_or(0);
            field = field.get(..end).unwrap_or_default();
        }
    }

    /// The errors of the document with their places, in the order of the file.
    fn errors(&self, errors: Vec<FieldError>) -> Vec<DocumentError> {
        let mut errors: Vec<_> = errors
            .into_iter()
            .map(|error| DocumentError {
                line: self.line_of(&error.field),
                file: self.file.clone(),
                document: Some(self.document),
                field: Some(error.field).filter(|field| !field.is_empty()),
                problem: error.problem,
                fix: error.fix,
            })
            .collect();
        errors.sort_by_key(|error| error.line);
        errors
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file.display(), self.document)
    }
}

/// One thing that is wrong with one file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The file or folder.
    pub file: PathBuf,
    /// Which of the file's documents, from 1; none where the file as a whole is meant.
    pub document: Option<u32>,
    /// The line in the file, from 1, where it is known.
    pub line: Option<u32>,
    /// The field, where the document could be read.
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}; {}", self.problem, self.fix)
    }
}

/// What the files say. Shapes are right and names are unique; whether the values make sense is
/// [`Documents::validate`]'s business.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// All `WorkerClass`es.
    pub classes: Vec<(Origin, WorkerClass)>,
    /// All `IdentityProvider`s.
    pub providers: Vec<(Origin, IdentityProvider)>,
    /// All Tenants.
    pub tenants: Vec<(Origin, Tenant)>,
}

/// What the files say, in the words of the core.
#[derive(Debug, Clone)]
pub struct Validated {
    /// All classes.
    pub classes: Vec<class::WorkerClass>,
    /// All providers.
    pub providers: Vec<provider::IdentityProvider>,
    /// All tenants that an operator made.
    pub tenants: Vec<ProvisionedTenant>,
}

/// A tenant that an operator made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionedTenant {
    /// What makes it.
    pub key: TenantKey,
    /// Whether it is shut out.
    pub suspended: bool,
}

impl Documents {
    /// Validates every document, or says everything that is wrong with any of them.
    pub fn validate(&self) -> Result<Validated, Vec<DocumentError>> {
        let mut errors = Vec::new();
        let validated = Validated {
            classes: each(
                &self.classes,
                |class| validate::worker_class::validate_in(Place::OneMachine, class),
                &mut errors,
            ),
            providers: each(&self.providers, validate::identity_provider::validate, &mut errors),
            tenants: each(
                &self.tenants,
                |tenant: &Tenant| {
                    let key = validate::tenant::validate(tenant)?;
                    let suspended = tenant.spec.suspended;
                    Ok(ProvisionedTenant { key, suspended })
                },
                &mut errors,
            ),
        };
        if errors.is_empty() { Ok(validated) } else { Err(errors) }
    }
}

fn each<T, V>(
    documents: &[(Origin, T)],
    validate: impl Fn(&T) -> Result<V, Vec<FieldError>>,
    errors: &mut Vec<DocumentError>,
) -> Vec<V> {
    documents
        .iter()
        .filter_map(|(origin, document)| {
            validate(document).map_err(|found| errors.extend(origin.errors(found))).ok()
        })
        .collect()
}

/// What was found in one place: a file and its text, or why there is none.
pub type Text = Result<(PathBuf, String), DocumentError>;

/// Reads the documents of files and folders. A folder stands for its `*.yaml` and `*.yml` files,
/// sorted by name; folders in it are not entered.
pub fn load<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<Documents, Vec<DocumentError>> {
    read(&texts(paths))
}

/// The texts that [`load`] would read, so that whoever looks again knows whether one changed.
pub fn texts<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Vec<Text> {
    paths.into_iter().flat_map(|path| file::read(path.as_ref())).collect()
}

/// The documents in these texts.
pub fn read(texts: &[Text]) -> Result<Documents, Vec<DocumentError>> {
    let mut reader = Reader::new();
    for text in texts {
        match text {
            Ok((file, text)) => reader.read(text, file),
            Err(error) => reader.errors.push(error.clone()),
        }
    }
    reader.finish()
}

/// The documents in the text of one file.
pub fn parse(text: &str, file: &Path) -> Result<Documents, Vec<DocumentError>> {
    let mut reader = Reader::new();
    reader.read(text, file);
    reader.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    WorkerClass,
    IdentityProvider,
    Tenant,
}

impl Kind {
    const ALL: [Self; 3] = [Self::WorkerClass, Self::IdentityProvider, Self::Tenant];

    const fn name(self) -> &'static str {
        match self {
            Self::WorkerClass => "WorkerClass",
            Self::IdentityProvider => "IdentityProvider",
            Self::Tenant => "Tenant",
        }
    }

    fn definition(self) -> CustomResourceDefinition {
        schema::conformed(match self {
            Self::WorkerClass => WorkerClass::crd(),
            Self::IdentityProvider => IdentityProvider::crd(),
            Self::Tenant => Tenant::crd(),
        })
    }
}

/// Gathers documents and errors over all files.
struct Reader {
    definitions: BTreeMap<Kind, CustomResourceDefinition>,
    names: BTreeMap<(Kind, String), Origin>,
    documents: Documents,
    errors: Vec<DocumentError>,
}

impl Reader {
    fn new() -> Self {
        Self {
            definitions: Kind::ALL.into_iter().map(|kind| (kind, kind.definition())).collect(),
            names: BTreeMap::new(),
            documents: Documents::default(),
            errors: Vec::new(),
        }
    }

    fn read(&mut self, text: &str, file: &Path) {
        let parts = yaml::split(text);
        if parts.len() > MAX_DOCUMENTS {
            self.errors.push(DocumentError {
                file: file.to_owned(),
                document: None,
                line: None,
                field: None,
                problem: format!("holds more than {MAX_DOCUMENTS} documents"),
                fix: "split it into several files".into(),
            });
            return;
        }
        for (document, part) in (1..).zip(parts) {
            match yaml::read(&part) {
                Ok(None) => {}
                Ok(Some(tree)) => {
                    let origin =
                        Origin { file: file.to_owned(), document, lines: Arc::new(tree.lines) };
                    if let Err(errors) = self.add(&origin, tree.value) {
                        self.errors.extend(origin.errors(errors));
                    }
                }
                Err(error) => self.errors.push(DocumentError {
                    file: file.to_owned(),
                    document: Some(document),
                    line: error.line,
                    field: None,
                    problem: error.problem,
                    fix: "correct the YAML".into(),
                }),
            }
        }
    }

    fn add(&mut self, origin: &Origin, value: Value) -> Result<(), Vec<FieldError>> {
        let Value::Object(mut document) = value else {
            let fix = "start it with `apiVersion:` and `kind:`";
            return Err(vec![field_error("", "is not a mapping", fix)]);
        };
        // what is observed of the object is none of the operator's words
        document.remove("status");
        let mut errors = Vec::new();
        let kind = kind(&document).map_err(|error| errors.push(error)).ok();
        structure::known_fields(
            &document,
            "",
            &["apiVersion", "kind", "metadata", "spec"],
            &mut errors,
        );
        let name = name(&document, &mut errors);
        if let (Some(kind), Some(name)) = (kind, name) {
            if let Some(first) = self.names.get(&(kind, name.clone())) {
                let problem = format!(
                    "{} is already the name of another {} ({first})",
                    quoted(&name),
                    kind.name()
                );
                errors.push(field_error("metadata.name", problem, "rename one of them"));
            } else {
                self.names.insert((kind, name), origin.clone());
            }
        }
        let Some(kind) = kind else {
            return Err(errors);
        };
        self.check_spec(kind, &document, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut value = Value::Object(document);
        structure::drop_nulls(&mut value);
        let documents = &mut self.documents;
        match kind {
            Kind::WorkerClass => documents.classes.push((origin.clone(), typed(value)?)),
            Kind::IdentityProvider => documents.providers.push((origin.clone(), typed(value)?)),
            Kind::Tenant => documents.tenants.push((origin.clone(), typed(value)?)),
        }
        Ok(())
    }

    fn check_spec(&self, kind: Kind, document: &Map<String, Value>, errors: &mut Vec<FieldError>) {
        let Some(spec) = document.get("spec") else {
            errors.push(field_error("spec", "is missing", "add it"));
            return;
        };
        let schema = self
            .definitions
            .get(&kind)
            .and_then(|definition| definition.spec.versions.first())
            .and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref())
            .and_then(|root| root.properties.as_ref()?.get("spec"));
        if let Some(schema) = schema {
            structure::check(schema, spec, "spec", errors);
        }
    }

    fn finish(self) -> Result<Documents, Vec<DocumentError>> {
        if self.errors.is_empty() { Ok(self.documents) } else { Err(self.errors) }
    }
}

fn field_error(field: &str, problem: impl Into<String>, fix: impl Into<String>) -> FieldError {
    FieldError { field: field.into(), problem: problem.into(), fix: fix.into() }
}

fn kind(document: &Map<String, Value>) -> Result<Kind, FieldError> {
    let text = |field| {
        document.get(field).and_then(Value::as_str).ok_or_else(|| {
            let fix = format!(
                "write `{field}: {}`",
                match field {
                    "kind" => "WorkerClass",
                    _ => API_VERSION,
                }
            );
            field_error(field, "is missing, or no text", fix)
        })
    };
    let api_version = text("apiVersion")?;
    if api_version != API_VERSION {
        let Problem { problem, fix } = Problem::with(
            api_version,
            "is not known here",
            format!("write `apiVersion: {API_VERSION}`"),
        );
        return Err(field_error("apiVersion", problem, fix));
    }
    let kind = text("kind")?;
    Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(|| {
        let problem = format!("{} is not known here", quoted(kind));
        let names = Kind::ALL.map(Kind::name);
        field_error("kind", problem, structure::suggestion(kind, &names))
    })
}

/// The fields of `metadata` that an operator writes, and those that an API server adds.
const METADATA: [&str; 11] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

fn name(document: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Option<String> {
    if let Some(metadata) = document.get("metadata").and_then(Value::as_object) {
        structure::known_fields(metadata, "metadata", &METADATA, errors);
    }
    let name = document
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    if name.is_none() {
        let fix = "give the object a name (text; quote it if it looks like a number)";
        errors.push(field_error("metadata.name", "is missing, or no text", fix));
    }
    name.map(ToOwned::to_owned)
}

/// The typed object. The schema was made from the type, so this fails only where the two differ in
/// strictness; serde's words are shown then. The types take fields that they do not know: an
/// object of an API server may have been written by a later release. So nothing may get here
/// unchecked.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(value)
        .map_err(|error| vec![field_error("", error.to_string(), "correct the document")])
}

#[cfg(test)]
#[path = "documents/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "documents/unknown_fields_tests.rs"]
mod unknown_fields_tests;
