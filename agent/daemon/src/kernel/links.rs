//! Makes, changes, finds and removes the veth pairs of ENIs.
use super::netlink::{Netlink, Refused, Request};
use anyhow::{Context, Result, anyhow};
use ebpf_abi::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proto_model::FabricAddress;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `IFLA_GROUP` of every interface that the agent makes. It is set by the request that makes the interface (an alias
/// cannot be), so even a half-made one is known as ours. A free number, "fw" in ASCII.
pub(crate) const GROUP: u32 = 0x6677;

/// What the alias of a host side begins with.
pub(crate) const MARK: &str = "foreweave:";

/// The most bytes of an alias (`IFALIASZ`, less the final zero).
pub(crate) const ALIAS: usize = 255;

/// An interface, as the kernel describes it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    pub(crate) group: u32,
    /// The driver's word for a virtual interface (`veth`); none for hardware.
    pub(crate) kind: Option<String>,
    /// veth: index of the other side, in its own namespace.
    pub(crate) peer: u32,
    pub(crate) flags: LinkFlags,
    /// Bytes since it was made.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Link {
    pub(crate) fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            mac: [0; 6],
            mtu: 0,
            group: 0,
            kind: None,
            peer: 0,
            flags: message.header.flags,
            sent: 0,
            received: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::Link(peer) => link.peer = *peer,
                LinkAttribute::Stats64(stats) => {
                    (link.sent, link.received) = (stats.tx_bytes, stats.rx_bytes)
                }
                LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
                _ => {}
            }
        }
        link
    }

    /// Up, and the other end is there.
    pub(crate) fn has_carrier(&self) -> bool {
        self.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
    }

    /// Whether the agent made it: by its alias, or (half made) by group, kind and the shape of its name.
    pub(crate) fn is_ours(&self) -> bool {
        let shaped = self.name.strip_prefix("fw").is_some_and(|rest| {
            rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        shaped
            && self.kind.as_deref() == Some("veth")
            && (self.alias.starts_with(MARK) || self.group == GROUP)
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// A veth pair to be made.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) host: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) inner: &'a str,
    pub(crate) address: &'a FabricAddress,
    pub(crate) mtu: u16,
    pub(crate) namespace: BorrowedFd<'a>,
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn indexed(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// # Errors
/// When the kernel could not be asked.
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>> {
    found(netlink.ask(RouteNetlinkMessage::GetLink(named(name)), 0)?)
        .with_context(|| format!("looking for interface {name}"))
}

/// # Errors
/// When the kernel could not be asked.
pub(crate) fn find_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>> {
    found(netlink.ask(RouteNetlinkMessage::GetLink(indexed(index)), 0)?)
        .with_context(|| format!("looking for the interface with index {index}"))
}

fn found(answer: Result<Vec<RouteNetlinkMessage>, Refused>) -> Result<Option<Link>> {
    match answer {
        Ok(messages) => Ok(messages.iter().find_map(as_link)),
        Err(refused) if refused.is_missing() => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

fn as_link(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(Link::of(link)),
        _ => None,
    }
}

/// # Errors
/// When the kernel could not be asked.
pub(crate) fn all(netlink: &mut Netlink) -> Result<Vec<Link>> {
    let messages = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(messages.iter().filter_map(as_link).collect())
}

/// Makes the pair, both sides down and marked, and says what became of the host side.
///
/// # Errors
/// What the kernel refused; then nothing of it remains.
pub(crate) fn create(netlink: &mut Netlink, pair: &Pair<'_>) -> Result<Link> {
    let make =
        Request { message: RouteNetlinkMessage::NewLink(veth(pair)), flags: NLM_F_CREATE | NLM_F_EXCL };
    let mut mark = named(pair.host);
    mark.attributes.push(LinkAttribute::IfAlias(pair.alias.to_owned()));
    let mark = Request { message: RouteNetlinkMessage::SetLink(mark), flags: 0 };
    let silence = no_generated_addresses(named(pair.host));
    let look = Request { message: RouteNetlinkMessage::GetLink(named(pair.host)), flags: 0 };
    let [made, marked, silenced, seen] = netlink
        .transact(vec![make, mark, silence, look])?
        .try_into()
        .map_err(|answers: Vec<_>| anyhow!("4 requests were sent, {} answers came", answers.len()))?;
    made.map_err(|refused| in_use(&refused, pair))?;
    let outcome = marked
        .and_then(|_| match silenced {
            Err(refused) if !is_without_ipv6(&refused) => Err(refused),
            Ok(_) | Err(_) => Ok(()),
        })
        .map_err(|refused| anyhow!("marking {}: {refused}", pair.host))
        .and_then(|_| found(seen)?.ok_or_else(|| anyhow!("{} vanished while it was made", pair.host)));
    if outcome.is_err() {
        remove(netlink, pair.host)?;
    }
    outcome
}

fn in_use(refused: &Refused, pair: &Pair<'_>) -> anyhow::Error {
    if refused.errno == libc::EEXIST {
        return anyhow!("an interface named {} (inside) or {} (here) exists already", pair.inner, pair.host);
    }
    anyhow!("making the interfaces {} and {}: {refused}", pair.host, pair.inner)
}

fn veth(pair: &Pair<'_>) -> LinkMessage {
    let mut inner = named(pair.inner);
    inner.attributes.extend([
        LinkAttribute::Address(pair.address.mac().to_vec()),
        LinkAttribute::Mtu(u32::from(pair.mtu)),
        LinkAttribute::Group(GROUP),
        LinkAttribute::NetNsFd(pair.namespace.as_raw_fd()),
    ]);
    let mut host = named(pair.host);
    host.attributes.extend([
        LinkAttribute::Address(pair.address.gateway_mac().to_vec()),
        LinkAttribute::Mtu(u32::from(pair.mtu)),
        LinkAttribute::Group(GROUP),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]),
    ]);
    host
}

/// No link-local address: so no duplicate detection, no router solicitation, no listener reports. A request of its
/// own, because an interface without IPv6 refuses it, and with it all else that is asked for.
fn no_generated_addresses(mut message: LinkMessage) -> Request {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![inet6]));
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// How the kernel says that it, or an interface, has no IPv6: circuits then carry IPv4 only.
fn is_without_ipv6(refused: &Refused) -> bool {
    refused.errno == libc::EAFNOSUPPORT || refused.errno == libc::EOPNOTSUPP
}

/// The least MTU with which an interface has IPv6 (RFC 8200, section 5).
const IPV6_LEAST: u32 = 1280;

/// Whether an interface of this MTU has IPv6 on this kernel, which may have been started with `ipv6.disable=1`.
pub(crate) fn has_ipv6(mtu: u32) -> bool {
    mtu >= IPV6_LEAST && std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Up, without ARP: the programs write the link-layer addresses.
fn up(mut message: LinkMessage) -> Request {
    message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// Brings the host side into its final shape. What is right already is not asked for: every change costs a round of
/// the kernel's notifiers.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn settle_host(netlink: &mut Netlink, link: &Link, alias: &str, mtu: u16) -> Result<()> {
    let mut shape = indexed(link.index);
    if link.mtu != u32::from(mtu) {
        shape.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
    }
    if link.alias != alias {
        shape.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    let mut requests = vec![up(indexed(link.index))];
    if !shape.attributes.is_empty() {
        requests.insert(0, Request { message: RouteNetlinkMessage::SetLink(shape), flags: 0 });
    }
    for answer in netlink.transact(requests)? {
        answer.context("setting up the host side")?;
    }
    Ok(())
}

/// Brings a TAP interface up, with no address of any kind: the kernel itself has nothing to say on it.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn settle_tap(netlink: &mut Netlink, index: u32) -> Result<()> {
    let mut alias = indexed(index);
    alias.attributes.push(LinkAttribute::IfAlias(format!("{MARK}encryption")));
    let alias = Request { message: RouteNetlinkMessage::SetLink(alias), flags: 0 };
    let requests = vec![alias, no_generated_addresses(indexed(index)), up(indexed(index))];
    for answer in netlink.transact(requests)? {
        match answer {
            Ok(_) => {}
            Err(refused) if is_without_ipv6(&refused) => {}
            Err(refused) => return Err(refused).context("setting up a TAP interface"),
        }
    }
    Ok(())
}

/// Why the inner side could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InnerRefused {
    /// IPv6 is switched off on this interface (`disable_ipv6`), as container engines like to do.
    #[error("IPv6 is switched off there")]
    Ipv6Off,
    #[error("{0:#}")]
    Other(anyhow::Error),
}

/// Brings the inner side into its final shape; `netlink` is a socket of its namespace. Idempotent.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn settle_inner(
    netlink: &mut Netlink,
    index: u32,
    address: &FabricAddress,
    mtu: u16,
) -> Result<(), InnerRefused> {
    let mut shape = indexed(index);
    shape.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
    let shape = Request { message: RouteNetlinkMessage::SetLink(shape), flags: 0 };
    let v4 = with_address(index, address.v4.into(), 32);
    let mut requests = vec![shape, no_generated_addresses(indexed(index)), up(indexed(index)), v4];
    if has_ipv6(u32::from(mtu)) {
        requests.push(with_address(index, address.v6.into(), 128));
    }
    let answers = netlink.transact(requests).map_err(|error| InnerRefused::Other(error.into()))?;
    let what = [
        "setting the MTU",
        "IPv6 without generated addresses",
        "bringing it up",
        "the IPv4 address",
        "the IPv6 address",
    ];
    for (answer, what) in answers.into_iter().zip(what) {
        match answer {
            Ok(_) => {}
            Err(refused) if what.contains("IPv6") && is_without_ipv6(&refused) => {}
            Err(refused) if what.contains("IPv6") && refused.errno == libc::EACCES => {
                return Err(InnerRefused::Ipv6Off);
            }
            Err(refused) => {
                return Err(InnerRefused::Other(anyhow!("inner side, {what}: {refused}")));
            }
        }
    }
    Ok(())
}

/// A permanent address without duplicate detection: the fabric gave it, nobody else has it.
fn with_address(index: u32, address: IpAddr, length: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = length;
    message.header.scope = AddressScope::Universe;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address));
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    Request { message: RouteNetlinkMessage::NewAddress(message), flags: NLM_F_CREATE | NLM_F_REPLACE }
}

