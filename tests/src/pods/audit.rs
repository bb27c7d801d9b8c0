//! What the API server's audit log says of writes to tenants and their workers. It must not know why they were written.

use crate::cluster::Cluster;
use jiff::Timestamp;
use patchbay_operator::worker_class::Pace;
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

/// What it took until a tenant had a worker, and was told so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Writes by gateways.
    pub by_gateways: usize,
    /// Writes by the operator: the mark on the worker, and what the tenant is told, up to the word that it is ready.
    pub by_operator: usize,
    /// Writes that the API server had no time for (5xx), where it did not do them before it said so. They are done again,
    /// and are among neither of the others.
    pub failed: usize,
    /// How often a gateway noted that the tenant waits: first, and again where that is long ago.
    pub waits: usize,
    /// When the first of these was noted.
    pub waits_since: Option<Timestamp>,
    /// Words of the operator that the tenant waits, where the wait was long enough for one.
    pub waits_told: usize,
    /// Writes of gateways that came to nothing, because another was faster: refused by the comparison, as by a gateway that
    /// does not see yet what another has just written, or followed by another assignment.
    pub lost: usize,
    /// When the assignment was answered.
    pub assigned: Option<Timestamp>,
    /// Whether the worker was marked.
    pub is_marked: bool,
    /// Whether the tenant was told that it is ready.
    pub is_told: bool,
    /// When the last of the operator's writes was answered.
    pub last_word: Option<Timestamp>,
    /// What was written, for whoever reads that it was too much.
    pub told: Vec<String>,
}

impl Claim {
    /// All writes that were answered.
    pub const fn in_all(&self) -> usize {
        self.by_gateways + self.by_operator
    }

    /// The most that it may be: the assignment, the mark on the worker, and the word to the tenant. Whoever waits has
    /// that noted before, and is told so if it is long; whoever loses a race has written once more (ADR 22).
    pub const fn budget(&self) -> usize {
        3 + self.waits + self.waits_told + self.lost
    }

    /// Whether nothing more follows.
    pub const fn is_over(&self) -> bool {
        self.is_marked && self.is_told
    }
}

/// What the claims of these tenants of a namespace took, where each had one. A worker's mark is its tenant's.
pub fn claims(
    entries: &[Value],
    namespace: &str,
    gateways: &str,
    tenants: &[String],
) -> BTreeMap<String, Claim> {
    let mut claims: BTreeMap<String, Claim> =
        tenants.iter().map(|name| (name.clone(), Claim::default())).collect();
    // others see what was written, and write what follows from it, before it is answered
    let is_here = |entry: &&Value| entry["objectRef"]["namespace"] == namespace;
    let mut entries: Vec<&Value> = entries.iter().filter(is_here).collect();
    entries.sort_by_key(|entry| received(entry));
    let mut by_worker = BTreeMap::new();
    for &entry in &entries {
        let (status, after) = match entry["responseStatus"]["code"].as_u64().unwrap_or_default() {
            500.. if let Some(after) = done_after_all(entry, &entries) => (200, after),
            status => (status, &entry["responseObject"]),
        };
        if let Some(write) = write(entry, gateways) {
            let Some(claim) = claims.get_mut(&write.tenant) else { continue };
            claim.told.push(told(entry));
            match status {
                500.. => claim.failed += 1,
                _ => claim.by_gateways += 1,
            }
            // a name that is taken, and a patch whose test fails
            claim.lost += usize::from(matches!(status, 409 | 422));
            match after["spec"]["assignment"]["worker"].as_str().filter(|_| status < 300) {
                Some("") => {
                    claim.waits += 1;
                    claim.waits_since = claim.waits_since.or_else(|| requested(after));
                }
                Some(worker) => {
                    claim.lost += usize::from(claim.assigned.is_some());
                    claim.assigned = time(entry);
                    by_worker.insert(worker, write.tenant);
                }
                None => {}
            }
        } else if let Some(tenant) = follow_up(entry, gateways, &by_worker) {
            let Some(claim) = claims.get_mut(tenant) else { continue };
            claim.told.push(told(entry));
            let is_word = entry["objectRef"]["resource"] == "tenants";
            match status {
                // what becomes of it later
                _ if is_word && claim.is_told => {}
                500.. => claim.failed += 1,
                _ => {
                    claim.by_operator += 1;
                    claim.last_word = claim.last_word.max(time(entry));
                    claim.is_marked |= !is_word;
                    claim.is_told |= is_word && after["status"]["phase"] == "Ready";
                    let is_of_wait = is_word && after["status"]["phase"] == "Waiting";
                    let is_long = is_long(claim.waits_since, received(entry));
                    claim.waits_told += usize::from(is_of_wait && is_long);
                }
            }
        }
    }
    claims
}

