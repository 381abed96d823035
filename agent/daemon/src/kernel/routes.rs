//! Routes from a workload's namespace into its ENI, each marked as the fabric's; and the host's own, read only.
use super::netlink::{Netlink, Refused, Request};
use agent_core::kernel_state::ROUTE_PROTOCOL;
use anyhow::{Context, Result, anyhow};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proto_model::FabricAddress;
use std::net::IpAddr;

/// Both routes to `to`, out of `index`, with `from` as the source address. `mtu`: what the way carries; 0: as the
/// interface. Routes that are there become like this.
///
/// # Errors
/// What the kernel refused; then neither remains.
pub(crate) fn put(
    netlink: &mut Netlink,
    index: u32,
    ipv6: bool,
    from: &FabricAddress,
    to: &FabricAddress,
    mtu: u16,
) -> Result<()> {
    let requests = pairs(from, to)
        .map(|(source, target)| Request {
            message: RouteNetlinkMessage::NewRoute(limited(route(index, target, Some(source)), mtu)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        })
        .to_vec();
    let answers = netlink.transact(requests)?;
    let failure = answers.into_iter().zip(pairs(from, to)).find_map(|(answer, (_, target))| match answer {
        Ok(_) => None,
        Err(refused) if !ipv6 && without_ipv6(&refused, target) => None,
        Err(refused) => Some(anyhow!("route to {target}: {refused}")),
    });
    match failure {
        None => Ok(()),
        Some(failure) => {
            remove(netlink, index, to)?;
            Err(failure)
        }
    }
}

/// A kernel without IPv6 answers so; the circuit then carries IPv4 only.
fn without_ipv6(refused: &Refused, target: IpAddr) -> bool {
    // An interface without IPv6 on a kernel that has it is no device to IPv6, or has no such source address.
    let said = [libc::EAFNOSUPPORT, libc::EOPNOTSUPP, libc::ENODEV, libc::EINVAL, libc::EACCES];
    target.is_ipv6() && said.contains(&refused.errno)
}

fn pairs(from: &FabricAddress, to: &FabricAddress) -> [(IpAddr, IpAddr); 2] {
    [(from.v4.into(), to.v4.into()), (from.v6.into(), to.v6.into())]
}

/// Removing what is not there is fine.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn remove(netlink: &mut Netlink, index: u32, to: &FabricAddress) -> Result<()> {
    let requests = [IpAddr::from(to.v4), IpAddr::from(to.v6)]
        .map(|target| Request {
            message: RouteNetlinkMessage::DelRoute(route(index, target, None)),
            flags: 0,
        })
        .to_vec();
    for answer in netlink.transact(requests)? {
        match answer {
            Ok(_) => {}
            Err(refused) if refused.is_missing() || refused.errno == libc::EAFNOSUPPORT => {}
            Err(refused) => return Err(refused).with_context(|| format!("removing the routes to {to}")),
        }
    }
    Ok(())
}

fn route(index: u32, to: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    let (family, length, scope) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32, RouteScope::Link),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128, RouteScope::Universe),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = scope;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message.attributes.push(RouteAttribute::Oif(index));
    // Two ENIs in one namespace may lead to the same resource: their own metrics keep both routes apart.
    message.attributes.push(RouteAttribute::Priority(index));
    if let Some(source) = source {
        message.attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    message
}

/// With the MTU of what lies behind it, from which the kernel sizes segments and datagrams like from an interface's. It
/// may be less than an interface with IPv6 can have.
fn limited(mut route: RouteMessage, mtu: u16) -> RouteMessage {
    if mtu != 0 {
        route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu.into())]));
    }
    route
}

/// A route of the fabric as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The interface that it leaves by.
    pub(crate) index: u32,
    pub(crate) to: IpAddr,
    /// 0: as the interface.
    pub(crate) mtu: u32,
}

/// The fabric's routes in the namespace of `netlink`.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn ours(netlink: &mut Netlink) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        let messages = netlink.dump(RouteNetlinkMessage::GetRoute(message))?;
        found.extend(messages.iter().filter_map(as_route));
    }
    Ok(found)
}

fn as_route(message: &RouteNetlinkMessage) -> Option<Found> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    // Kernels without strict checks do not filter.
    if u8::from(message.header.protocol) != ROUTE_PROTOCOL {
        return None;
    }
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => address(to),
        _ => None,
    })?;
    Some(Found { index: output(message)?, to, mtu: mtu(message) })
}

fn mtu(message: &RouteMessage) -> u32 {
    let metrics = message.attributes.iter().filter_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    let of = |metric: &RouteMetric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    };
    metrics.flatten().find_map(of).unwrap_or(0)
}

fn output(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// How the host itself would send to `remote` from `local`: the interface, and whom to hand the packet to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) index: u32,
    /// The gateway, or the destination itself.
    pub(crate) neighbour: IpAddr,
}

/// The question that [`way`] answers.
pub(crate) fn lookup(local: IpAddr, remote: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length) = match remote {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.source_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(remote.into()));
    message.attributes.push(RouteAttribute::Source(local.into()));
    message
}

/// Reads the answer to [`lookup`].
pub(crate) fn way(message: &RouteMessage, remote: IpAddr) -> Option<Way> {
    let gateway = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => address(gateway),
        RouteAttribute::Via(netlink_packet_route::route::RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    });
    Some(Way { index: output(message)?, neighbour: gateway.unwrap_or(remote) })
}

/// Asks the host's routing tables.
///
/// # Errors
/// No such route, or `local` is not an address of this host.
pub(crate) fn towards(netlink: &mut Netlink, local: IpAddr, remote: IpAddr) -> Result<Way> {
    let answer = netlink.ask(RouteNetlinkMessage::GetRoute(lookup(local, remote)), 0)?;
    let messages = answer.with_context(|| format!("no route from {local} to {remote}"))?;
    messages
        .iter()
        .find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => way(message, remote),
            _ => None,
        })
        .ok_or_else(|| anyhow!("no route from {local} to {remote}"))
}

/// Interfaces that carry a default route.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn default_outputs(netlink: &mut Netlink) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        for message in netlink.dump(RouteNetlinkMessage::GetRoute(message))? {
            let RouteNetlinkMessage::NewRoute(message) = message else { continue };
            let default = message.header.destination_prefix_length == 0
                && message.header.kind == RouteType::Unicast
                && message.header.table == RouteHeader::RT_TABLE_MAIN;
            if let (true, Some(index)) = (default, output(&message)) {
                found.push(index);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
