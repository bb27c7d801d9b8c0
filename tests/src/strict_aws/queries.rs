//! What a query of Athena's gives, since moto runs none: by its statement, and by whose keys asked it, so that whoever
//! sees somebody else's rows knows whose. It turns both into what moto is told to answer; it must not know sessions.

use serde_json::{Value, json};

/// Where moto takes the results of the queries that are started next.
pub(super) const RESULTS_PATH: &str = "/moto-api/static/athena/query-results";

/// The one table that everybody's database has, and its columns.
const TABLE: &str = "measurements";
const COLUMNS: [(&str, &str); 2] = [("owner", "varchar"), ("value", "integer")];

/// The body that makes moto answer the next query so: with what `query` gives the bearer of `role`'s keys.
pub(super) fn results(query: &str, role: &str) -> Value {
    let role = role.rsplit('/').next().unwrap_or(role);
    let (columns, rows): (&[(&str, &str)], Vec<Vec<String>>) = match statement(query).as_str() {
        "SHOW DATABASES" => (&[("database_name", "string")], vec![vec![role.to_owned()]]),
        "SHOW TABLES" => (&[("tab_name", "string")], vec![vec![TABLE.to_owned()]]),
        "DESCRIBE" => {
            let line = |(name, kind): (&str, &str)| vec![format!("{name}\t{kind}\t")];
            (&[("col_name", "string")], COLUMNS.map(line).into())
        }
        // the first row of a SELECT is its header
        _ => {
            let header = COLUMNS.map(|(name, _)| name.to_owned()).into();
            (&COLUMNS, vec![header, vec![role.to_owned(), "1".to_owned()]])
        }
    };
    let cells = |row: Vec<String>| -> Value {
        row.into_iter().map(|cell| json!({ "VarCharValue": cell })).collect()
    };
    let column = |(name, kind): &(&str, &str)| {
        json!({
            "CatalogName": "hive", "SchemaName": "", "TableName": "", "Name": name, "Label": name,
            "Type": kind, "Precision": 0, "Scale": 0, "Nullable": "UNKNOWN", "CaseSensitive": false,
        })
    };
    json!({ "results": [{
        "rows": rows.into_iter().map(|row| json!({ "Data": cells(row) })).collect::<Value>(),
        "column_info": columns.iter().map(column).collect::<Value>(),
    }]})
}

/// `SHOW` with what is shown, or the first word.
fn statement(query: &str) -> String {
    let mut words = query.split_whitespace().map(str::to_ascii_uppercase);
    match (words.next(), words.next()) {
        (Some(first), Some(second)) if first == "SHOW" => format!("{first} {second}"),
        (first, _) => first.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::123456789012:role/role-alice";

    #[test]
    fn what_a_query_gives_names_whoever_asked() {
        let given = |query| results(query, ROLE)["results"][0]["rows"].to_string();
        assert!(given("SELECT * FROM t").contains("role-alice"));
        assert!(given("show databases IN `AwsDataCatalog`").contains("role-alice"));
        assert!(given("SHOW TABLES").contains(TABLE));
        assert!(given("DESCRIBE `measurements`").contains("owner\\tvarchar"));
    }

    #[test]
    fn only_a_select_has_a_header() {
        let rows = |query| results(query, ROLE)["results"][0]["rows"].as_array().unwrap().len();
        assert_eq!(rows("SELECT 1"), 2);
        assert_eq!(rows("SHOW TABLES"), 1);
    }
}
