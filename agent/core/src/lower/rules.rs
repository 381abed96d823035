//! Firewall rules as rows of the data plane's table.
use crate::bounds::Refused;
use crate::kernel_state::Row;
use ebpf_abi::Address;
use ebpf_abi::rules::{PER_CIRCUIT, RuleRow};
use proto_model::rule::{Action, Opener, Ports, Prefix, Protocol, Rule, RuleSpec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

pub(crate) fn rows(rules: &[Rule]) -> Result<Vec<Row>, Refused> {
    match rules.len() {
        rules if rules > PER_CIRCUIT as usize => Err(Refused::TooManyRules { rules }),
        _ => Ok(rules.iter().map(row).collect()),
    }
}

/// Versions that follow from the rows, apart from those that are counted and from those of `timed`.
const OF_ROWS: u32 = 1 << 30;

/// Connections are judged anew when the version of their rules changes; here the rules and the policy before them change
/// independently of each other. FNV-1a, so that it is the same after an upgrade. Two sets in a row share a version once
/// in 2^30 changes; then connections that the later one denies end when they are idle.
pub(crate) fn version_of(rows: &[Row]) -> u32 {
    let bytes = rows.iter().map(crate::abi::rule_row);
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, row| row.as_bytes().iter().fold(hash, step));
    OF_ROWS | (((hash >> 32) as u32 ^ hash as u32) & (OF_ROWS - 1))
}

/// The rule that a row was made from. None: it was made by nobody here.
pub(crate) fn rule(row: &Row) -> Option<Rule> {
    let source = unprefix(row.source, row.source_mask, row.family)?;
    let destination = unprefix(row.destination, row.destination_mask, row.family)?;
    // The whole of IPv6 looks like no prefix.
    let whole = row.family == 6 && source.is_none() && destination.is_none();
    let source = if whole { Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0) } else { source };
    let spec = RuleSpec {
        action: if row.allow { Action::Allow } else { Action::Deny },
        opener: match row.directions {
            1 => Opener::Forward,
            2 => Opener::Reverse,
            3 => Opener::Both,
            _ => return None,
        },
        protocol: match row.protocol {
            RuleRow::ANY_PROTOCOL => Protocol::Any,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            1 => Protocol::Icmp,
            number => Protocol::Number(number.try_into().ok()?),
        },
        ports: Ports { from: row.port_from, to: row.port_to },
        source,
        destination,
        until: None,
    };
    let rule = Rule { id: row.id, spec };
    (self::row(&rule) == *row).then_some(rule)
}

/// The opposite of [`prefix`].
fn unprefix(address: Address, mask: Address, family: u8) -> Option<Option<Prefix>> {
    let length = u128::from_be_bytes(mask).leading_ones() as u8;
    if length == 0 {
        return Some(None);
    }
    let address = Ipv6Addr::from(address);
    let prefix = match family {
        4 => Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() as u32)), length.checked_sub(96)?),
        _ => Prefix::new(IpAddr::V6(address), length),
    };
    prefix.map(Some)
}

/// One rule as a row. The family follows from the prefixes; without any, the row is for both.
pub fn row(rule: &Rule) -> Row {
    let spec = &rule.spec;
    let (source, source_mask) = prefix(spec.source.as_ref());
    let (destination, destination_mask) = prefix(spec.destination.as_ref());
    Row {
        source,
        source_mask,
        destination,
        destination_mask,
        id: rule.id,
        port_from: spec.ports.from,
        port_to: spec.ports.to,
        protocol: protocol(spec.protocol),
        directions: directions(spec.opener),
        allow: spec.action == Action::Allow,
        family: spec.source.or(spec.destination).map_or(0, |p| family(&p)),
    }
}

/// Address and mask as the table has them: an IPv4 prefix is 96 bits longer there, and the all-zero mask is kept for
/// "any", so that `0.0.0.0/0` still means IPv4 only.
fn prefix(prefix: Option<&Prefix>) -> (Address, Address) {
    let Some(prefix) = prefix else { return ([0; 16], [0; 16]) };
    let (address, length) = match prefix.address() {
        IpAddr::V4(v4) => (ebpf_abi::mapped(v4.octets()), u32::from(prefix.length()) + 96),
        IpAddr::V6(v6) => (v6.octets(), u32::from(prefix.length())),
    };
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    (address, mask.to_be_bytes())
}