/// The tenant as a write has made it that was answered as one that failed: the API server gave up on the answer when it was
/// done already. Others saw it, and nobody was told that an assignment asked for at the same time was written.
fn done_after_all<'a>(write: &Value, entries: &[&'a Value]) -> Option<&'a Value> {
    let asked = asked(&write["requestObject"])?;
    let tenants = entries.iter().map(|entry| &entry["responseObject"]);
    let mut same = entries
        .iter()
        .zip(tenants)
        .filter(|(_, tenant)| tenant["spec"]["assignment"]["requestedAt"] == *asked);
    let (first, tenant) = same.next()?;
    (first["user"] != write["user"]).then_some(tenant)
}

/// When the assignment was asked for that a request writes: an object, or the steps of a JSON patch.
fn asked(request: &Value) -> Option<&Value> {
    let steps = request.as_array().map(Vec::as_slice).unwrap_or_default();
    let patched = steps.iter().find_map(|step| match step["path"].as_str()? {
        "/spec/assignment" => step["value"].get("requestedAt"),
        "/spec/assignment/requestedAt" => step.get("value"),
        _ => None,
    });
    patched.or_else(|| request["spec"]["assignment"].get("requestedAt"))
}

/// The tenant that somebody else than a gateway writes to, or to whose worker, which has it by now.
fn follow_up<'a>(
    entry: &'a Value,
    gateways: &str,
    by_worker: &'a BTreeMap<&str, String>,
) -> Option<&'a str> {
    let about = &entry["objectRef"];
    let is_others = entry["user"]["username"] != gateways
        && ["patch", "update"].contains(&entry["verb"].as_str()?);
    let name = about["name"].as_str().filter(|_| is_others)?;
    match (about["resource"].as_str()?, about["subresource"].as_str()) {
        ("tenants", _) => Some(name),
        // a pod's status is its node's
        ("pods", None) => by_worker.get(name).map(String::as_str),
        _ => None,
    }
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

/// A write in a line: when it came, what it was, how it was answered, and what the tenant is by that.
fn told(entry: &Value) -> String {
    let (about, after) = (&entry["objectRef"], &entry["responseObject"]);
    let [came, verb, kind, part] = [
        &entry["requestReceivedTimestamp"],
        &entry["verb"],
        &about["resource"],
        &about["subresource"],
    ]
    .map(|text| text.as_str().unwrap_or_default());
    let (assignment, phase) = (&after["spec"]["assignment"], &after["status"]["phase"]);
    format!(
        "{came} {verb} {kind}/{part} by {}: {} {}, {assignment}, {phase}",
        entry["user"]["username"], entry["responseStatus"]["code"], after["message"]
    )
}

/// Since when a tenant waits, by its own word.
fn requested(tenant: &Value) -> Option<Timestamp> {
    tenant["spec"]["assignment"]["requestedAt"].as_str()?.parse().ok()
}

/// Whether a wait is so long that it is told.
fn is_long(since: Option<Timestamp>, now: Option<Timestamp>) -> bool {
    let waited = since.zip(now).map(|(since, now)| now.duration_since(since).unsigned_abs());
    waited.is_some_and(|waited| waited >= Pace::default().untold)
}

/// When an entry's request was answered.
pub fn time(entry: &Value) -> Option<Timestamp> {
    entry["stageTimestamp"].as_str()?.parse().ok()
}

