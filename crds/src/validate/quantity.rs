//! Kubernetes quantities of bytes, such as `512Mi` or `1.5G`, as numbers.
//!
//! Only what an amount of memory needs is read: no sign, no exponent, no thousandth. This module
//! must not know what is measured.

use super::Problem;

const FIX: &str = "write a number and a unit, such as `512Mi` or `2Gi`";

const UNITS: [(&str, u64); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

/// One mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;
/// One tebibyte, in bytes.
pub const TIB: u64 = 1 << 40;

/// The number of bytes, rounded up as Kubernetes does.
pub fn parse(text: &str) -> Result<u64, Problem> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let invalid = || Problem::with(text, "is not a quantity", FIX);
    let scale = match unit {
        "" => 1,
        unit => UNITS
            .iter()
            .find_map(|(name, scale)| (*name == unit).then_some(*scale))
            .ok_or_else(invalid)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !whole.is_empty()
        && whole.len() <= 18
        && fraction.len() <= 18
        && fraction.bytes().all(|c| c.is_ascii_digit())
        && (number.len() == whole.len() || !fraction.is_empty());
    if !is_number {
        return Err(invalid());
    }
    // at most 36 digits times 2^60 would overflow; 18 digits times 2^60 fit into 128 bits
    let scaled = |digits: &str| -> Option<u128> {
        digits.parse::<u128>().ok()?.checked_mul(u128::from(scale))
    };
    let whole = scaled(whole).ok_or_else(invalid)?;
    let fraction = match fraction.len() {
        0 => 0,
        places => scaled(fraction)
            .ok_or_else(invalid)?
            .div_ceil(10u128.pow(u32::try_from(places).unwrap_or(u32::MAX))),
    };
    u64::try_from(whole + fraction).map_err(|_| Problem::with(text, "is too large", FIX))
}

/// The number of bytes, if it is from `least` to `most`, which are named as they are written.
pub fn bounded(text: &str, least: (&str, u64), most: (&str, u64)) -> Result<u64, Problem> {
    let bytes = parse(text)?;
    if (least.1..=most.1).contains(&bytes) {
        return Ok(bytes);
    }
    let which = if bytes < least.1 { "small" } else { "large" };
    Err(Problem::with(text, format!("is too {which}"), format!("use {} to {}", least.0, most.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_are_told_apart() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("1Ki", 1024),
            ("1k", 1000),
            ("512Mi", 512 << 20),
            ("2G", 2_000_000_000),
            ("1Ti", 1 << 40),
            ("1.5Gi", 3 << 29),
            ("0.5", 1),
            ("15Ei", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_bytes_is_refused() {
        for bad in [
            "",
            "Mi",
            "-1Mi",
            "+1Mi",
            "1 Mi",
            "1mi",
            "1MB",
            "1KI",
            "1e3",
            "100m",
            ".5Gi",
            "1.Gi",
            "1.2.3Gi",
            "１Mi",
            "16Ei",
            "9999999999999999999",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_inclusive_and_named_in_the_fix() {
        let bounds = |text| bounded(text, ("64Mi", 64 * MIB), ("1Ti", TIB));
        assert_eq!(bounds("64Mi"), Ok(64 * MIB));
        assert_eq!(bounds("1Ti"), Ok(TIB));
        let small = bounds("63Mi").unwrap_err();
        assert_eq!(small.to_string(), "`63Mi` is too small; use 64Mi to 1Ti");
        let large = bounds("1025Gi").unwrap_err();
        assert_eq!(large.to_string(), "`1025Gi` is too large; use 64Mi to 1Ti");
    }
}
