//! Every tool and every resource of `quilt-mcp`, used once or more by an administrator with arguments that must succeed,
//! and what each must say: upstream's own test of its tools (`scripts/mcp-test.py` with `scripts/tests/mcp-test.yaml`,
//! its loops in their order) at the version that the image locks, on a catalog and an AWS of ours. Values in, verdicts
//! out; wherever the worker runs.

mod controls;
mod table;

pub use controls::{found, searches_for};
pub use table::{checks, checks_with_docs};

use anyhow::{bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;

/// What Patchbay keeps from users where a class does not name it: checked is that it cannot be called.
pub const WITHHELD: &str = "catalog_configure";

/// One check.
pub struct Check {
    /// Its name, which is the tool's or the resource's where that is enough.
    pub name: String,
    /// What is asked.
    pub call: Value,
    must: Must,
}

/// What a check demands of the answer.
enum Must {
    /// It succeeds, and says all of this.
    Say(Vec<String>),
    /// It succeeds with at least one result, says this, and each result has these fields.
    Find(String, &'static [&'static str]),
    /// Patchbay answers in the server's place, and names the tool.
    BeDenied,
    /// What it needs is not here, and it says exactly that: where, and the words.
    Lack(&'static str, &'static str),
}

/// What came of all checks.
#[derive(Debug, PartialEq, Eq)]
pub struct Counts {
    tools: usize,
    resources: usize,
    checks: usize,
    withheld: usize,
    lacking: Vec<&'static str>,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tools, resources, checks, withheld, lacking } = self;
        write!(
            f,
            "tools: {} of {tools} work, {withheld} withheld, {} not shown {lacking:?}; \
             resources: {resources} of {resources}; checks: {checks} of {checks} as demanded",
            tools - withheld - lacking.len(),
            lacking.len()
        )
    }
}

/// What all checks came to: every tool and resource that the server lists is one that was checked, and the other way
/// round, and every check got what it demands.
pub fn judge(
    checks: &[Check],
    tools: &BTreeSet<String>,
    resources: &BTreeSet<String>,
    said: &[String],
) -> anyhow::Result<Counts> {
    ensure!(checks.len() == said.len(), "{} checks, {} answers", checks.len(), said.len());
    let named = |kind: &str| -> BTreeSet<String> {
        checks.iter().filter_map(|it| it.call[kind].as_str()).map(str::to_owned).collect()
    };
    let (checked, read) = (named("tool"), named("resource"));
    let listed: BTreeSet<String> = tools.iter().cloned().chain([WITHHELD.to_owned()]).collect();
    ensure!(!tools.contains(WITHHELD), "{WITHHELD} is listed");
    for (kind, listed, checked) in [("tools", &listed, &checked), ("resources", resources, &read)] {
        let unchecked: Vec<_> = listed.difference(checked).collect();
        let unlisted: Vec<_> = checked.difference(listed).collect();
        ensure!(unchecked.is_empty(), "{kind} that nobody checks: {unchecked:?}");
        ensure!(unlisted.is_empty(), "{kind} that are not listed: {unlisted:?}");
    }
    let failures: Vec<String> = checks
        .iter()
        .zip(said)
        .filter_map(|(check, said)| {
            let wrong = check.must.be_met(said).err()?;
            let said: String = said.chars().take(600).collect();
            Some(format!("{} with {}: {wrong}: {said}", check.name, check.call))
        })
        .collect();
    if !failures.is_empty() {
        bail!("{} of {} checks failed:\n{}", failures.len(), checks.len(), failures.join("\n"));
    }
    let lacking = checks.iter().filter_map(|check| match check.must {
        Must::Lack(what, _) => Some(what),
        _ => None,
    });
    Ok(Counts {
        tools: listed.len(),
        resources: resources.len(),
        checks: checks.len(),
        withheld: 1,
        lacking: lacking.collect(),
    })
}