fn family(prefix: &Prefix) -> u8 {
    match prefix.address() {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

/// ICMPv6 counts as ICMP (1).
fn protocol(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Any => RuleRow::ANY_PROTOCOL,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
        Protocol::Number(number) => number.into(),
    }
}

fn directions(opener: Opener) -> u8 {
    match opener {
        Opener::Forward => 1,
        Opener::Reverse => 2,
        Opener::Both => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(text: &str) -> Row {
        row(&Rule { id: 3, spec: text.parse().expect(text) })
    }

    #[test]
    fn a_rule_without_prefix_is_for_both_families() {
        let any = row_of("allow tcp/443");
        assert_eq!((any.family, any.source_mask, any.destination_mask), (0, [0; 16], [0; 16]));
        assert_eq!((any.protocol, any.port_from, any.port_to), (6, 443, 443));
        assert_eq!((any.directions, any.allow, any.id), (1, true, 3));
    }

    #[test]
    fn an_ipv4_prefix_is_mapped_and_96_bits_longer() {
        let row = row_of("deny udp/53-54 from 100.64.0.0/16 reverse");
        assert_eq!(row.source, ebpf_abi::mapped([100, 64, 0, 0]));
        assert_eq!(row.source_mask[..14], [0xff; 14]);
        assert_eq!(row.source_mask[14..], [0, 0]);
        assert_eq!((row.family, row.directions, row.allow), (4, 2, false));
    }

    #[test]
    fn the_whole_of_one_family_is_not_both() {
        assert_eq!(row_of("allow any to 0.0.0.0/0").family, 4);
        let six = row_of("allow any to ::/0");
        assert_eq!((six.family, six.destination_mask), (6, [0; 16]));
    }

    #[test]
    fn protocols_have_their_numbers() {
        for (text, number) in [("any", 256), ("tcp", 6), ("udp", 17), ("icmp", 1), ("47", 47)] {
            assert_eq!(row_of(&format!("allow {text} both")).protocol, number, "{text}");
        }
        assert_eq!(row_of("allow icmp/8").port_from, 8);
        assert_eq!(row_of("allow icmp both").directions, 3);
    }

    #[test]
    fn too_many_rules_say_how_many() {
        let one = Rule { id: 1, spec: "allow any".parse().expect("a rule") };
        let refusal = rows(&vec![one; 257]).expect_err("too many");
        assert_eq!(refusal.to_string(), "257 rules, but a circuit can have at most 256");
    }

    #[test]
    fn a_row_reads_back_as_the_rule_that_it_was_made_from() {
        for text in [
            "allow any",
            "deny tcp/22 both",
            "allow udp/53-54 from 100.64.0.0/16 reverse",
            "allow 47 to fd00::/8",
            "deny icmp/8 from 0.0.0.0/0 to 10.0.0.1",
            "deny any from ::/0",
            "allow tcp from 100.64.0.7",
        ] {
            let rule = Rule { id: 7, spec: text.parse().expect(text) };
            assert_eq!(super::rule(&row(&rule)), Some(rule), "{text}");
        }
        // Means the same, and makes the same row.
        let whole = row_of("deny any to ::/0");
        assert_eq!(rule(&whole).map(|rule| row(&rule)), Some(whole));
        assert_eq!(rule(&Row { directions: 0, ..row_of("allow any") }), None);
    }

    #[test]
    fn other_rows_have_another_version() {
        let texts = ["allow any", "deny any", "allow tcp/22", "allow tcp/23", "allow any both"];
        let mut versions: Vec<u32> = texts.iter().map(|text| version_of(&[row_of(text)])).collect();
        versions.push(version_of(&[]));
        assert!(versions.iter().all(|version| version & OF_ROWS != 0 && version >> 31 == 0));
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), 6);
    }
}
