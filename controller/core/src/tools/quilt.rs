//! What is known of `quilt-mcp`'s tools: what each needs, and which have to be kept from users.
//!
//! The permissions are those of Quilt's own table for enhanced tokens (quilt-mcp-server 244acf4e), with the names of
//! release 0.22.0, and rows for the tools that it lacks by the same rule: what a tool does at AWS is what it needs, and
//! what rules the catalog needs level `admin`. A tool that is in no row is a later release's, and what it does is not
//! known. This module must not know policies or claims.

use super::{Needs, SignedUrls};
use crate::enhanced::Level;

/// The tool that reads a resource of the server's, and its argument, folded.
pub(super) const RESOURCE_TOOL: &str = "get_resource";
pub(super) const RESOURCE_ARGUMENT: &str = "uri";

/// Arguments that are buckets, of whichever tool.
pub(super) const BUCKET_ARGUMENTS: [&str; 11] = [
    "bucket",
    "bucket_name",
    "buckets",
    "check_buckets",
    "registry",
    "s3_uri",
    "s3_uris",
    "source_bucket",
    "source_registry",
    "target_bucket",
    "target_registry",
];

const GET: &str = "s3:GetObject";
const GET_VERSION: &str = "s3:GetObjectVersion";
const PUT: &str = "s3:PutObject";
const LIST: &str = "s3:ListBucket";
const LIST_ALL: &str = "s3:ListAllMyBuckets";
const LOCATION: &str = "s3:GetBucketLocation";
const QUERY: [&str; 2] = ["athena:StartQueryExecution", "athena:GetQueryResults"];

type Row = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// Tools, the permissions that each needs, and the arguments that have to name its buckets.
const ROWS: [Row; 24] = [
    (&["bucket_objects_list"], &[LIST, LOCATION], &["bucket"]),
    (&["bucket_object_info"], &[GET, GET_VERSION], &["s3_uri"]),
    (&["bucket_object_text", "bucket_object_fetch", "bucket_object_link"], &[GET], &["s3_uri"]),
    (&["bucket_objects_put"], &[PUT, "s3:PutObjectAcl", "s3:AbortMultipartUpload"], &["bucket"]),
    (&["bucket_list"], &[LIST_ALL], &[]),
    (&["check_bucket_access"], &[LIST], &["bucket"]),
    (&["discover_permissions"], &[LIST_ALL], &["check_buckets"]),
    (&["package_create", "package_update"], &[LIST, GET, PUT], &["registry"]),
    // without a target it picks one
    (&["package_create_from_s3"], &[LIST, GET, PUT], &["source_bucket", "target_registry"]),
    (&["package_delete"], &[LIST, "s3:DeleteObject"], &["registry"]),
    (&["package_browse", "package_diff"], &[LIST, GET], &["registry"]),
    // without a bucket they search all that the user's role at the catalog reaches
    (&["search_catalog", "unified_search", "packages_search"], &[LIST], &["bucket"]),
    (&["package_contents_search"], &[LIST], &["registry"]),
    (&["create_data_visualization"], &[GET], &[]),
    (&["athena_query_execute", "tabulator_query_execute", "tabulator_list_buckets"], &QUERY, &[]),
    (&["tabulator_bucket_query"], &QUERY, &["bucket_name"]),
    (&["athena_databases_list"], &["glue:GetDatabases"], &[]),
    (&["athena_tables_list"], &["glue:GetTables"], &[]),
    (&["athena_table_schema"], &["glue:GetTable"], &[]),
    (&["athena_workgroups_list"], &["athena:ListWorkGroups"], &[]),
    (&["athena_query_history"], &["athena:ListQueryExecutions"], &[]),
    (&["tabulator_tables_list"], &[LIST], &["bucket"]),
    (&["catalog_configure"], &[], &[]),
    (&LOCAL, &[], &[]),
];

/// What acts within the worker, or on what is public.
const LOCAL: [&str; 18] = [
    RESOURCE_TOOL,
    "athena_query_validate",
    "catalog_info",
    "catalog_uri",
    "catalog_url",
    "auth_status",
    "create_quilt_summary_files",
    "generate_package_visualizations",
    "generate_quilt_summarize_json",
    "search_docs_quilt_bio",
    "search_explain",
    "search_suggest",
    "workflow_add_step",
    "workflow_create",
    "workflow_delete",
    "workflow_get_status",
    "workflow_template_apply",
    "workflow_update_step",
];

/// What rules the catalog, beside everything whose name begins with [`ADMIN_PREFIX`].
const RULING: [&str; 3] =
    ["tabulator_table_create", "tabulator_table_delete", "tabulator_table_rename"];
const ADMIN_PREFIX: &str = "admin_";

/// Resources by their URI's beginning, their level, and the permissions that each needs.
const RESOURCES: [(&str, Level, &[&str]); 8] = [
    ("auth://", Level::Read, &[]),
    ("metadata://", Level::Read, &[]),
    ("workflow://", Level::Read, &[]),
    ("admin://", Level::Admin, &[]),
    ("athena://databases", Level::Read, &["glue:GetDatabases"]),
    ("athena://workgroups", Level::Read, &["athena:ListWorkGroups"]),
    ("athena://query/history", Level::Read, &["athena:ListQueryExecutions"]),
    ("tabulator://buckets", Level::Read, &QUERY),
];

/// What a tool needs; none where it is not known.
pub(super) fn needs(tool: &str) -> Option<Needs> {
    if RULING.contains(&tool) {
        return Some(needing(Level::Admin, &[], &["bucket_name"]));
    }
    if tool.starts_with(ADMIN_PREFIX) {
        return Some(needing(Level::Admin, &[], &[]));
    }
    let (_, permissions, buckets) = ROWS.iter().find(|(tools, ..)| tools.contains(&tool))?;
    Some(needing(Level::Read, permissions, buckets))
}

/// What a resource needs; none where it is not known.
pub(super) fn resource(uri: &str) -> Option<Needs> {
    // a server may drop what is around a URI, and take its scheme in any case
    let is_plain = uri.bytes().all(|byte| byte.is_ascii_graphic());
    let uri = uri.to_ascii_lowercase();
    let (_, level, permissions) = RESOURCES.iter().find(|(start, ..)| uri.starts_with(start))?;
    is_plain.then(|| needing(*level, permissions, &[]))
}

/// Whether a tool, by its folded name, is offered only where a class names it: a server that is pointed at another
/// catalog works for its user no more, and is asked to show that catalog who they are.
pub(super) fn is_withheld(folded: &str) -> bool {
    folded == "catalogconfigure"
}

/// Whether a tool returns signed URLs: these hold the user's own session at AWS.
pub(super) fn signed_urls(tool: &str) -> SignedUrls {
    match tool {
        "bucket_object_link" => SignedUrls::Always,
        "bucket_objects_list" | "package_browse" => SignedUrls::Unless("include_signed_urls"),
        _ => SignedUrls::Never,
    }
}

fn needing(level: Level, permissions: &[&str], buckets: &[&str]) -> Needs {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Needs { level, permissions: owned(permissions), bucket_arguments: owned(buckets) }
}