impl Must {
    fn be_met(&self, said: &str) -> anyhow::Result<()> {
        match self {
            Self::Say(words) => {
                succeeded(said)?;
                for word in words {
                    ensure!(said.contains(word.as_str()), "it does not say {word}");
                }
            }
            Self::Find(word, fields) => {
                let answer = succeeded(said)?;
                let results = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
                let found = results.len();
                ensure!(found >= 1, "expected at least 1 result, got {found}");
                ensure!(said.contains(word.as_str()), "it does not find {word}");
                for field in *fields {
                    let has = results.iter().all(|result| !result[field].is_null());
                    ensure!(has, "a result has no {field}");
                }
            }
            Self::BeDenied => {
                let denied = format!("The tool {WITHHELD} is not offered here");
                ensure!(said.contains(&denied), "it is not denied");
            }
            Self::Lack(_, words) => ensure!(said.contains(words), "it does not say {words}"),
        }
        Ok(())
    }
}

/// An answer of quilt-mcp's that is no failure, whichever of its ways to say so it takes.
fn succeeded(said: &str) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_str(said).map_err(|_| anyhow::anyhow!("it is no JSON"))?;
    ensure!(answer.is_object(), "it is no object");
    ensure!(answer["success"] != false, "it failed");
    ensure!(answer["status"] != "error", "it failed");
    ensure!(answer["error"].is_null(), "it has an error");
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::{super::call, *};
    use serde_json::json;

    fn one(must: Must) -> [Check; 1] {
        [Check { name: "a".into(), call: call("a", json!({})), must }]
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn judged(tools: &[&str], must: Must, said: &str) -> Result<Counts, String> {
        let mut checks: Vec<Check> = one(must).into();
        checks.push(Check {
            name: WITHHELD.into(),
            call: call(WITHHELD, json!({})),
            must: Must::BeDenied,
        });
        let denied = format!("The tool {WITHHELD} is not offered here");
        judge(&checks, &set(tools), &set(&[]), &[said.to_owned(), denied])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_tool_that_nobody_checks_and_a_check_of_no_tool_fail() {
        let fine = || Must::Say(vec!["x".into()]);
        assert!(judged(&["a"], fine(), r#"{"success":true,"x":1}"#).is_ok());
        let unchecked = judged(&["a", "b"], fine(), r#"{"x":1}"#).unwrap_err();
        assert!(unchecked.contains(r#"nobody checks: ["b"]"#), "{unchecked}");
        let unlisted = judged(&[], fine(), r#"{"x":1}"#).unwrap_err();
        assert!(unlisted.contains(r#"not listed: ["a"]"#), "{unlisted}");
        let offered = judged(&["a", WITHHELD], fine(), r#"{"x":1}"#).unwrap_err();
        assert!(offered.contains("is listed"), "{offered}");
    }

    #[test]
    fn a_failure_is_one_in_each_of_the_servers_ways_to_say_so() {
        for failed in [
            r#"{"success":false,"x":1}"#,
            r#"{"status":"error","x":1}"#,
            r#"{"error":"x"}"#,
            "Error executing tool x",
        ] {
            assert!(judged(&["a"], Must::Say(vec!["x".into()]), failed).is_err(), "{failed}");
        }
    }

    #[test]
    fn a_search_without_a_result_fails() {
        let find = || Must::Find("b-alice".into(), &["id"]);
        let none = judged(&["a"], find(), r#"{"success":true,"results":[],"of":"b-alice"}"#);
        assert!(none.unwrap_err().contains("expected at least 1 result, got 0"));
        assert!(judged(&["a"], find(), r#"{"results":[{"id":"s3://b-alice/k"}]}"#).is_ok());
        let bare = judged(&["a"], find(), r#"{"results":[{"title":"s3://b-alice/k"}]}"#);
        assert!(bare.unwrap_err().contains("a result has no id"));
    }

    #[test]
    fn what_cannot_be_shown_is_counted_apart() {
        let lack = Must::Lack("docs.example", "Docs search failed");
        let counts = judged(&["a"], lack, r#"{"error":"Docs search failed: no way"}"#).unwrap();
        assert_eq!(counts.lacking, ["docs.example"]);
        assert!(counts.to_string().contains("0 of 2 work, 1 withheld, 1 not shown"), "{counts}");
    }
}
