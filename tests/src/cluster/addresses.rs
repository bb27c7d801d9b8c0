//! The addresses of a cluster, all within one /16 of its own: 10.N.0.0. Pure; whether that range is free is
//! found out in [`super::link`].
//!
//! The API server listens at the node's address. The host and pods find it at the first service address too,
//! as in any cluster (`KUBERNETES_SERVICE_HOST`), so that one URL is right for both.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The API server's port on the node.
pub const API_PORT: u16 = 6443;

/// The range of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(u8);

impl Addresses {
    /// Those of 10.N.0.0/16.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The ranges that a cluster may take, in order.
    pub fn candidates() -> impl Iterator<Item = Self> {
        (200..=231).map(Self)
    }

    /// All of them. What is not in use here is unreachable, and never looked for elsewhere.
    pub fn all(self) -> String {
        format!("{}/16", self.at(0, 0))
    }

    /// Those of pods.
    pub fn pods(self) -> String {
        format!("{}/17", self.at(0, 0))
    }

    /// What a pod's route goes to: the node's end of its link.
    pub const fn pod_gateway(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// Those of services.
    pub fn services(self) -> String {
        format!("{}/24", self.at(128, 0))
    }

    /// The API server's, as a service.
    pub const fn api(self) -> Ipv4Addr {
        self.at(128, 1)
    }

    /// The API server's URL for pods and the host, which is the issuer of service account tokens too.
    pub fn api_url(self) -> String {
        format!("https://{}", self.api())
    }

    /// The same without kube-proxy in between: for the cluster's own processes, and for whoever ends them.
    pub fn api_endpoint(self) -> String {
        format!("https://{}:{API_PORT}", self.node())
    }

    /// The name server's.
    pub const fn dns(self) -> Ipv4Addr {
        self.at(128, 10)
    }

    /// The host's, on its link to the node: pods reach what listens there.
    pub const fn host(self) -> Ipv4Addr {
        self.at(255, 1)
    }

    /// The node's, on its link to the host.
    pub const fn node(self) -> Ipv4Addr {
        self.at(255, 2)
    }

    const fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, third, fourth)
    }

    /// Whether a route of `table` (the text of `/proc/net/route`) leads to an address of this range. The
    /// default route does not count.
    pub fn is_in_use(self, table: &str) -> bool {
        let own = u32::from(self.at(0, 0));
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            // in network byte order, shown as a number of this machine's
            let mut number = |at| {
                let text = fields.nth(at)?;
                u32::from_str_radix(text, 16).ok().map(u32::swap_bytes)
            };
            let (Some(destination), Some(mask)) = (number(0), number(5)) else {
                return false;
            };
            let common = mask & 0xffff_0000;
            mask != 0 && destination & common == own & common
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    fn table(destination: &str, mask: &str) -> String {
        format!("{HEAD}eth0\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn a_range_is_in_use_if_a_route_leads_into_it_or_covers_it() {
        let addresses = Addresses::new(200);
        assert!(addresses.is_in_use(&table("0000C80A", "0000FFFF")), "10.200.0.0/16");
        assert!(addresses.is_in_use(&table("01FFC80A", "FFFFFFFF")), "10.200.255.1/32");
        assert!(addresses.is_in_use(&table("0000000A", "000000FF")), "10.0.0.0/8");
        assert!(!addresses.is_in_use(&table("0000C90A", "0000FFFF")), "10.201.0.0/16");
        assert!(!addresses.is_in_use(&table("00000000", "00000000")), "the default route");
        assert!(!addresses.is_in_use(HEAD));
    }

    #[test]
    fn the_api_server_has_the_first_address_of_services() {
        let addresses = Addresses::new(201);
        assert_eq!(addresses.services(), "10.201.128.0/24");
        assert_eq!(addresses.api_url(), "https://10.201.128.1");
        assert_eq!(addresses.api_endpoint(), "https://10.201.255.2:6443");
    }
}
