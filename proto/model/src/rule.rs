//! Firewall rules of a circuit.
use crate::{Timestamp, Until};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The most rules a circuit can have.
pub const MAX_RULES: usize = 256;

/// Which side may open the connection that a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Opener {
    /// The circuit's source opens towards its destination.
    Forward,
    /// The circuit's destination opens towards its source.
    Reverse,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Any,
    Tcp,
    Udp,
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp,
    /// Another IP protocol by number (never 1, 6, 17 or 58).
    Number(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    Allow,
    Deny,
}

/// Inclusive range of destination ports; for ICMP, of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ports {
    pub from: u16,
    pub to: u16,
}

impl Ports {
    pub const ALL: Self = Self { from: 0, to: u16::MAX };
}

/// An IP prefix in canonical form: bits past the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// `None` when the length does not fit the family. Bits past the length are cleared.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) if length <= 128 => IpAddr::V6(
                (v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into(),
            ),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, length })
    }
    pub fn address(&self) -> IpAddr {
        self.address
    }
    pub fn length(&self) -> u8 {
        self.length
    }
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.length).is_some_and(|p| p.address == self.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once('/') {
            Some((address, length)) => address.parse().ok().zip(length.parse().ok()),
            None => text.parse().ok().map(|a: IpAddr| (a, if a.is_ipv4() { 32 } else { 128 })),
        };
        parsed
            .and_then(|(address, length)| Self::new(address, length))
            .ok_or_else(|| format!("\"{text}\" is not a prefix; write it like 10.0.0.0/8 or fd00::/8"))
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

/// What a rule matches and does, before it has a number. Text: `allow tcp/5432`, `deny udp/1000-2000 reverse`,
/// `allow icmp both`, `allow tcp/443 from 100.64.0.0/16 to 100.64.3.0/24`, `allow tcp/22 for 30m`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleSpec {
    pub action: Action,
    pub opener: Opener,
    pub protocol: Protocol,
    pub ports: Ports,
    /// Addresses that the opener may have; none: any.
    pub source: Option<Prefix>,
    /// Addresses that may be opened to; none: any.
    pub destination: Option<Prefix>,
    /// When it ends; what is in force always has a time. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// A rule of a circuit. Rules are tried in their order; the first that matches decides; when none does, it is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Number within the circuit, given by the controller, never used twice there; shown with every drop. Not 0.
    pub id: u32,
    #[serde(flatten)]
    pub spec: RuleSpec,
}

/// The rules of one circuit at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    pub circuit: crate::CircuitId,
    /// One larger with every change.
    pub version: u32,
    pub rules: Vec<Rule>,
    /// The change that brought these rules is not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
}

/// What is in force again from a time on, by the host's own clock, unless the change is confirmed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revert {
    pub at: Timestamp,
    /// The rules before the change.
    pub rules: Vec<Rule>,
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Allow => "allow ",
            Action::Deny => "deny ",
        })?;
        match self.protocol {
            Protocol::Any => f.write_str("any")?,
            Protocol::Tcp => f.write_str("tcp")?,
            Protocol::Udp => f.write_str("udp")?,
            Protocol::Icmp => f.write_str("icmp")?,
            Protocol::Number(number) => write!(f, "{number}")?,
        }
        if self.ports != Ports::ALL {
            write!(f, "/{}", self.ports.from)?;
            if self.ports.to != self.ports.from {
                write!(f, "-{}", self.ports.to)?;
            }
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        f.write_str(match self.opener {
            Opener::Forward => "",
            Opener::Reverse => " reverse",
            Opener::Both => " both",
        })?;
        self.until.map_or(Ok(()), |until| write!(f, " {until}"))
    }
}

impl FromStr for RuleSpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: String| {
            format!(
                "\"{text}\" is not a rule: {why}; write it like \"allow tcp/5432\" or \"deny udp/1000-2000 reverse\""
            )
        };
        let mut words = text.split_whitespace();
        let action = match words.next() {
            Some("allow") => Action::Allow,
            Some("deny") => Action::Deny,
            other => {
                return Err(bad(format!(
                    "it starts with \"{}\", not with allow or deny",
                    other.unwrap_or("")
                )));
            }
        };
        let (protocol, ports) = protocol_and_ports(words.next().unwrap_or("")).map_err(bad)?;
        let mut spec = Self {
            action,
            opener: Opener::Forward,
            protocol,
            ports,
            source: None,
            destination: None,
            until: None,
        };
        while let Some(word) = words.next() {
            match word {
                "forward" => spec.opener = Opener::Forward,
                "reverse" => spec.opener = Opener::Reverse,
                "both" => spec.opener = Opener::Both,
                "from" => spec.source = Some(words.next().unwrap_or("").parse().map_err(bad)?),
                "to" => spec.destination = Some(words.next().unwrap_or("").parse().map_err(bad)?),
                "for" | "until" => {
                    let value = words.next().unwrap_or("");
                    spec.until = Some(Until::parse(word, value).map_err(bad)?);
                }
                other => {
                    let known = "forward, reverse, both, from, to, for, until";
                    return Err(bad(format!("\"{other}\" is not one of {known}")));
                }
            }
        }
        spec.check().map_err(bad)?;
        Ok(spec)
    }
}

