use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The tools of quilt-mcp 0.22.0, with those that the launcher adds.
const TOOLS: [&str; 56] = [
    "admin_sso_config_remove",
    "admin_sso_config_set",
    "admin_tabulator_open_query_set",
    "admin_user_add_roles",
    "admin_user_create",
    "admin_user_delete",
    "admin_user_get",
    "admin_user_remove_roles",
    "admin_user_reset_password",
    "admin_user_set_active",
    "admin_user_set_admin",
    "admin_user_set_email",
    "admin_user_set_role",
    "athena_query_execute",
    "athena_query_validate",
    "athena_table_schema",
    "athena_tables_list",
    "bucket_list",
    "bucket_object_fetch",
    "bucket_object_info",
    "bucket_object_link",
    "bucket_object_text",
    "bucket_objects_list",
    "bucket_objects_put",
    "catalog_configure",
    "catalog_uri",
    "catalog_url",
    "check_bucket_access",
    "create_data_visualization",
    "create_quilt_summary_files",
    "discover_permissions",
    "generate_package_visualizations",
    "generate_quilt_summarize_json",
    "get_resource",
    "package_browse",
    "package_create",
    "package_create_from_s3",
    "package_delete",
    "package_diff",
    "package_update",
    "search_catalog",
    "search_docs_quilt_bio",
    "search_explain",
    "search_suggest",
    "tabulator_bucket_query",
    "tabulator_list_buckets",
    "tabulator_query_execute",
    "tabulator_table_create",
    "tabulator_table_delete",
    "tabulator_table_rename",
    "tabulator_tables_list",
    "workflow_add_step",
    "workflow_create",
    "workflow_delete",
    "workflow_template_apply",
    "workflow_update_step",
];

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn allowed(level: Level, permissions: &[&str], buckets: &[&str]) -> Allowed {
    Allowed { level, permissions: set(permissions), buckets: set(buckets) }
}

