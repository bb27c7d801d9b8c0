//! What becomes of the ranges that a class lists: each is let out, but for what no worker may reach, or withheld. Pure. The
//! class's network policy is made of this, and so is what the class is told. This module must not know what a policy is.

use patchbay_core::cidr::Cidr;

/// What clouds and nodes keep at addresses of their own: instance metadata (169.254.169.254), credentials of
/// tasks and pods (169.254.170.2 and .23), the same by the newer family, and a large cloud's host agent.
pub(super) const NEVER: [&str; 5] =
    ["169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "168.63.129.16/32", "100.100.100.200/32"];

/// What becomes of the ranges that a class lists, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// Those that are let out.
    pub let_out: Vec<LetOut>,
    /// Those of which nothing is let out.
    pub withheld: Vec<Withheld>,
}

/// A range that is let out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetOut {
    /// The range, as the class lists it.
    pub range: Cidr,
    /// What of it is not: each lies within it, and none within another.
    pub except: Vec<Cidr>,
}

/// A range of which nothing is let out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// The range, as the class lists it.
    pub range: Cidr,
    /// What no worker may reach, and has all of it.
    pub within: Cidr,
    /// Who forbids that.
    pub by: Forbids,
}

/// Who says that no worker may reach a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbids {
    /// Every installation; no setting opens it.
    Always,
    /// This one, which says that the range is the cluster's own.
    Cluster,
}

/// Decides on what a class lists, in a cluster whose own ranges these are.
pub fn decide(listed: &[Cidr], own: &[Cidr]) -> Ranges {
    let always: Vec<_> = never().collect();
    let forbidden = outermost(always.iter().chain(own).copied());
    let mut ranges = Ranges { let_out: Vec::new(), withheld: Vec::new() };
    for &range in listed {
        let in_one_of = |all: &[Cidr]| all.iter().copied().find(|one| one.contains(&range));
        // where both forbid it, to narrow the cluster's own would not open it
        let found = in_one_of(&always)
            .map(|within| (within, Forbids::Always))
            .or_else(|| in_one_of(&forbidden).map(|within| (within, Forbids::Cluster)));
        if let Some((within, by)) = found {
            ranges.withheld.push(Withheld { range, within, by });
        } else {
            let except = forbidden.iter().copied().filter(|one| range.contains(one)).collect();
            ranges.let_out.push(LetOut { range, except });
        }
    }
    ranges
}

fn never() -> impl Iterator<Item = Cidr> {
    NEVER.iter().filter_map(|range| Cidr::parse(range).ok())
}

/// Each once, in order, and none that lies within another.
fn outermost(all: impl Iterator<Item = Cidr>) -> Vec<Cidr> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    let is_outermost =
        |range: &Cidr| !all.iter().any(|other| other != range && other.contains(range));
    all.iter().copied().filter(is_outermost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    fn decided(listed: &[&str], own: &[&str]) -> Ranges {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| cidr(text)).collect::<Vec<_>>();
        decide(&cidrs(listed), &cidrs(own))
    }

    fn let_out(range: &str, except: &[&str]) -> LetOut {
        LetOut { range: cidr(range), except: except.iter().map(|text| cidr(text)).collect() }
    }

    fn withheld(range: &str, within: &str, by: Forbids) -> Withheld {
        Withheld { range: cidr(range), within: cidr(within), by }
    }

    #[test]
    fn what_is_forbidden_is_not_reached_by_listing_it() {
        for (listed, within, by) in [
            ("169.254.169.254/32", "169.254.0.0/16", Forbids::Always),
            ("169.254.170.23/32", "169.254.0.0/16", Forbids::Always),
            ("10.200.3.0/24", "10.200.0.0/16", Forbids::Cluster),
            ("10.200.0.0/16", "10.200.0.0/16", Forbids::Cluster),
            ("fd00:ec2::254/128", "fd00:ec2::/32", Forbids::Always),
        ] {
            let ranges = decided(&[listed], &["10.200.0.0/16"]);
            assert_eq!(ranges.withheld, [withheld(listed, within, by)]);
            assert_eq!(ranges.let_out, []);
        }
    }

    #[test]
    fn what_is_wider_is_reached_but_for_what_is_forbidden() {
        // a range of the cluster within another is not taken out twice
        let own = ["10.200.0.0/16", "10.200.128.0/20"];
        let ranges = decided(&["10.0.0.0/8", "192.168.0.0/16"], &own);
        let expected = [let_out("10.0.0.0/8", &["10.200.0.0/16"]), let_out("192.168.0.0/16", &[])];
        assert_eq!(ranges.let_out, expected);
        assert_eq!(ranges.withheld, []);
    }

    #[test]
    fn what_no_setting_opens_is_not_the_clusters_own_although_it_says_so() {
        for own in ["169.254.0.0/16", "169.254.169.0/24", "169.0.0.0/8", "0.0.0.0/0"] {
            let ranges = decided(&["169.254.169.254/32"], &[own]);
            let expected = withheld("169.254.169.254/32", "169.254.0.0/16", Forbids::Always);
            assert_eq!(ranges.withheld, [expected], "{own}");
        }
    }

    fn any_cidr() -> impl Strategy<Value = Cidr> {
        let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a)));
        let v6 =
            (any::<[u8; 16]>(), 0u8..=128).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a)));
        let special = prop::sample::select(NEVER.map(str::to_owned).to_vec());
        prop_oneof![4 => v4, 1 => v6, 1 => special].prop_map(|text| cidr(&text))
    }

    proptest! {
        #[test]
        fn no_forbidden_range_is_ever_let_out(
            listed in prop::collection::vec(any_cidr(), 0..6), own in prop::collection::vec(any_cidr(), 0..6),
        ) {
            let ranges = decide(&listed, &own);
            for forbidden in never().chain(own.iter().copied()) {
                for LetOut { range, except } in &ranges.let_out {
                    // ranges are apart or one is in the other; the API server wants exceptions inside
                    let is_taken_out = except.iter().any(|it| it.contains(&forbidden));
                    prop_assert!(!forbidden.contains(range));
                    prop_assert!(!range.contains(&forbidden) || is_taken_out);
                }
            }
            for LetOut { range, except } in &ranges.let_out {
                for except in except {
                    prop_assert!(range.contains(except) && except != range);
                }
            }
        }

        #[test]
        fn every_listed_range_is_let_out_or_withheld_for_a_reason_that_is_so(
            listed in prop::collection::vec(any_cidr(), 0..6), own in prop::collection::vec(any_cidr(), 0..6),
        ) {
            let ranges = decide(&listed, &own);
            let let_out = ranges.let_out.iter().map(|it| it.range);
            let mut all: Vec<_> = let_out.chain(ranges.withheld.iter().map(|it| it.range)).collect();
            let mut expected = listed;
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
            for Withheld { range, within, by } in ranges.withheld {
                let is_always = never().any(|it| it.contains(&range));
                prop_assert!(within.contains(&range));
                prop_assert_eq!(by == Forbids::Always, is_always);
                prop_assert!(is_always || own.contains(&within));
            }
        }
    }
}
