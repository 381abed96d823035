//! Which addresses of an underlay interface tunnels may use: those that last and that are surely this host's.
use super::netlink::Netlink;
use anyhow::Result;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// An address, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    address: IpAddr,
    length: u8,
    scope: AddressScope,
    flags: AddressFlags,
}

/// The best first: secondary ones and single addresses (`/32`, `/128`; often such as move between hosts) come last.
/// `named` by the operator: only these, in that order.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn usable(netlink: &mut Netlink, index: u32, named: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::empty();
    let messages = netlink.dump(RouteNetlinkMessage::GetAddress(message))?;
    let found: Vec<Found> = messages.iter().filter_map(|message| read(message, index)).collect();
    Ok(choose(found, named))
}

fn choose(mut found: Vec<Found>, named: &[IpAddr]) -> Vec<IpAddr> {
    found.retain(Found::is_settled);
    if !named.is_empty() {
        let there = |ip: &&IpAddr| found.iter().any(|one| one.address == **ip);
        return named.iter().filter(there).copied().collect();
    }
    found.retain(Found::lasts);
    found.sort_by_key(|one| (one.is_extra(), one.address));
    let mut addresses: Vec<IpAddr> = found.into_iter().map(|one| one.address).collect();
    addresses.dedup();
    addresses
}

impl Found {
    /// Nobody else has it, as far as duplicate detection says.
    fn is_settled(&self) -> bool {
        let optimistic = self.flags.contains(AddressFlags::Optimistic);
        !self.flags.contains(AddressFlags::Dadfailed)
            && (optimistic || !self.flags.contains(AddressFlags::Tentative))
    }

    /// Reachable from elsewhere, and neither on its way out nor one of the temporary ones of IPv6 (RFC 8981).
    fn lasts(&self) -> bool {
        let (link_local, temporary) = match self.address {
            IpAddr::V4(v4) => (v4.is_link_local(), false),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), self.flags.contains(AddressFlags::Secondary)),
        };
        self.scope == AddressScope::Universe
            && !link_local
            && !temporary
            && !self.flags.contains(AddressFlags::Deprecated)
    }

    fn is_extra(&self) -> bool {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        self.length == whole || self.flags.contains(AddressFlags::Secondary)
    }
}

fn read(message: &RouteNetlinkMessage, index: u32) -> Option<Found> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let known = matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if message.header.index != index || !known {
        return None;
    }
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    // Local differs from Address on point-to-point interfaces only; IPv6 often has Address alone.
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags |= *all,
            _ => {}
        }
    }
    let (length, scope) = (message.header.prefix_len, message.header.scope);
    Some(Found { address: local.or(address)?, length, scope, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, length: u8, flags: AddressFlags) -> Found {
        let address = address.parse().expect("an address");
        Found { address, length, scope: AddressScope::Universe, flags }
    }

    fn chosen(all: &[Found], named: &[&str]) -> Vec<String> {
        let named: Vec<IpAddr> = named.iter().map(|ip| ip.parse().expect("an address")).collect();
        choose(all.to_vec(), &named).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_does_not_last_is_not_announced() {
        let plain = AddressFlags::Permanent;
        let all = [
            found("2001:db8::1", 64, plain),
            found("2001:db8::2", 64, AddressFlags::Secondary),
            found("2001:db8::3", 64, AddressFlags::Deprecated),
            found("2001:db8::4", 64, AddressFlags::Tentative),
            found("2001:db8::5", 64, AddressFlags::Dadfailed | plain),
            found("2001:db8::6", 64, AddressFlags::Tentative | AddressFlags::Optimistic),
            found("fe80::1", 64, plain),
            Found { scope: AddressScope::Host, ..found("192.0.2.9", 24, plain) },
        ];
        assert_eq!(chosen(&all, &[]), ["2001:db8::1", "2001:db8::6"]);
    }

    #[test]
    fn secondary_and_single_addresses_come_last() {
        let plain = AddressFlags::Permanent;
        let all = [
            found("192.0.2.1", 32, plain),
            found("192.0.2.2", 24, AddressFlags::Secondary),
            found("192.0.2.3", 24, plain),
        ];
        assert_eq!(chosen(&all, &[]), ["192.0.2.3", "192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn those_that_the_operator_names_are_used_in_that_order_once_they_are_settled() {
        let all = [
            found("192.0.2.1", 24, AddressFlags::Permanent),
            found("2001:db8::3", 64, AddressFlags::Deprecated),
            found("2001:db8::4", 64, AddressFlags::Tentative),
        ];
        let named = ["2001:db8::3", "2001:db8::4", "192.0.2.1", "192.0.2.77"];
        assert_eq!(chosen(&all, &named), ["2001:db8::3", "192.0.2.1"]);
    }
}
