//! What a run of tests counted, for whoever reads its output: the one thing that a test which passes has to say. It must not
//! know what was counted.

use std::io::Write as _;

/// How such a line begins.
const MARK: &str = "counted: ";

/// Says it on standard error itself, since what a passing test prints is kept from its reader.
pub fn tell(suite: &str, counted: &str) {
    // one write, so that no other test's line comes between
    let line = format!("{MARK}{suite}: {counted}\n");
    // whoever closed standard error does not want to know
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says again what another run of tests, of which this is the output, told.
pub fn tell_again(output: &str) {
    for counted in output.lines().filter_map(told) {
        let _ = std::io::stderr().write_all(format!("{MARK}{counted}\n").as_bytes());
    }
}

/// What was told in a line of a run's output, which may stand behind the name of the test that runs.
pub fn told(line: &str) -> Option<&str> {
    Some(line.split_once(MARK)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_found_wherever_it_stands_in_a_line() {
        assert_eq!(told("counted: quilt: 3 of 3"), Some("quilt: 3 of 3"));
        assert_eq!(told("test it_works ... counted: quilt: 3 of 3"), Some("quilt: 3 of 3"));
        assert_eq!(told("test it_counted ... ok"), None);
    }
}
