//! What was promised, and whether it holds: a table of promises and what cargo said of the tests that show them become
//! one line each.
//!
//! It must not know how tests are run: `make acceptance` runs all of them and keeps what they said.

mod outcomes;
mod table;

pub use outcomes::Outcomes;
pub use table::{Group, Promise, Table};

use std::fmt;

/// A promise, and what became of the tests that show it.
#[derive(Debug)]
pub struct Judged<'a> {
    promise: &'a Promise,
    failures: Vec<Failure>,
}

/// Why a promise does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// Nothing shows it.
    NotShown,
    /// A test failed, in one of its runs.
    Failed(String),
    /// A test was not run, or there is none of this name.
    NotRun(String),
}

impl Judged<'_> {
    /// Whether the promise is kept: it has tests, all of them ran, and none failed.
    pub fn holds(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Each promise with its tests' outcomes, in the table's order.
pub fn judge<'a>(table: &'a Table, outcomes: &Outcomes) -> Vec<Judged<'a>> {
    table
        .promises()
        .map(|promise| Judged { promise, failures: failures(promise, outcomes) })
        .collect()
}

fn failures(promise: &Promise, outcomes: &Outcomes) -> Vec<Failure> {
    if promise.tests().next().is_none() {
        return vec![Failure::NotShown];
    }
    let failure = |(suite, test): (&str, &str)| {
        let name = format!("{suite} {test}");
        match outcomes.of(suite, test) {
            Some(true) => None,
            Some(false) => Some(Failure::Failed(name)),
            None => Some(Failure::NotRun(name)),
        }
    };
    promise.tests().filter_map(failure).collect()
}

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "ok  " } else { "FAIL" };
        let Promise { id, promise, .. } = self.promise;
        write!(f, "{verdict} {id:<6} {promise}")?;
        if self.holds() {
            let mut tests = self.promise.tests();
            let Some((suite, test)) = tests.next() else { return Ok(()) };
            write!(f, " [{suite} {test}")?;
            match tests.count() {
                0 => write!(f, "]"),
                more => write!(f, ", and {more} more]"),
            }
        } else {
            self.failures.iter().try_for_each(|failure| write!(f, "\n            {failure}"))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotShown => write!(f, "no test shows it"),
            Self::Failed(test) => write!(f, "failed: {test}"),
            Self::NotRun(test) => write!(f, "not run: {test}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::parse(
            "- group: G\n  promises:\n    \
             - {id: A-1, promise: Kept., shown: {first: [a, 'b::c'], second: [a]}}\n    \
             - {id: A-2, promise: Not kept., shown: {first: [a, d], third: [x]}}\n    \
             - {id: A-3, promise: Hoped for., shown: {}}\n",
        )
        .unwrap()
    }

    #[test]
    fn a_promise_holds_where_all_that_shows_it_ran_and_passed() {
        let mut outcomes = Outcomes::default();
        outcomes.read(
            "     Running tests/first.rs (target/debug/deps/first-0123456789abcdef)\n\
             test a ... ok\ntest b::c ... ok\ntest d ... FAILED\n\
                  Running tests/second.rs (target/debug/deps/second-0123456789abcdef)\ntest a ... ok\n",
        );
        let table = table();
        let judged: Vec<_> = judge(&table, &outcomes).iter().map(ToString::to_string).collect();
        assert_eq!(
            judged,
            [
                "ok   A-1    Kept. [first a, and 2 more]",
                "FAIL A-2    Not kept.\n            failed: first d\n            not run: third x",
                "FAIL A-3    Hoped for.\n            no test shows it",
            ]
        );
    }
}
