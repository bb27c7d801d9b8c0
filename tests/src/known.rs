//! The secrets of one process of tests, each known from when it is first used: what clients present, what a double is
//! shown, and the keys that doubles give out. Every answer that a client has and every log that a test reads is searched
//! for all of them, without the suite's doing. It must not know what a suite is about.

use crate::secrets::Secrets;
use parking_lot::RwLock;
use std::{collections::HashSet, sync::LazyLock};

#[derive(Default)]
struct Known {
    /// Digests of none: a secret is found again by itself.
    seen: HashSet<String>,
    presented: Secrets,
    held: Secrets,
}

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

/// Somebody proves who they are by it: it is in no answer, and in no log. One that is too short to be looked for is not.
pub fn present(what: &str, secret: &str) {
    know(secret, |known| known.presented.add(what, secret));
}

/// A user's server acts by it, and may tell its user: it is in no log.
pub fn hold(what: &str, secret: &str) {
    know(secret, |known| known.held.add(what, secret));
}

fn know(secret: &str, add: impl FnOnce(&mut Known) -> anyhow::Result<()>) {
    if KNOWN.read().seen.contains(secret) {
        return;
    }
    let mut known = KNOWN.write();
    if known.seen.insert(secret.to_owned()) {
        // what is too short would be found by chance
        let _ = add(&mut known);
    }
}

/// The values of these headers that prove who somebody is.
pub fn present_in(headers: &[(&str, &str)]) {
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("authorization") {
            present("a bearer", value.split_once(' ').map_or(*value, |(_, bearer)| bearer));
        } else if name.eq_ignore_ascii_case("x-api-key") {
            present("an API key", value);
        }
    }
}

/// Fails if something that somebody presents is in an answer from `place`.
pub fn not_in_answer(place: &str, text: &str) -> anyhow::Result<()> {
    KNOWN.read().presented.not_in(place, text)
}

/// Fails if anything that is known is in a log, or in metrics, of `place`.
pub fn not_in_log(place: &str, text: &str) -> anyhow::Result<()> {
    let known = KNOWN.read();
    known.presented.not_in(place, text)?;
    known.held.not_in(place, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_presented_is_in_no_answer_and_what_a_server_holds_is_in_no_log() {
        present_in(&[
            ("Authorization", "Bearer the-bearer-of-a-test"),
            ("x-api-key", "pb_the-key-of-a-test"),
            ("accept", "something/that-is-none"),
            ("x-api-key", "short"),
        ]);
        hold("a key of AWS", "the-aws-key-of-a-test");
        for told in ["the-bearer-of-a-test", "pb_the-key-of-a-test"] {
            assert!(not_in_answer("it", told).is_err(), "{told}");
            assert!(not_in_log("it", told).is_err(), "{told}");
        }
        for none in ["something/that-is-none", "short", "the-bearer-of-no-test"] {
            not_in_answer("it", none).unwrap();
            not_in_log("it", none).unwrap();
        }
        not_in_answer("it", "the-aws-key-of-a-test").unwrap();
        assert!(not_in_log("it", "the-aws-key-of-a-test").is_err());
    }
}
