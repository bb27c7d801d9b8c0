//! The checks themselves, in upstream's order: what is made, then used, then removed.

use super::{Check, Must, WITHHELD};
use crate::quilt::{call, isolation::listing, read};
use serde_json::{Value, json};

/// All checks for `admin`, whose role is `role-{admin}`, with `other` a user beside.
pub fn checks(admin: &str, other: &str) -> Vec<Check> {
    [
        of_buckets(admin),
        of_search(admin),
        of_packages(admin),
        of_catalog(admin),
        of_queries(admin),
        of_tables(admin),
        of_workflows(),
        of_pictures(admin),
        of_users(admin, other),
        of_settings(),
        of_resources(admin, other),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn says<const N: usize>(tool: &str, arguments: Value, words: [&str; N]) -> Check {
    let must = Must::Say(words.map(str::to_owned).into());
    Check { name: tool.to_owned(), call: call(tool, arguments), must }
}

fn note(user: &str) -> String {
    format!("s3://b-{user}/notes/{user}.txt")
}

fn of_buckets(user: &str) -> Vec<Check> {
    let (bucket, note) = (format!("b-{user}"), note(user));
    let at = json!({ "s3_uri": note });
    let put = json!({ "bucket": bucket, "items": [{ "key": "loop.txt", "text": "of a loop" }] });
    let put_at = json!({ "s3_uri": format!("s3://{bucket}/loop.txt"), "max_bytes": 1000 });
    vec![
        says("bucket_list", json!({}), [&bucket]),
        says("bucket_objects_list", listing(&bucket), ["notes/"]),
        says("bucket_objects_list", json!({ "bucket": bucket, "max_keys": 5 }), ["Signature="]),
        says("bucket_object_info", at.clone(), ["text/plain"]),
        says("bucket_object_text", at.clone(), ["may read"]),
        says("bucket_object_fetch", at.clone(), ["is_base64"]),
        says("bucket_object_link", at, ["Signature="]),
        says("bucket_objects_put", put, ["loop.txt"]),
        says("bucket_object_fetch", put_at, ["bytes_read"]),
        says("check_bucket_access", json!({ "bucket": bucket }), [&bucket]),
        says(
            "discover_permissions",
            json!({ "check_buckets": [bucket] }),
            [&bucket, "full_access"],
        ),
    ]
}

fn of_search(user: &str) -> Vec<Check> {
    let find = |scope: &str, query: &str, found: String, fields| Check {
        // upstream's names: these are what failed where no session with the catalog was
        name: format!("search_catalog.{scope}.no_bucket"),
        call: call("search_catalog", json!({ "query": query, "limit": 10, "scope": scope })),
        must: Must::Find(found, fields),
    };
    vec![
        find("global", "note", format!("b-{user}"), &[]),
        find("file", "note", format!("notes/{user}.txt"), &["id", "type", "title", "score"]),
        find("package", "demo", format!("{user}/demo"), &["id", "type", "score"]),
        says("search_explain", json!({ "query": "CSV files" }), ["CSV files"]),
        Check {
            name: "search_suggest".into(),
            call: call("search_suggest", json!({ "partial_query": "test/", "limit": 5 })),
            // the same without Patchbay and under any fastmcp: quilt-mcp puts its request's context in the place of the
            // tool's own argument `context`, which the tool repeats in its answer, and that object has no form in JSON
            must: Must::Lack(
                "search_suggest answers with an object of its own that no client can be sent",
                "Unable to serialize unknown type: <class 'quilt_mcp.services.iam_auth_service.IAMAuthService'>",
            ),
        },
        Check {
            name: "search_docs_quilt_bio".into(),
            call: call("search_docs_quilt_bio", json!({ "query": "README.md" })),
            must: Must::Lack("docs.quilt.bio", "Failed to fetch docs sitemap"),
        },
    ]
}

/// The same where the class lists `docs.quilt.bio`, and it is there.
pub fn checks_with_docs(admin: &str, other: &str) -> Vec<Check> {
    let mut checks = checks(admin, other);
    for check in checks.iter_mut().filter(|check| check.name == "search_docs_quilt_bio") {
        let fields = &["url", "score", "title", "snippet"];
        check.must = Must::Find("On README files".into(), fields);
    }
    checks
}

fn of_packages(user: &str) -> Vec<Check> {
    let registry = format!("s3://b-{user}");
    let made = format!("{user}/loop");
    let of = |name: &str| json!({ "package_name": name, "registry": registry });
    let with = |name: &str, more: Value| {
        let mut all = of(name);
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
        all
    };
    let demo = format!("{user}/demo");
    let from_s3 = json!({
        "source_bucket": format!("b-{user}"), "package_name": format!("{user}/from-s3"),
        "target_registry": registry, "source_prefix": "notes/", "confirm_structure": false, "force": true,
    });
    let diff = json!({ "package1_name": demo, "package2_name": demo, "registry": registry });
    vec![
        says("package_browse", with(&demo, json!({ "top": 5 })), ["measurements.csv"]),
        says("package_diff", diff, ["diff"]),
        says("package_create", with(&made, json!({ "s3_uris": [note(user)] })), [&made]),
        says("package_browse", of(&made), [&format!("{user}.txt")]),
        says(
            "package_update",
            with(&made, json!({ "s3_uris": [format!("{registry}/loop.txt")] })),
            [&made],
        ),
        says("package_delete", of(&made), [&made]),
        says("package_create_from_s3", from_s3, ["from-s3"]),
        says("package_delete", of(&format!("{user}/from-s3")), ["from-s3"]),
    ]
}

fn of_catalog(user: &str) -> Vec<Check> {
    let place = json!({
        "registry": format!("b-{user}"), "package_name": format!("{user}/demo"), "path": "README.md",
    });
    vec![
        says("catalog_url", place.clone(), ["https://", "README.md"]),
        says("catalog_uri", place, ["quilt+s3://", "README.md"]),
        Check {
            name: WITHHELD.into(),
            call: call(WITHHELD, json!({ "catalog_url": "https://nightly.quilttest.com" })),
            must: Must::BeDenied,
        },
    ]
}

fn of_queries(user: &str) -> Vec<Check> {
    let (bucket, role) = (format!("b-{user}"), format!("role-{user}"));
    let query = json!({ "query": "SELECT 1 as test_value", "max_results": 10 });
    let of_bucket = json!({ "bucket_name": bucket, "query": "SELECT 1 as test_value" });
    let table = json!({ "database": bucket, "table": "measurements" });
    vec![
        says("athena_query_validate", json!({ "query": "SHOW TABLES" }), ["valid"]),
        says("athena_query_execute", query.clone(), [&role]),
        says("athena_tables_list", json!({ "database": bucket }), ["measurements"]),
        says("athena_table_schema", table, [r#""name":"owner""#]),
        says("tabulator_list_buckets", json!({}), [&role]),
        says("tabulator_query_execute", query, [&role]),
        says("tabulator_bucket_query", of_bucket, [&role]),
    ]
}

fn of_tables(user: &str) -> Vec<Check> {
    let bucket = format!("b-{user}");
    let named = |name: &str| json!({ "bucket_name": bucket, "table_name": name });
    let create = json!({
        "bucket_name": bucket, "table_name": "loop", "schema": [{ "name": "col1", "type": "STRING" }],
        "package_pattern": "*/pkg", "logical_key_pattern": "*.csv",
    });
    let rename =
        json!({ "bucket_name": bucket, "table_name": "loop", "new_table_name": "renamed" });
    vec![
        says("tabulator_table_create", create, ["loop"]),
        says("tabulator_table_rename", rename, ["renamed"]),
        says("tabulator_tables_list", json!({ "bucket": bucket }), ["renamed", "col1"]),
        says("tabulator_table_delete", named("renamed"), ["renamed"]),
    ]
}

fn of_workflows() -> Vec<Check> {
    let id = json!({ "workflow_id": "loop", "name": "A loop" });
    let step = json!({ "workflow_id": "loop", "step_id": "step1", "description": "Step 1" });
    let done = json!({ "workflow_id": "loop", "step_id": "step1", "status": "completed" });
    let template = json!({
        "template_name": "data-validation", "workflow_id": "templated", "params": {},
    });
    vec![
        says("workflow_create", id, ["loop"]),
        says("workflow_add_step", step, ["step1"]),
        says("workflow_update_step", done, ["completed"]),
        says("workflow_delete", json!({ "id": "loop" }), ["loop"]),
        says("workflow_template_apply", template, ["templated"]),
        says("workflow_delete", json!({ "id": "templated" }), ["templated"]),
    ]
}

fn of_pictures(user: &str) -> Vec<Check> {
    let data = json!({
        "data": { "x": [1, 2, 3], "y": [4, 5, 6] }, "plot_type": "scatter",
        "x_column": "x", "y_column": "y",
    });
    let summary = json!({
        "package_name": format!("{user}/demo"), "package_metadata": { "description": "test" },
        "organized_structure": { "root": [] }, "readme_content": "# Test Package",
        "source_info": { "source": "test" }, "metadata_template": "standard",
    });
    let pictures = json!({
        "package_name": format!("{user}/demo"), "organized_structure": { "root": [] },
        "file_types": { "txt": 1 },
    });
    vec![
        says("create_data_visualization", data, ["scatter"]),
        says("create_quilt_summary_files", summary.clone(), ["summary"]),
        says("generate_quilt_summarize_json", summary, ["demo"]),
        says("generate_package_visualizations", pictures, ["visualization"]),
    ]
}

fn of_users(admin: &str, other: &str) -> Vec<Check> {
    let (role, further) = (format!("role-{other}"), format!("role-{admin}"));
    let who = json!({ "name": "loop" });
    let with = |name: &str, value: Value| json!({ "name": "loop", name: value });
    let create = json!({ "name": "loop", "email": "loop@example.com", "role": role });
    let email = with("email", json!("loopx@example.com"));
    vec![
        says("admin_user_create", create, ["loop@example.com"]),
        says("admin_user_get", who.clone(), ["loop@example.com", &role]),
        says("admin_user_add_roles", with("roles", json!([further])), ["loop"]),
        says("admin_user_get", who.clone(), [&further]),
        says("admin_user_remove_roles", with("roles", json!([further])), ["loop"]),
        says("admin_user_set_email", email, ["loopx@example.com"]),
        says("admin_user_set_role", with("role", json!(further)), [&further]),
        says("admin_user_set_admin", with("admin", json!(true)), ["loop"]),
        says("admin_user_set_active", with("active", json!(false)), ["loop"]),
        says("admin_user_get", who.clone(), ["loopx@example.com", &further]),
        says("admin_user_reset_password", who.clone(), ["loop"]),
        says("admin_user_delete", who, ["loop"]),
    ]
}

fn of_settings() -> Vec<Check> {
    let config = json!({ "config": {
        "version": "1.0", "provider": "test", "saml_config": "<test>config</test>",
        "mappings": [], "default_role": "ReadQuiltBucket",
    }});
    let open = |enabled: bool| json!({ "enabled": enabled });
    vec![
        says("admin_sso_config_set", config, ["SSO"]),
        says("admin_sso_config_remove", json!({}), ["SSO"]),
        says("admin_tabulator_open_query_set", open(true), ["true"]),
        says("admin_tabulator_open_query_set", open(false), ["false"]),
    ]
}

fn of_resources(admin: &str, other: &str) -> Vec<Check> {
    let role = format!("role-{admin}");
    let get = |words: &str, uri: Option<&str>| says("get_resource", json!({ "uri": uri }), [words]);
    let reads: [(&str, &str); 15] = [
        ("auth://status", "authenticated"),
        ("auth://catalog/info", "catalog"),
        ("auth://filesystem/status", "home"),
        ("admin://users", other),
        ("admin://roles", &role),
        ("admin://config/sso", "sso"),
        ("admin://config/tabulator", "open_query"),
        ("athena://databases", &role),
        ("athena://workgroups", "quilt-queries"),
        ("athena://query/history", "query_history"),
        ("metadata://templates", "templates"),
        ("metadata://examples", "examples"),
        ("metadata://troubleshooting", "troubleshooting"),
        ("workflow://workflows", "workflows"),
        ("tabulator://buckets", &role),
    ];
    let reads = reads.map(|(uri, word)| Check {
        name: uri.to_owned(),
        call: read(uri),
        must: Must::Say(vec![word.to_owned()]),
    });
    [get("auth://status", None), get("authenticated", Some("auth://status"))]
        .into_iter()
        .chain(reads)
        .collect()
}