impl RuleSpec {
    /// What no rule can mean: ports without TCP, UDP or ICMP, an empty range, prefixes of two families.
    pub fn check(&self) -> Result<(), String> {
        let Ports { from, to } = self.ports;
        if from > to {
            return Err(format!("the port range {from}-{to} is empty"));
        }
        if self.ports != Ports::ALL {
            match self.protocol {
                Protocol::Tcp | Protocol::Udp => {}
                Protocol::Icmp if to <= 255 => {}
                Protocol::Icmp => return Err(format!("ICMP types end at 255, not at {to}")),
                Protocol::Any | Protocol::Number(_) => return Err("ports need tcp, udp or icmp".into()),
            }
        }
        if let Protocol::Number(number @ (1 | 6 | 17 | 58)) = self.protocol {
            return Err(format!("protocol {number} has a name: use icmp, tcp or udp"));
        }
        match (self.source, self.destination) {
            (Some(a), Some(b)) if a.address().is_ipv4() != b.address().is_ipv4() => {
                Err(format!("{a} and {b} are of two address families"))
            }
            _ => Ok(()),
        }
    }
}

fn protocol_and_ports(text: &str) -> Result<(Protocol, Ports), String> {
    let (protocol, ports) = text.split_once('/').map_or((text, None), |(p, r)| (p, Some(r)));
    let protocol = match protocol {
        "any" => Protocol::Any,
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        other => Protocol::Number(
            other
                .parse()
                .map_err(|_| format!("\"{other}\" is not tcp, udp, icmp, any or a protocol number"))?,
        ),
    };
    let Some(ports) = ports else { return Ok((protocol, Ports::ALL)) };
    let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
    let number =
        |text: &str| text.parse::<u16>().map_err(|_| format!("\"{text}\" is not a port from 0 to 65535"));
    Ok((protocol, Ports { from: number(from)?, to: number(to)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_back_as_it_is_shown() {
        for text in [
            "allow tcp/5432",
            "deny udp/1000-2000 reverse",
            "allow icmp both",
            "allow icmp/8",
            "allow any",
            "deny 47",
            "allow tcp/443 from 100.64.0.0/16 to 100.64.3.0/24",
            "allow tcp from fd00::/8",
            "allow tcp/22 for 30m",
            "deny any both until 2026-11-21T12:00:00Z",
        ] {
            assert_eq!(text.parse::<RuleSpec>().map(|r| r.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_wrong_rule_says_what_is_wrong() {
        for (text, why) in [
            ("tcp/80", "allow or deny"),
            ("allow tcp/99999", "not a port"),
            ("allow tcp/9-3", "empty"),
            ("allow any/80", "need tcp, udp or icmp"),
            ("allow icmp/300", "end at 255"),
            ("allow 6", "has a name"),
            ("allow tcp from 10.0.0.0/8 to fd00::/8", "two address families"),
            ("allow tcp from 10.0.0.0/33", "not a prefix"),
            ("allow tcp/1 sideways", "sideways"),
            ("allow tcp/1 for ever", "30m"),
            ("allow tcp/1 until noon", "2026-11-21T12:00:00Z"),
            ("", "allow or deny"),
        ] {
            let refusal = text.parse::<RuleSpec>().expect_err(text);
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn a_prefix_is_canonical() {
        let prefix: Prefix = "10.1.2.3/8".parse().expect("prefix");
        assert_eq!(prefix.to_string(), "10.0.0.0/8");
        assert!(prefix.contains("10.9.9.9".parse().expect("address")));
        assert!(!prefix.contains("::ffff:10.9.9.9".parse().expect("address")));
        assert_eq!("::/0".parse::<Prefix>().map(|p| p.contains("::1".parse().expect("address"))), Ok(true));
        assert_eq!("0.0.0.0/0".parse::<Prefix>().map(|p| p.length()), Ok(0));
    }
}
