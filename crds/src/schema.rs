//! What the derived schemas need before an API server takes them without a warning, and their
//! YAML.
//!
//! This module must not know the fields of any kind.

use crate::bounds;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// A definition as an API server and its users want it.
///
/// It has none of the number formats that only schemars knows: an API server warns of each
/// `uint16`, `uint32` and `uint64` (kubernetes/kubernetes#133136); minimum and maximum, which say
/// the same, stay. Nothing is `nullable`: an API server drops a null that is not allowed, so rules
/// need not tell a field without a value from a field that is not there. Descriptions have no line
/// breaks of the source: `kubectl explain` wraps them itself.
#[must_use]
pub fn conformed(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = &mut version.schema
            && let Some(root) = &mut schema.open_api_v3_schema
        {
            conform(root);
        }
    }
    crd
}

fn conform(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    for property in schema.properties.iter_mut().flatten() {
        conform(property.1);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => conform(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(conform),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        conform(values);
    }
}

/// Why a definition cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// It is no JSON value.
    #[error("the definition cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// It is no YAML document.
    #[error("the definition cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

/// A definition's file name in `crds/yaml/`.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group)
}

const HEADER: &str =
    "# Generated from the types in crds/src. To change it, change them and run: make crds\n";

/// A definition as a YAML document, the same on every machine: keys are sorted.
pub fn render(crd: &CustomResourceDefinition) -> Result<String, RenderError> {
    let mut value = serde_json::to_value(crd)?;
    write_whole_numbers_whole(&mut value);
    let yaml = serde_saphyr::to_string(&value)?;
    Ok(format!("{HEADER}{yaml}"))
}

/// The API's types hold every bound as a floating-point number; `65535` reads better than
/// `65535.0`.
fn write_whole_numbers_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && let Ok(whole) = format!("{float:.0}").parse::<i64>()
                && float.fract() == 0.0
            {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers_whole),
        Value::Object(members) => members.values_mut().for_each(write_whole_numbers_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The schema of a point in time.
pub(crate) fn timestamp(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// The schema of a point in time that need not be given.
pub(crate) fn optional_timestamp(generator: &mut SchemaGenerator) -> Schema {
    timestamp(generator)
}

/// The schema of a list of objects whose fields are Kubernetes' own business.
pub(crate) fn free_form_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": bounds::PLACEMENT,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_value<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get(key));
                members.values().for_each(|v| every_value(key, v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| every_value(key, v, found)),
            _ => {}
        }
    }

    #[test]
    fn only_formats_that_an_api_server_knows_remain() {
        let mut seen = 0;
        for crd in crate::all() {
            let value = serde_json::to_value(&crd).unwrap();
            let mut formats = Vec::new();
            every_value("format", &value, &mut formats);
            for format in formats {
                // a property that is called `format` has a schema here, not a name
                let Some(format) = format.as_str() else {
                    continue;
                };
                assert!(["int32", "int64", "date-time"].contains(&format), "{format}");
                seen += 1;
            }
        }
        assert!(seen > 5, "the formats were looked for in the wrong place");
    }

    #[test]
    fn the_schemas_are_structural() {
        for crd in crate::all() {
            let value = serde_json::to_value(&crd).unwrap();
            for keyword in ["oneOf", "anyOf", "allOf", "not", "$ref", "definitions"] {
                let mut found = Vec::new();
                every_value(keyword, &value, &mut found);
                assert!(found.is_empty(), "{}: {keyword} {found:?}", crd.spec.names.kind);
            }
            // `false` beside `properties` is forbidden: pruning is an API server's way
            let mut additional = Vec::new();
            every_value("additionalProperties", &value, &mut additional);
            assert!(additional.iter().all(|v| v.is_object()), "{additional:?}");
        }
    }

    #[test]
    fn every_field_that_users_write_is_explained() {
        fn unexplained(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
            for (name, property) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                if property.description.as_deref().is_none_or(str::is_empty) {
                    found.push(path.clone());
                }
                unexplained(&path, property, found);
            }
            if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
                unexplained(&format!("{path}[]"), items, found);
            }
        }
        for crd in crate::all() {
            let root = crd.spec.versions[0].schema.as_ref().unwrap();
            let root = root.open_api_v3_schema.as_ref().unwrap();
            let mut found = Vec::new();
            for part in ["spec", "status"] {
                let schema = &root.properties.as_ref().unwrap()[part];
                unexplained(part, schema, &mut found);
            }
            assert!(found.is_empty(), "{}: {found:?}", crd.spec.names.kind);
        }
    }

    /// How many bytes of JSON a value may take, if its texts are ASCII.
    fn largest(path: &str, schema: &JSONSchemaProps) -> i64 {
        let bound = |bound: Option<i64>| bound.unwrap_or_else(|| panic!("{path} is unbounded"));
        match schema.type_.as_deref().unwrap() {
            "boolean" => 5,
            "integer" => 20,
            "string" if schema.format.as_deref() == Some("date-time") => 32,
            "string" if schema.enum_.is_some() => 32,
            "string" => 2 + bound(schema.max_length),
            "array" => {
                let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else { panic!() };
                bound(schema.max_items) * (1 + largest(&format!("{path}[]"), items))
            }
            "object" => match (&schema.properties, &schema.additional_properties) {
                (Some(properties), None) => properties
                    .iter()
                    .map(|(name, property)| {
                        4 + i64::try_from(name.len()).unwrap()
                            + largest(&format!("{path}.{name}"), property)
                    })
                    .sum(),
                (None, Some(JSONSchemaPropsOrBool::Schema(values))) => {
                    bound(schema.max_properties) * (260 + largest(path, values))
                }
                // a toleration: five words that Kubernetes bounds
                _ => 1024,
            },
            other => panic!("{path}: {other}"),
        }
    }

    #[test]
    fn everything_is_bounded_and_the_largest_object_fits_into_etcd() {
        for crd in crate::all() {
            let root = crd.spec.versions[0].schema.as_ref().unwrap();
            let root = root.open_api_v3_schema.as_ref().unwrap();
            let properties = root.properties.as_ref().unwrap();
            let status = largest("status", &properties["status"]);
            let mut spec = properties["spec"].clone();
            let mut bytes = status + largest("spec", &spec);
            if crd.spec.names.kind == "IdentityProvider" {
                // exactly one way in is set, and keys are by far the largest
                let ways = spec.properties.as_mut().unwrap();
                ways.retain(|name, _| !["jwt", "introspection"].contains(&name.as_str()));
                bytes = status + largest("spec", &spec);
            }
            if crd.spec.names.kind == "WorkerClass" {
                // exactly one way to a role is set, and a map is the largest
                let within = |schema: &mut JSONSchemaProps, name: &str| {
                    schema.properties.as_mut().unwrap().remove(name).unwrap()
                };
                let mut role = within(&mut within(&mut spec, "credentials"), "assumeRole");
                bytes -= largest("role", &within(&mut role, "role"));
                bytes -= largest("roleClaim", &within(&mut role, "roleClaim"));
            }
            let most = 3 << 19; // etcd's own bound on a request
            assert!(bytes < most, "{}: {bytes} bytes", crd.spec.names.kind);
        }
    }

    #[test]
    fn whole_numbers_are_written_whole_and_others_are_not() {
        let mut value = serde_json::json!({"a": [1.0, -2.0, 0.5, 3, "1.0"]});
        write_whole_numbers_whole(&mut value);
        assert_eq!(value.to_string(), r#"{"a":[1,-2,0.5,3,"1.0"]}"#);
    }
}
