//! From what cargo and its test programs print to what became of each test.
//!
//! A suite is known by its program's name, which is its file's (or its crate's, for unit tests), since cargo says of
//! every program which it runs. It must not know what a test is for.

use crate::figures;
use std::collections::BTreeMap;

/// What became of tests, by suite and name, and what they counted.
#[derive(Debug, Default)]
pub struct Outcomes {
    passed: BTreeMap<(String, String), bool>,
    counted: Vec<String>,
}

impl Outcomes {
    /// Adds what a run printed. A test that was run twice must have passed both times.
    pub fn read(&mut self, printed: &str) {
        let mut suite = None;
        // with one thread a test is named when it begins, and what it says comes before its outcome
        let mut begun = None;
        for line in printed.lines() {
            self.counted.extend(figures::told(line).map(str::to_owned));
            if let Some(program) = program(line) {
                (suite, begun) = (Some(program), None);
                continue;
            }
            let told = match test(line) {
                Some((test, told)) => {
                    begun = Some(test);
                    told
                }
                None => line,
            };
            if let (Some(suite), Some(test), Some(has_passed)) = (suite, begun, outcome(told)) {
                let key = (suite.to_owned(), test.to_owned());
                let so_far = self.passed.entry(key).or_insert(true);
                *so_far = *so_far && has_passed;
                begun = None;
            }
        }
    }

    /// What tests counted, in the order in which they said so.
    pub fn counted(&self) -> &[String] {
        &self.counted
    }

    /// Whether a test passed; none where it was not run.
    pub fn of(&self, suite: &str, test: &str) -> Option<bool> {
        self.passed.get(&(suite.to_owned(), test.to_owned())).copied()
    }

    /// How many tests there were.
    pub fn count(&self) -> usize {
        self.passed.len()
    }
}

/// `Running tests/first.rs (target/debug/deps/first-0123456789abcdef)` is of `first`.
fn program(line: &str) -> Option<&str> {
    let path = line.trim_start().strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?.1;
    let (name, hash) = path.rsplit('/').next()?.rsplit_once('-')?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|c| c.is_ascii_hexdigit());
    is_hash.then_some(name)
}

/// A test's name, and what stands behind it.
fn test(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// A test that is left out has not passed.
fn outcome(told: &str) -> Option<bool> {
    match told {
        "ok" => Some(true),
        "FAILED" => Some(false),
        left_out if left_out.starts_with("ignored") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "
   Compiling patchbay-tests v0.1.0 (/somewhere/tests)
     Running unittests src/lib.rs (/target/debug/deps/patchbay_core-36dd9b8539179de6)

running 2 tests
test latch::tests::one_tenant ... ok
test left_out ... ignored, it needs a moon
     Running tests/quilt.rs (/target/debug/deps/quilt-9edb46ba9210b9a1)
test it_works ... ok
";

    #[test]
    fn tests_are_known_by_their_program_and_name() {
        let mut outcomes = Outcomes::default();
        outcomes.read(RUN);
        assert_eq!(outcomes.count(), 3);
        assert_eq!(outcomes.of("patchbay_core", "latch::tests::one_tenant"), Some(true));
        assert_eq!(outcomes.of("quilt", "it_works"), Some(true));
        assert_eq!(outcomes.of("quilt", "latch::tests::one_tenant"), None);
    }

    #[test]
    fn a_test_that_was_left_out_or_failed_once_has_not_passed() {
        let mut outcomes = Outcomes::default();
        outcomes.read(RUN);
        outcomes.read(&RUN.replace("it_works ... ok", "it_works ... FAILED"));
        outcomes.read(RUN);
        assert_eq!(outcomes.of("patchbay_core", "left_out"), Some(false));
        assert_eq!(outcomes.of("quilt", "it_works"), Some(false));
    }

    #[test]
    fn what_a_test_counted_is_kept_and_hides_no_outcome() {
        let mut outcomes = Outcomes::default();
        let beside = format!("{RUN}counted: tools: 2 of 2\ntest it_counts ... ok\n");
        outcomes.read(&beside);
        // with one thread
        let between =
            "test it_says ... counted: tools: 3 of 3\nok\ntest it_fails ... a word\nFAILED\n";
        outcomes.read(&format!("{RUN}{between}ok\n"));
        assert_eq!(outcomes.counted(), ["tools: 2 of 2", "tools: 3 of 3"]);
        assert_eq!(outcomes.of("quilt", "it_counts"), Some(true));
        assert_eq!(outcomes.of("quilt", "it_says"), Some(true));
        assert_eq!(outcomes.of("quilt", "it_fails"), Some(false));
    }

    #[test]
    fn what_stands_before_every_program_is_nobodys() {
        let mut outcomes = Outcomes::default();
        outcomes.read("test it_works ... ok\ntest half\n");
        assert_eq!(outcomes.count(), 0);
    }
}
