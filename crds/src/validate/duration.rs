//! Durations as people write them, such as `30s`, `15m` or `1h30m`.
//!
//! Whole numbers of days, hours, minutes and seconds, the largest unit first and each at most once,
//! so that every text has one reading. This module must not know what is timed.

use super::Problem;
use std::time::Duration;

const FIX: &str = "write numbers with the units d, h, m, s, such as `30s`, `15m` or `1h30m`";

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// One second.
pub const SECOND: Duration = Duration::from_secs(1);

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, Problem> {
    let invalid = || Problem::with(text, "is not a duration", FIX);
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(unit_at);
        let unit = tail.chars().next().ok_or_else(invalid)?;
        // the iterator goes on where it stopped, so a unit after a smaller or equal one is not
        // found
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        // as many digits as a cluster's rules read
        let number = Some(number).filter(|number| number.len() <= 9);
        seconds = number
            .and_then(|number| number.parse::<u64>().ok())
            .and_then(|number| number.checked_mul(*scale))
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(invalid)?;
        rest = tail.get(unit.len_utf8()..).unwrap_or_default();
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads a duration from 1 s to `most`, which is named as it is written.
pub fn bounded(text: &str, most: (&str, Duration)) -> Result<Duration, Problem> {
    between(text, ("1s", SECOND), most)
}

/// Reads a duration from `least` to `most`, which are named as they are written.
pub fn between(
    text: &str,
    least: (&str, Duration),
    most: (&str, Duration),
) -> Result<Duration, Problem> {
    let duration = parse(text)?;
    if (least.1..=most.1).contains(&duration) {
        return Ok(duration);
    }
    let which = if duration < least.1 { "short" } else { "long" };
    Err(Problem::with(text, format!("is too {which}"), format!("use {} to {}", least.0, most.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds) in [
            ("0s", 0),
            ("30s", 30),
            ("15m", 900),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d1h1m1s", 90_061),
            ("90m", 5400),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_has_no_single_reading_is_refused() {
        for bad in [
            "",
            "15",
            "m",
            "15 m",
            "1m1h",
            "1m1m",
            "-1s",
            "1.5h",
            "500ms",
            "1w",
            "1M",
            "1h ",
            "é",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_inclusive_and_named_in_the_fix() {
        let ten_minutes = ("10m", Duration::from_mins(10));
        assert_eq!(bounded("10m", ten_minutes), Ok(Duration::from_mins(10)));
        assert_eq!(bounded("1s", ten_minutes), Ok(SECOND));
        let short = bounded("0s", ten_minutes).unwrap_err();
        assert_eq!(short.to_string(), "`0s` is too short; use 1s to 10m");
        let long = bounded("601s", ten_minutes).unwrap_err();
        assert_eq!(long.to_string(), "`601s` is too long; use 1s to 10m");
    }
}