/// A token with all that the front end gives a role that may write.
fn writer(buckets: &[&str]) -> Allowed {
    let permissions = [
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:ListAllMyBuckets",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    ];
    allowed(Level::Write, &permissions, buckets)
}

fn quilt(policy: ToolPolicy) -> Judge {
    Judge::new(Some(policy), Profile::Quilt).unwrap()
}

fn by_default() -> Judge {
    Judge::new(None, Profile::Quilt).unwrap()
}

fn open() -> Judge {
    quilt(ToolPolicy { signed_urls: true, ..ToolPolicy::default() })
}

fn call(judge: &Judge, holds: Holds<'_>, tool: &str, arguments: &Value) -> Result<(), Denied> {
    let text = arguments.to_string();
    judge.call(holds, tool, Some(&Json::read(text.as_bytes()).unwrap()))
}

fn said(judge: &Judge, claims: &Allowed, tool: &str, arguments: &Value) -> String {
    call(judge, Holds::Only(claims), tool, arguments)
        .map_or_else(|it| it.to_string(), |()| "ok".into())
}

#[test]
fn every_tool_of_the_release_is_known_and_a_later_ones_is_not_offered_to_claims() {
    let full = Allowed {
        level: Level::Admin,
        permissions: set(&[
            "athena:GetQueryResults",
            "athena:StartQueryExecution",
            "glue:GetTable",
            "glue:GetTables",
        ]),
        ..writer(&["*"])
    };
    let full = Allowed { permissions: &full.permissions | &writer(&[]).permissions, ..full };
    for tool in TOOLS.iter().filter(|tool| **tool != "catalog_configure") {
        assert_eq!(open().offers(Holds::Only(&full), tool), Ok(()), "{tool}");
        assert_eq!(open().offers(Holds::Everything, tool), Ok(()), "{tool}");
    }
    let later = "bucket_objects_shred";
    assert_eq!(open().offers(Holds::Everything, later), Ok(()));
    let denied = open().offers(Holds::Only(&full), later).unwrap_err().to_string();
    assert!(denied.starts_with("Missing required permission(s): nothing here says"), "{denied}");
    let told = ToolPolicy {
        permissions: BTreeMap::from([(later.to_owned(), set(&["s3:DeleteObject"]))]),
        ..ToolPolicy::default()
    };
    assert_eq!(quilt(told).offers(Holds::Only(&full), later), Ok(()));
}

#[test]
fn each_tool_needs_each_of_its_permissions() {
    let none = allowed(Level::Read, &[], &["*"]);
    for (tool, needed) in [
        ("bucket_objects_list", "s3:ListBucket, s3:GetBucketLocation"),
        ("bucket_object_info", "s3:GetObject, s3:GetObjectVersion"),
        ("bucket_object_text", "s3:GetObject"),
        ("bucket_object_fetch", "s3:GetObject"),
        ("bucket_object_link", "s3:GetObject"),
        ("bucket_objects_put", "s3:PutObject, s3:PutObjectAcl, s3:AbortMultipartUpload"),
        ("package_create", "s3:ListBucket, s3:GetObject, s3:PutObject"),
        ("package_update", "s3:ListBucket, s3:GetObject, s3:PutObject"),
        ("package_create_from_s3", "s3:ListBucket, s3:GetObject, s3:PutObject"),
        ("package_delete", "s3:ListBucket, s3:DeleteObject"),
        ("package_browse", "s3:ListBucket, s3:GetObject"),
        ("package_diff", "s3:ListBucket, s3:GetObject"),
        ("search_catalog", "s3:ListBucket"),
        ("unified_search", "s3:ListBucket"),
        ("packages_search", "s3:ListBucket"),
        ("package_contents_search", "s3:ListBucket"),
        ("bucket_list", "s3:ListAllMyBuckets"),
        ("athena_query_execute", "athena:StartQueryExecution, athena:GetQueryResults"),
        ("athena_databases_list", "glue:GetDatabases"),
        ("athena_tables_list", "glue:GetTables"),
        ("athena_table_schema", "glue:GetTable"),
        ("athena_workgroups_list", "athena:ListWorkGroups"),
        ("athena_query_history", "athena:ListQueryExecutions"),
        ("admin_user_get", "level admin"),
        ("tabulator_table_create", "level admin"),
    ] {
        let expected = format!("Missing required permission(s): {needed}");
        assert_eq!(said(&open(), &none, tool, &json!({})), expected);
        // one of them is not all of them
        let one = needed.split(", ").next().unwrap();
        let others = needed.split(", ").skip(1).collect::<Vec<_>>();
        let partly = allowed(Level::Read, &[one], &["*"]);
        if !others.is_empty() {
            let expected = format!("Missing required permission(s): {}", others.join(", "));
            assert_eq!(said(&open(), &partly, tool, &json!({})), expected);
        }
    }
}

#[test]
fn a_bucket_that_is_not_the_users_is_denied_wherever_it_is_named() {
    let alice = writer(&["b-alice"]);
    for (tool, arguments) in [
        ("bucket_objects_list", json!({"bucket": "b-bob"})),
        ("bucket_objects_list", json!({"bucket": "b-alice", "Bucket": "b-bob"})),
        ("bucket_object_text", json!({"s3_uri": "s3://b-bob/x"})),
        ("bucket_objects_put", json!({"bucket": "s3://b-bob", "items": []})),
        (
            "package_create",
            json!({"registry": "b-alice", "s3_uris": ["s3://b-alice/x", "s3://b-bob/x"]}),
        ),
        ("package_create", json!({"registry": "b-alice", "s3_uris": "[\"s3://b-bob/x\"]"})),
        (
            "package_create_from_s3",
            json!({"source_bucket": "b-bob", "target_registry": "s3://b-alice"}),
        ),
        (
            "package_create_from_s3",
            json!({"source_bucket": "b-alice", "target_registry": "s3://b-bob"}),
        ),
        ("search_catalog", json!({"query": "x", "bucket": "b-bob"})),
        ("create_data_visualization", json!({"data": "s3://b-bob/t.csv"})),
        ("catalog_url", json!({"registry": "s3://b-bob"})),
        ("discover_permissions", json!({"check_buckets": ["b-alice", "b-bob"]})),
        ("workflow_template_apply", json!({"params": {"source": "s3://b-bob/x"}})),
    ] {
        assert_eq!(
            said(&open(), &alice, tool, &arguments),
            "Access denied to bucket b-bob",
            "{tool}"
        );
        assert_eq!(said(&open(), &writer(&["*"]), tool, &arguments), "ok", "{tool}");
        assert_eq!(call(&open(), Holds::Everything, tool, &arguments), Ok(()), "{tool}");
        let own: Value =
            serde_json::from_str(&arguments.to_string().replace("b-bob", "b-alice")).unwrap();
        assert_eq!(said(&open(), &alice, tool, &own), "ok", "{tool} {own}");
    }
}

#[test]
fn a_tool_that_acts_on_buckets_which_are_not_named_needs_all_of_them() {
    let alice = writer(&["b-alice"]);
    for (tool, arguments, argument) in [
        ("search_catalog", json!({"query": "x"}), "bucket"),
        ("search_catalog", json!({"query": "x", "bucket": ""}), "bucket"),
        ("discover_permissions", json!({}), "check_buckets"),
        ("package_create_from_s3", json!({"source_bucket": "b-alice"}), "target_registry"),
        ("bucket_objects_list", json!({"BUCKET": "b-alice"}), "bucket"),
        ("bucket_object_text", json!({"s3_uri": null}), "s3_uri"),
    ] {
        let denied = said(&open(), &alice, tool, &arguments);
        assert!(
            denied.contains("not named") && denied.contains(&format!("`{argument}`")),
            "{denied}"
        );
        assert_eq!(said(&open(), &writer(&["*"]), tool, &arguments), "ok");
    }
    let odd = said(&open(), &alice, "bucket_objects_list", &json!({"bucket": "b-bob "}));
    assert!(odd.starts_with("Access denied: `bucket` names no bucket"), "{odd}");
    assert!(!odd.contains("b-bob"), "{odd}");
}

#[test]
fn the_quilt_profile_withholds_two_things_unless_a_class_asks_for_them() {
    let plain = Holds::Everything;
    for name in ["catalog_configure", "Catalog_Configure", "catalogConfigure", "catalog_configure "]
    {
        assert!(matches!(call(&by_default(), plain, name, &json!({})), Err(Denied::NotOffered(_))));
    }
    let asked = ToolPolicy { allow: Some(set(&["catalog_configure"])), ..ToolPolicy::default() };
    assert_eq!(call(&quilt(asked), plain, "catalog_configure", &json!({})), Ok(()));

    assert!(by_default().offers(plain, "bucket_object_link").is_err());
    assert_eq!(by_default().offers(plain, "bucket_objects_list"), Ok(()));
    let listed = json!({"bucket": "b", "include_signed_urls": false});
    assert_eq!(call(&by_default(), plain, "bucket_objects_list", &listed), Ok(()));
    for arguments in [
        json!({"bucket": "b"}),
        json!({"include_signed_urls": true}),
        json!({"include_signed_urls": "false"}),
        json!({"include_signed_urls": null}),
        json!({"include_signed_urls": 0}),
        json!({"includeSignedUrls": false}),
        json!({"include_signed_urls": false, "includeSignedUrls": true}),
    ] {
        let denied = call(&by_default(), plain, "bucket_objects_list", &arguments).unwrap_err();
        assert!(denied.to_string().ends_with("say `include_signed_urls: false`"), "{denied}");
        assert_eq!(call(&open(), plain, "bucket_objects_list", &arguments), Ok(()));
    }
}

#[test]
fn lists_bind_everybody_and_a_denied_name_is_denied_in_any_case() {
    let policy = ToolPolicy {
        allow: Some(set(&["read", "écrire", "both"])),
        deny: set(&["both"]),
        ..ToolPolicy::default()
    };
    let judge = Judge::new(Some(policy), Profile::Generic).unwrap();
    assert_eq!(judge.offers(Holds::Everything, "read"), Ok(()));
    assert_eq!(judge.offers(Holds::Everything, "écrire"), Ok(()));
    for other in ["write", "Read", "read ", "", "both", "BOTH", "bo_th"] {
        assert!(judge.offers(Holds::Everything, other).is_err(), "{other}");
    }
    let denies = ToolPolicy { deny: set(&["drop"]), ..ToolPolicy::default() };
    let judge = Judge::new(Some(denies), Profile::Generic).unwrap();
    assert_eq!(judge.offers(Holds::Everything, "other"), Ok(()));
    for other in ["drop", "DROP", "Drop", "drop ", "dröp", "d\u{200b}rop", ""] {
        let offered = judge.offers(Holds::Everything, other);
        assert!(offered.is_err() || other.is_empty(), "{other:?}");
    }
    assert!(Judge::new(None, Profile::Generic).is_none());
}

#[test]
fn of_a_generic_server_claims_bear_on_what_the_class_says() {
    let policy = ToolPolicy {
        permissions: BTreeMap::from([("get".to_owned(), set(&["s3:GetObject"]))]),
        bucket_arguments: BTreeMap::from([("get".to_owned(), set(&["from"]))]),
        ..ToolPolicy::default()
    };
    let judge = Judge::new(Some(policy), Profile::Generic).unwrap();
    let reader = allowed(Level::Read, &["s3:GetObject"], &["b-alice"]);
    let nobody = allowed(Level::Read, &[], &["*"]);
    assert_eq!(said(&judge, &reader, "get", &json!({"from": "b-alice"})), "ok");
    assert_eq!(
        said(&judge, &reader, "get", &json!({"from": "b-bob"})),
        "Access denied to bucket b-bob"
    );
    assert!(said(&judge, &reader, "get", &json!({})).contains("not named"));
    assert!(said(&judge, &nobody, "get", &json!({})).starts_with("Missing required permission(s)"));
    assert_eq!(said(&judge, &nobody, "other", &json!({"registry": "npm"})), "ok");
}

#[test]
fn resources_need_what_they_show_by_whichever_way_they_are_read() {
    let reader = writer(&["b-alice"]);
    let admin = Allowed { level: Level::Admin, ..writer(&["*"]) };
    for (uri, is_read) in [
        ("auth://status", true),
        ("workflow://workflows", true),
        ("admin://users", false),
        ("ADMIN://users", false),
        (" admin://users", false),
        ("athena://databases", false),
        ("later://thing", false),
        ("", false),
    ] {
        let direct = open().resource(Holds::Only(&reader), uri);
        assert_eq!(direct.is_ok(), is_read, "{uri}");
        for name in ["uri", "URI"] {
            let by_tool = call(&open(), Holds::Only(&reader), "get_resource", &json!({name: uri}));
            assert_eq!(by_tool, direct, "{uri}");
        }
        assert_eq!(open().resource(Holds::Everything, uri), Ok(()));
    }
    assert_eq!(open().resource(Holds::Only(&admin), "admin://users"), Ok(()));
    assert_eq!(said(&open(), &reader, "get_resource", &json!({})), "ok");
    assert!(
        said(&open(), &reader, "get_resource", &json!({"uri": ["admin://users"]}))
            .contains("denied")
    );
}

#[test]
fn nothing_is_allowed_to_a_user_of_whom_nothing_is_known() {
    for tool in TOOLS {
        assert!(open().offers(Holds::Nothing, tool).is_err(), "{tool}");
    }
    assert!(open().resource(Holds::Nothing, "auth://status").is_err());
}

#[test]
fn a_denial_shows_no_argument_and_no_name_that_is_none() {
    let alice = writer(&["b-alice"]);
    for (tool, arguments) in [
        ("bucket_objects_put", json!({"bucket": "b-bob", "items": [{"text": "hunter2"}]})),
        ("search_catalog", json!({"query": "hunter2"})),
        ("bucket_object_text", json!({"s3_uri": "s3://hunter2:x@b/"})),
        ("<script>hunter2", json!({})),
        ("a\nhunter2", json!({})),
    ] {
        let denied = said(&open(), &alice, tool, &arguments);
        assert!(denied != "ok" && !denied.contains("hunter2"), "{denied}");
    }
}

proptest! {
    #[test]
    fn claims_never_allow_what_is_denied_without_them(
        tool in proptest::sample::select(&TOOLS[..]),
        argument in proptest::sample::select(&quilt::BUCKET_ARGUMENTS[..]),
        bucket in "b-[a-c]",
        buckets in proptest::collection::btree_set("b-[a-c]", 0..3),
        denies: bool,
        signed: bool,
    ) {
        let policy = ToolPolicy {
            deny: if denies { set(&[tool]) } else { BTreeSet::new() },
            signed_urls: signed,
            ..ToolPolicy::default()
        };
        let judge = quilt(policy);
        let claims = Allowed { buckets, level: Level::Admin, ..writer(&[]) };
        let arguments = json!({ argument: bucket });
        let with = call(&judge, Holds::Only(&claims), tool, &arguments);
        if with.is_ok() {
            prop_assert_eq!(call(&judge, Holds::Everything, tool, &arguments), Ok(()));
            prop_assert!(claims.buckets.contains(&bucket));
        }
    }
}