/// Addresses of one interface, with their scopes.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn addresses(netlink: &mut Netlink, index: u32) -> Result<Vec<(IpAddr, AddressScope)>> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::empty();
    let messages = netlink.dump(RouteNetlinkMessage::GetAddress(message))?;
    Ok(messages.iter().filter_map(|message| as_address(message, index)).collect())
}

/// Index of the interface that has an address.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn holder(netlink: &mut Netlink, address: IpAddr) -> Result<Option<u32>> {
    let messages = netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let index = |message: &RouteNetlinkMessage| match message {
        RouteNetlinkMessage::NewAddress(message) => Some(message.header.index),
        _ => None,
    };
    let has = |index: &u32| {
        messages.iter().filter_map(|message| as_address(message, *index)).any(|(has, _)| has == address)
    };
    Ok(messages.iter().filter_map(index).find(has))
}

fn as_address(message: &RouteNetlinkMessage, index: u32) -> Option<(IpAddr, AddressScope)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    if message.header.index != index {
        return None;
    }
    // Local differs from Address on point-to-point interfaces only; IPv6 has Address alone.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((local.or(address)?, message.header.scope))
}

/// Removes the pair. Removing what is not there is fine.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn remove(netlink: &mut Netlink, name: &str) -> Result<()> {
    match netlink.ask(RouteNetlinkMessage::DelLink(named(name)), 0)? {
        Ok(_) => Ok(()),
        Err(refused) if refused.is_missing() => Ok(()),
        Err(refused) => Err(refused).with_context(|| format!("removing interface {name}")),
    }
}

/// An interface of encryption; a namesake of another kind stays. True: it was there.
pub(crate) fn remove_tap(netlink: &mut Netlink, name: &str) -> Result<bool> {
    match find(netlink, name)? {
        Some(link) if link.kind.as_deref() == Some("tun") => remove(netlink, name).map(|()| true),
        Some(_) | None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, alias: &str, group: u32, kind: Option<&str>) -> Link {
        let mut message = named(name);
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        message.attributes.push(LinkAttribute::Group(group));
        Link { kind: kind.map(str::to_owned), ..Link::of(&message) }
    }

    #[test]
    fn only_interfaces_with_our_mark_are_ours() {
        assert!(link("fw64400001", "foreweave:web", 0, Some("veth")).is_ours());
        assert!(link("fw64400001", "", GROUP, Some("veth")).is_ours(), "half made");
        assert!(!link("fw64400001", "", 0, Some("veth")).is_ours(), "somebody else's of that name");
        assert!(!link("eth0", "foreweave:web", GROUP, Some("veth")).is_ours());
        assert!(!link("fw64400001", "foreweave:web", GROUP, None).is_ours());
        assert!(!link("fw6440000G", "", GROUP, Some("veth")).is_ours());
    }
}
