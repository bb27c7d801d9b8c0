//! What the API server's audit log says of writes to tenants. It must not know why they were written.

use crate::cluster::Cluster;
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
};

/// Verb and status of a write.
pub type Told = (String, u64);

/// A write to a tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// Its name.
    pub tenant: String,
    /// Create, patch or update.
    pub verb: String,
    /// The answer's.
    pub status: u64,
}

/// All writes of this user to tenants, by the tenant's name, in the order in which they were answered.
pub fn writes(cluster: &Cluster, by: &str) -> anyhow::Result<BTreeMap<String, Vec<Told>>> {
    let mut writes = BTreeMap::<_, Vec<_>>::new();
    for entry in since(cluster, 0)? {
        if let Some(Write { tenant, verb, status }) = write(&entry, by) {
            writes.entry(tenant).or_default().push((verb, status));
        }
    }
    Ok(writes)
}

/// Where the log ends now.
pub fn end(cluster: &Cluster) -> anyhow::Result<u64> {
    Ok(std::fs::metadata(cluster.audit_log())?.len())
}

/// All entries from a place on that was its end.
pub fn since(cluster: &Cluster, mark: u64) -> anyhow::Result<Vec<Value>> {
    let mut log = File::open(cluster.audit_log())?;
    log.seek(SeekFrom::Start(mark))?;
    let mut entries = Vec::new();
    for line in BufReader::new(log).lines() {
        // the last line may be half written
        entries.extend(serde_json::from_str::<Value>(&line?).ok());
    }
    Ok(entries)
}

/// When an entry's request was answered.
pub fn time(entry: &Value) -> Option<Timestamp> {
    entry["stageTimestamp"].as_str()?.parse().ok()
}

/// The write that an entry tells of, if it is one of this user's.
pub fn write(entry: &Value, by: &str) -> Option<Write> {
    let verb = entry["verb"].as_str()?;
    let is_write = entry["user"]["username"] == by
        && entry["objectRef"]["resource"] == "tenants"
        && entry["stage"] == "ResponseComplete"
        && ["create", "patch", "update"].contains(&verb);
    // whoever creates an object names it in what it sends
    let named = [&entry["objectRef"]["name"], &entry["requestObject"]["metadata"]["name"]];
    let tenant = named.iter().find_map(|name| name.as_str()).filter(|_| is_write)?;
    let status = entry["responseStatus"]["code"].as_u64().unwrap_or_default();
    Some(Write { tenant: tenant.to_owned(), verb: verb.to_owned(), status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(verb: &str, reference: &Value) -> Value {
        json!({
            "stage": "ResponseComplete", "verb": verb, "user": { "username": "gateway" },
            "objectRef": reference, "requestObject": { "metadata": { "name": "made" } },
            "responseStatus": { "code": 201 },
        })
    }

    #[test]
    fn a_write_is_of_the_tenant_that_it_names_or_makes() {
        let made = entry("create", &json!({ "resource": "tenants" }));
        let write_of = |entry: &Value| write(entry, "gateway");
        let wrote = |tenant: &str, verb: &str| {
            Some(Write { tenant: tenant.into(), verb: verb.into(), status: 201 })
        };
        assert_eq!(write_of(&made), wrote("made", "create"));
        let patched = entry("patch", &json!({ "resource": "tenants", "name": "t" }));
        assert_eq!(write_of(&patched), wrote("t", "patch"));
    }

    #[test]
    fn reads_other_objects_and_what_others_write_do_not_count() {
        let read = entry("get", &json!({ "resource": "tenants", "name": "t" }));
        assert_eq!(write(&read, "gateway"), None);
        let pod = entry("patch", &json!({ "resource": "pods", "name": "t" }));
        assert_eq!(write(&pod, "gateway"), None);
        let patched = entry("patch", &json!({ "resource": "tenants", "name": "t" }));
        assert_eq!(write(&patched, "operator"), None);
    }
}
