//! Addresses inside the fabric, and labels under which hosts receive.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The addresses of one resource in the fabric; the IPv6 one ends in the bytes of the IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FabricAddress {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl FabricAddress {
    /// MAC of the resource's ENI: locally administered, `02:fb` and the IPv4 address; so that both ends know it.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.v4.octets();
        [0x02, 0xfb, a, b, c, d]
    }

    /// MAC of the host side of the ENI: what the workload sees as its neighbour.
    pub fn gateway_mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.v4.octets();
        [0x02, 0xfa, a, b, c, d]
    }
}

impl fmt::Display for FabricAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.v4, self.v6)
    }
}

/// Where a region's fabric addresses come from: an IPv4 prefix, by default `100.64.0.0/10` (RFC 6598: used inside
/// providers, so seldom inside the networks of customers), and a /64 of unique local IPv6 (RFC 4193).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FabricPrefix {
    pub v4: Ipv4Addr,
    /// 8 to 30.
    pub v4_length: u8,
    /// The first 64 bits count.
    pub v6: Ipv6Addr,
}

impl Default for FabricPrefix {
    fn default() -> Self {
        Self {
            v4: Ipv4Addr::new(100, 64, 0, 0),
            v4_length: 10,
            v6: Ipv6Addr::new(0xfdfb, 0x6f72, 0x6577, 0, 0, 0, 0, 0),
        }
    }
}

impl FabricPrefix {
    /// How many resources can have an address: the all-zero and all-one hosts are left out.
    pub fn capacity(&self) -> u32 {
        (1u32 << (32 - u32::from(self.v4_length.clamp(8, 30)))) - 2
    }

    /// The address of host number `host` (1 to [`Self::capacity`]).
    pub fn address(&self, host: u32) -> Option<FabricAddress> {
        if host == 0 || host > self.capacity() {
            return None;
        }
        let mask = !0u32 << (32 - u32::from(self.v4_length.clamp(8, 30)));
        let v4 = Ipv4Addr::from((self.v4.to_bits() & mask) | host);
        let high = self.v6.to_bits() & (!0u128 << 64);
        Some(FabricAddress { v4, v6: Ipv6Addr::from(high | u128::from(v4.to_bits())) })
    }
}

/// A VXLAN network identifier that the receiving host allocated for one direction of one circuit: 24 bits, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Label(u32);

impl Label {
    pub const MAX: u32 = 0xff_ffff;
    pub const LEAST: Self = Self(1);

    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > Self::MAX { None } else { Some(Self(value)) }
    }
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Label {
    type Error = String;
    fn try_from(value: u32) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("label {value} is not between 1 and {}", Self::MAX))
    }
}

impl From<Label> for u32 {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_inside_their_prefix() {
        let prefix = FabricPrefix::default();
        let first = prefix.address(1).expect("host 1");
        assert_eq!(first.v4, Ipv4Addr::new(100, 64, 0, 1));
        assert_eq!(first.v6.octets()[12..], first.v4.octets());
        let last = prefix.address(prefix.capacity()).expect("last host");
        assert_eq!(last.v4, Ipv4Addr::new(100, 127, 255, 254));
        assert_eq!(prefix.address(0), None);
        assert_eq!(prefix.address(prefix.capacity() + 1), None);
    }
}
