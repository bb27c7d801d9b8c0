//! Where an MCP server may connect to. Pure: names and addresses in, yes or no out.
//!
//! Two questions are asked of every connection: may this name and port be used at all, and may the
//! address that the name turned out to have be dialled. The second is asked after resolution, because
//! whoever owns an allowed name also decides its address. This module must not know sockets.

use crate::class::HostPort;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a destination is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Through a CONNECT tunnel; TLS is the MCP server's own.
    Tunnel,
    /// By plain HTTP requests in absolute form.
    PlainHttp,
}

/// All that a class allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EgressPolicy {
    hosts: Vec<HostPort>,
}

impl EgressPolicy {
    /// Allows these destinations and no other.
    pub fn new(hosts: impl IntoIterator<Item = HostPort>) -> Self {
        Self { hosts: hosts.into_iter().collect() }
    }

    /// Whether this name (or address) and port may be used by these means.
    pub fn allows(&self, host: &str, port: u16, means: Means) -> bool {
        self.hosts.iter().any(|allowed| {
            same_host(&allowed.host, host)
                && allowed.port == port
                && (means == Means::Tunnel || allowed.plain_http)
        })
    }

    /// Whether an address that an allowed name resolved to may be dialled.
    ///
    /// Loopback, link-local and other addresses of this machine or of its surroundings may not, because
    /// control planes and metadata services live there, unless that very address and port are listed.
    pub fn allows_address(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        is_ordinary(ip)
            || self.hosts.iter().any(|allowed| {
                allowed.port == address.port()
                    && parse_ip(&allowed.host).is_some_and(|listed| listed == ip)
            })
    }
}

/// Names are equal whatever their case and a trailing dot; addresses are equal by value.
fn same_host(allowed: &str, asked: &str) -> bool {
    match (parse_ip(allowed), parse_ip(asked)) {
        (Some(allowed), Some(asked)) => allowed == asked,
        (None, None) => allowed.eq_ignore_ascii_case(asked.strip_suffix('.').unwrap_or(asked)),
        _ => false,
    }
}

fn parse_ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// The metadata service of one large cloud has a unique-local address (EC2, IPv6).
const EC2_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether an address is neither this machine's own nor that of its immediate surroundings.
fn is_ordinary(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.octets().first() == Some(&0)
                || ip == Ipv4Addr::new(100, 100, 100, 200))
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip == EC2_METADATA_V6
                || embedded_v4(ip).is_some_and(|v4| !is_ordinary(IpAddr::V4(v4))))
        }
    }
}

/// The IPv4 address inside a 6to4 or NAT64 address: a way around the checks above where such a gateway
/// exists.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let v4 = octets
        .strip_prefix(&[0x20, 0x02])
        .and_then(|rest| rest.first_chunk::<4>())
        .or_else(|| octets.strip_prefix(&NAT64_PREFIX)?.first_chunk::<4>())?;
    Some(Ipv4Addr::from(*v4))
}

/// `64:ff9b::/96` (RFC 6052).
const NAT64_PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(host: &str, port: u16, plain_http: bool) -> HostPort {
        HostPort { host: host.into(), port, plain_http }
    }

    fn policy() -> EgressPolicy {
        EgressPolicy::new([
            listed("api.example", 443, false),
            listed("127.0.0.2", 5000, true),
            listed("[::1]", 6000, false),
        ])
    }

    #[test]
    fn only_a_listed_name_and_port_may_be_used_and_plainly_only_where_listed_so() {
        let p = policy();
        assert!(p.allows("API.example.", 443, Means::Tunnel));
        assert!(!p.allows("api.example", 443, Means::PlainHttp));
        assert!(!p.allows("api.example", 80, Means::Tunnel));
        assert!(!p.allows("evil.api.example", 443, Means::Tunnel));
        assert!(p.allows("127.0.0.2", 5000, Means::PlainHttp));
        assert!(p.allows("::1", 6000, Means::Tunnel));
        assert!(!EgressPolicy::default().allows("api.example", 443, Means::Tunnel));
    }

    #[test]
    fn a_name_that_resolves_to_this_machine_or_its_metadata_is_refused() {
        for bad in [
            "127.0.0.1:443",
            "169.254.169.254:80",
            "0.0.0.0:443",
            "0.1.2.3:443",
            "224.0.0.1:443",
            "100.100.100.200:80",
            "[::1]:443",
            "[fe80::1]:443",
            "[fd00:ec2::254]:80",
            "[::ffff:127.0.0.1]:443",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::169.254.169.254]:80",
            "[2002:7f00:1::]:443",
        ] {
            assert!(!policy().allows_address(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.7:443", "93.184.216.34:443", "[2606:2800::1]:443"] {
            assert!(policy().allows_address(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn a_listed_address_may_be_dialled_on_its_listed_port_alone() {
        let p = policy();
        assert!(p.allows_address("127.0.0.2:5000".parse().unwrap()));
        assert!(p.allows_address("[::ffff:127.0.0.2]:5000".parse().unwrap()));
        assert!(!p.allows_address("127.0.0.2:5001".parse().unwrap()));
        assert!(!p.allows_address("127.0.0.3:5000".parse().unwrap()));
        assert!(p.allows_address("[::1]:6000".parse().unwrap()));
    }
}
