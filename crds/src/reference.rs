//! The reference of the API for people: from the definitions to one Markdown document.
//!
//! It says what `kubectl explain` says, and what the rules refuse. This module must not know the fields of any
//! kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use std::fmt::Write as _;

const HEADER: &str = "<!-- Generated from the types in crds/src. To change it, change them and run: make crds -->\n\n# The API: \
`patchbay.dev/v1alpha1`\n\nEvery kind is namespaced, and in the category `patchbay` (`kubectl get patchbay`). What is \
said here is what `kubectl explain` says of a cluster that has the definitions. In the names of fields, `[]` is an \
item of a list and `{}` a value of a map.\n";

/// The reference of these kinds.
pub fn markdown(definitions: &[CustomResourceDefinition]) -> String {
    let mut text = HEADER.to_owned();
    for definition in definitions {
        kind(&mut text, definition);
    }
    text
}

/// A field of a kind.
struct Field<'a> {
    path: String,
    is_required: bool,
    schema: &'a JSONSchemaProps,
}

fn kind(text: &mut String, definition: &CustomResourceDefinition) {
    let names = &definition.spec.names;
    let short = names.short_names.iter().flatten();
    let also: Vec<String> = short.map(|name| format!("`{name}`")).collect();
    let (kind, plural) = (&names.kind, &names.plural);
    line(text, &format!("\n## {kind}\n\n`kubectl get {plural}`, also {}.", also.join(", ")));
    for version in &definition.spec.versions {
        let Some(root) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
            continue;
        };
        line(text, &format!("\n{}", cell(root.description.as_deref().unwrap_or_default())));
        let mut fields = Vec::new();
        for part in ["spec", "status"] {
            if let Some(schema) = root.properties.as_ref().and_then(|all| all.get(part)) {
                walk(part.to_owned(), true, schema, &mut fields);
            }
        }
        table(text, &fields);
        columns(text, version.additional_printer_columns.as_deref().unwrap_or_default());
        rules(text, root, &fields);
    }
}

fn table(text: &mut String, fields: &[Field<'_>]) {
    line(text, "\n| field | type | what it says |\n|---|---|---|");
    for Field { path, is_required, schema } in fields {
        let needed = if *is_required { ", required" } else { "" };
        // a plain item or value is explained with its list or map
        let Some(says) = schema.description.as_deref().map(cell) else { continue };
        line(text, &format!("| `{path}` | {}{needed} | {says} |", type_of(schema)));
    }
}

fn columns(text: &mut String, columns: &[CustomResourceColumnDefinition]) {
    line(text, "\n| column | shows |\n|---|---|");
    for column in columns {
        let wide = if column.priority.unwrap_or_default() > 0 { " (`-o wide`)" } else { "" };
        let fallback = format!("`{}`", column.json_path);
        let says = column.description.as_deref().map_or(fallback, cell);
        line(text, &format!("| {}{wide} | {says} |", column.name));
    }
}

fn rules(text: &mut String, root: &JSONSchemaProps, fields: &[Field<'_>]) {
    let of_root = of_schema("the object", root);
    let of_fields = fields.iter().flat_map(|field| of_schema(&field.path, field.schema));
    let all: Vec<_> = of_root.into_iter().chain(of_fields).collect();
    if !all.is_empty() {
        line(text, "\nRefused, with these words:\n");
    }
    for (path, message) in all {
        line(text, &format!("- `{path}`: {message}"));
    }
}

fn of_schema(path: &str, schema: &JSONSchemaProps) -> Vec<(String, String)> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    let mut told: Vec<(String, String)> = Vec::new();
    for ValidationRule { message, field_path, .. } in rules {
        let at = format!("{path}{}", field_path.as_deref().unwrap_or_default());
        let entry = (at, message.as_deref().unwrap_or_default().to_owned());
        // one thing may take two rules
        if !told.contains(&entry) {
            told.push(entry);
        }
    }
    told
}

fn walk<'a>(
    path: String,
    is_required: bool,
    schema: &'a JSONSchemaProps,
    found: &mut Vec<Field<'a>>,
) {
    let place = found.len();
    for (name, property) in schema.properties.iter().flatten() {
        let is_required = schema.required.as_ref().is_some_and(|all| all.contains(name));
        walk(format!("{path}.{name}"), is_required, property, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(format!("{path}[]"), false, items, found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(format!("{path}{{}}"), false, values, found);
    }
    found.insert(place, Field { path, is_required, schema });
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.0)).collect();
        return values.join(", ").replace('"', "");
    }
    let plain = schema.type_.as_deref().unwrap_or("any");
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("list of {}", type_of(items)),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => format!("map to {}", type_of(values)),
        _ if schema.format.as_deref() == Some("date-time") => "point in time".into(),
        _ => plain.into(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn line(text: &mut String, line: &str) {
    // a String takes everything
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_rule_and_column_of_every_kind_is_told() {
        let definitions = crate::all();
        let text = markdown(&definitions);
        for told in [
            "## Tenant",
            "| `spec.identity.subject` | string, required |",
            "| `spec.apiKeys.keys[].expiresAt` | point in time |",
            "| `spec.provisioning` | `OnFirstContact`, `Preprovisioned` |",
            "| Epoch (`-o wide`) | The count of the tenant's assignments |",
            "- `spec.assignment.epoch`: an epoch never decreases;",
        ] {
            assert!(text.contains(told), "{told}");
        }
        let unexplained = |line: &&str| line.ends_with("|  |") || line.ends_with(": ");
        assert_eq!(text.lines().filter(unexplained).collect::<Vec<_>>(), [""; 0]);
    }
}
