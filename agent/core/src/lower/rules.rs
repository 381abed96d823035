//! Firewall rules as rows of the data plane's table.
use crate::bounds::Refused;
use crate::kernel_state::Row;
use ebpf_abi::Address;
use ebpf_abi::rules::{PER_CIRCUIT, RuleRow};
use proto_model::rule::{Action, Opener, Prefix, Protocol, Rule, RuleSet};
use std::net::IpAddr;

pub(crate) fn rows(set: &RuleSet) -> Result<Vec<Row>, Refused> {
    match set.rules.len() {
        rules if rules > PER_CIRCUIT as usize => Err(Refused::TooManyRules { rules }),
        _ => Ok(set.rules.iter().map(row).collect()),
    }
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
        let set =
            RuleSet { circuit: proto_model::CircuitId(1), version: 1, rules: vec![one; 257], revert: None };
        let refusal = rows(&set).expect_err("too many");
        assert_eq!(refusal.to_string(), "257 rules, but a circuit can have at most 256");
    }
}
