//! Tabulator tables: set (an empty configuration deletes) and rename, in buckets of the caller's
//! own.

use super::{Call, Resolved, directory::Table, shapes};

/// `bucketSetTabulatorTable(bucketName, tableName, config)`.
pub(super) fn set_table(call: &mut Call<'_>) -> Resolved {
    let bucket: String = call.variable("bucketName")?;
    let name: String = call.variable("tableName")?;
    let config: Option<String> = call.variable("config")?;
    let tables = &mut call.directory.tables;
    if call.caller.buckets.iter().any(|own| own.name == bucket) {
        tables.retain(|table| (table.bucket.as_str(), &table.name) != (bucket.as_str(), &name));
        if let Some(config) = config {
            tables.push(Table { bucket: bucket.clone(), name, config });
        }
    }
    Ok(bucket_or_error(call, &bucket))
}

/// `bucketRenameTabulatorTable(bucketName, tableName, newTableName)`.
pub(super) fn rename_table(call: &mut Call<'_>) -> Resolved {
    let bucket: String = call.variable("bucketName")?;
    let name: String = call.variable("tableName")?;
    let new_name: String = call.variable("newTableName")?;
    let own = call.caller.buckets.iter().any(|own| own.name == bucket);
    let mut tables = call.directory.tables.iter_mut();
    match tables.find(|table| own && table.bucket == bucket && table.name == name) {
        Some(table) => {
            table.name = new_name;
            Ok(bucket_or_error(call, &bucket))
        }
        None if own => Ok(shapes::invalid_input("tableName", "TableNotFound", "no such table")),
        None => Ok(bucket_or_error(call, &bucket)),
    }
}

fn bucket_or_error(call: &Call<'_>, name: &str) -> serde_json::Value {
    match call.caller.buckets.iter().find(|bucket| bucket.name == name) {
        Some(bucket) => shapes::bucket(call.directory, bucket),
        None => shapes::operation_error("BucketNotAllowed", "no access to this bucket"),
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::graphql::tests::ask;
    use serde_json::{Value, json};

    const SET: &str = "mutation S($bucketName: String!, $tableName: String!, $config: String) \
        { bucketSetTabulatorTable(bucketName: $bucketName, tableName: $tableName, \
        config: $config) { __typename } }";
    const RENAME: &str = "mutation R($bucketName: String!, $tableName: String!, \
        $newTableName: String!) { bucketRenameTabulatorTable(bucketName: $bucketName, \
        tableName: $tableName, newTableName: $newTableName) { __typename } }";
    const LIST: &str =
        "query L($name: String!) { bucketConfig(name: $name) { tabulatorTables { name config } } }";

    fn tables(answer: &Value) -> Value {
        answer["data"]["bucketConfig"]["tabulatorTables"].clone()
    }

    #[test]
    fn a_table_is_set_renamed_and_deleted() {
        let set = (SET, json!({ "bucketName": "b-alice", "tableName": "t", "config": "c" }));
        let rename =
            (RENAME, json!({ "bucketName": "b-alice", "tableName": "t", "newTableName": "u" }));
        let delete = (SET, json!({ "bucketName": "b-alice", "tableName": "u", "config": null }));
        let list = (LIST, json!({ "name": "b-alice" }));
        let renamed = ask("alice", &[set.clone(), rename.clone(), list.clone()]);
        assert_eq!(tables(&renamed), json!([{ "name": "u", "config": "c" }]));
        assert_eq!(tables(&ask("alice", &[set, rename, delete, list])), json!([]));
    }

    #[test]
    fn a_table_in_the_bucket_of_another_is_refused() {
        let set = (SET, json!({ "bucketName": "b-alice", "tableName": "t", "config": "c" }));
        let answer = ask("bob", &[set]);
        let refused = &answer["data"]["bucketSetTabulatorTable"];
        assert_eq!(refused["__typename"], "OperationError");
    }
}