/// When an entry's request came.
fn received(entry: &Value) -> Option<Timestamp> {
    entry["requestReceivedTimestamp"].as_str()?.parse().ok()
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

    /// A write that came at this second, and was answered half a second later.
    fn at(second: u32, user: &str, about: &Value, after: &Value) -> Value {
        let mut about = about.clone();
        about["namespace"] = "here".into();
        json!({
            "stage": "ResponseComplete", "verb": "patch", "user": { "username": user },
            "objectRef": about, "responseStatus": { "code": 200 }, "responseObject": after,
            "requestReceivedTimestamp": format!("2026-11-26T12:00:{second:02}.000000Z"),
            "stageTimestamp": format!("2026-11-26T12:00:{second:02}.500000Z"),
        })
    }

    fn tenant() -> Value {
        json!({ "resource": "tenants", "name": "t" })
    }

    fn status() -> Value {
        json!({ "resource": "tenants", "subresource": "status", "name": "t" })
    }

    fn pod(name: &str) -> Value {
        json!({ "resource": "pods", "name": name })
    }

    fn assigned(worker: &str) -> Value {
        json!({ "spec": { "assignment": { "worker": worker } } })
    }

    fn phase(phase: &str) -> Value {
        json!({ "status": { "phase": phase } })
    }

    fn claim(log: &[Value]) -> Claim {
        claims(log, "here", "gateway", &["t".to_owned()]).remove("t").unwrap()
    }

    #[test]
    fn a_claim_is_its_assignment_and_what_follows_until_the_tenant_is_told() {
        let mut kubelets = pod("w");
        kubelets["subresource"] = "status".into();
        let mut elsewhere = at(5, "operator", &status(), &phase("Waiting"));
        elsewhere["objectRef"]["namespace"] = "elsewhere".into();
        let log = [
            // its key
            at(1, "operator", &pod("w"), &Value::Null),
            // answered before the assignment that it follows from, which is no rarity
            at(3, "operator", &pod("w"), &Value::Null),
            at(2, "gateway", &tenant(), &assigned("w")),
            at(3, "kubelet", &kubelets, &Value::Null),
            at(4, "operator", &pod("another"), &Value::Null),
            at(5, "operator", &status(), &phase("Ready")),
            elsewhere,
            // it goes to sleep
            at(6, "operator", &tenant(), &assigned("")),
            at(7, "operator", &status(), &phase("Asleep")),
        ];
        let claim = claim(&log);
        assert_eq!((claim.by_gateways, claim.by_operator, claim.in_all()), (1, 2, 3));
        assert_eq!((claim.is_over(), claim.budget()), (true, 3));
        assert_eq!(claim.assigned, "2026-11-26T12:00:02.5Z".parse().ok());
        assert_eq!(claim.last_word, "2026-11-26T12:00:05.5Z".parse().ok());
    }

    #[test]
    fn the_claim_of_a_tenant_that_waited_for_long_is_told_twice_and_its_mark_may_come_last() {
        let mut busy = at(8, "gateway", &tenant(), &Value::Null);
        busy["responseStatus"]["code"] = 503.into();
        let mut waits = assigned("");
        waits["spec"]["assignment"]["requestedAt"] = "2026-11-26T12:00:01Z".into();
        let log_of = |told: u32| {
            [
                at(1, "gateway", &tenant(), &waits),
                at(told, "operator", &status(), &phase("Waiting")),
                at(7, "operator", &pod("w"), &Value::Null),
                busy.clone(),
                at(9, "gateway", &tenant(), &assigned("w")),
                at(10, "operator", &status(), &phase("Ready")),
                at(11, "operator", &pod("w"), &Value::Null),
            ]
        };
        let log = log_of(6);
        assert!(!claim(&log[..log.len() - 1]).is_over());
        let claim = claim(&log);
        assert_eq!((claim.by_gateways, claim.by_operator, claim.failed), (2, 3, 1));
        assert_eq!((claim.is_over(), claim.budget()), (true, 5));
        // a word about a short wait is one too many
        let early = self::claim(&log_of(2));
        assert_eq!((early.in_all(), early.budget()), (5, 4));
    }

    #[test]
    fn a_write_that_was_done_though_its_answer_says_it_failed_counts() {
        let waits = json!({ "worker": "", "requestedAt": "2026-11-26T12:00:01Z" });
        let mut made = at(1, "gateway", &tenant(), &json!({ "message": "context canceled" }));
        made["responseStatus"]["code"] = 504.into();
        made["requestObject"]["spec"]["assignment"] = waits.clone();
        let mut told = phase("Waiting");
        told["spec"]["assignment"] = waits;
        let log = [
            made.clone(),
            at(7, "operator", &status(), &told),
            at(8, "gateway", &tenant(), &assigned("w")),
            at(9, "operator", &pod("w"), &Value::Null),
            at(9, "operator", &status(), &phase("Ready")),
        ];
        let claim = self::claim(&log);
        assert_eq!((claim.waits, claim.waits_told, claim.failed), (1, 1, 0));
        assert_eq!((claim.in_all(), claim.budget()), (5, 5));

        // as a step of a patch; and one that was not done, and was written again
        made["requestObject"] = json!([
            { "op": "add", "path": "/spec/assignment/requestedAt", "value": "2026-11-26T12:00:01Z" }
        ]);
        assert!(done_after_all(&made, &[&log[1]]).is_some());
        let again = at(2, "gateway", &tenant(), &told);
        assert_eq!(done_after_all(&made, &[&again, &log[1]]), None);
        assert_eq!(done_after_all(&made, &[&log[2]]), None);
    }

    #[test]
    fn whoever_loses_a_race_may_write_once_more_and_nobody_else() {
        let mut late = at(3, "gateway", &tenant(), &Value::Null);
        late["responseStatus"]["code"] = 409.into();
        let log = [
            at(1, "gateway", &tenant(), &assigned("of-another")),
            at(2, "gateway", &tenant(), &assigned("w")),
            late,
            at(4, "operator", &pod("w"), &Value::Null),
            at(5, "operator", &status(), &phase("Ready")),
        ];
        let claim = claim(&log);
        assert_eq!((claim.by_gateways, claim.lost, claim.in_all()), (3, 2, 5));
        assert_eq!((claim.budget(), claim.told.len()), (5, 5));
        let first = &claim.told[0];
        assert!(
            first.ends_with(
                r#"patch tenants/ by "gateway": 200 null, {"worker":"of-another"}, null"#
            ),
            "{first}"
        );
    }
}
