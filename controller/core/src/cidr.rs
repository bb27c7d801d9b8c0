//! Address ranges, and which lies in which. Pure: text in, ranges out. This module must not know what a
//! range is allowed or forbidden for.

use std::{fmt, net::IpAddr};

/// A range of addresses: all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

/// The text is no `ADDRESS/LENGTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address, `/` and a prefix length")]
pub struct InvalidCidr;

impl Cidr {
    /// Reads `10.0.0.0/8` or `fd00::/8`. Bits behind the prefix are dropped: `10.1.2.3/8` is the same range.
    pub fn parse(text: &str) -> Result<Self, InvalidCidr> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidCidr)?;
        let address: IpAddr = address.parse().map_err(|_| InvalidCidr)?;
        // one spelling: neither `+8` nor `08`
        let is_plain = |bits: &u8| bits.to_string() == prefix;
        let prefix = prefix.parse().ok().filter(is_plain).ok_or(InvalidCidr)?;
        let first = masked(address, prefix).ok_or(InvalidCidr)?;
        Ok(Self { first, prefix })
    }

    /// Whether every address of `other` is one of this range.
    pub fn contains(&self, other: &Self) -> bool {
        self.prefix <= other.prefix
            && masked(other.first, self.prefix) == Some(self.first)
            && self.first.is_ipv4() == other.first.is_ipv4()
    }
}

/// The address with all bits behind the prefix cleared; none where it has not as many.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::BITS.checked_sub(prefix)?).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u128::BITS.checked_sub(prefix)?).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn a_range_has_one_spelling() {
        for (written, meant) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00:1::1/16", "fd00::/16"),
            ("::1/128", "::1/128"),
            ("::1/0", "::/0"),
        ] {
            assert_eq!(cidr(written).to_string(), meant);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "a/8"] {
            assert_eq!(Cidr::parse(bad), Err(InvalidCidr), "{bad}");
        }
    }

    #[test]
    fn a_range_contains_itself_and_what_is_longer_and_nothing_of_the_other_family() {
        assert!(cidr("10.0.0.0/8").contains(&cidr("10.0.0.0/8")));
        assert!(cidr("10.0.0.0/8").contains(&cidr("10.255.0.0/16")));
        assert!(!cidr("10.0.0.0/8").contains(&cidr("11.0.0.0/16")));
        assert!(!cidr("10.0.0.0/16").contains(&cidr("10.0.0.0/8")));
        assert!(cidr("0.0.0.0/0").contains(&cidr("169.254.169.254/32")));
        assert!(!cidr("0.0.0.0/0").contains(&cidr("::/0")));
        assert!(!cidr("::/0").contains(&cidr("0.0.0.0/0")));
        assert!(cidr("::/0").contains(&cidr("fd00:ec2::254/128")));
    }
}
