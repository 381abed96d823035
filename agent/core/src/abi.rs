//! Kernel entries as the bytes of the data plane's maps, and back; the daemon only adds the interface indexes.
mod followed;
mod metered;
mod sealed;

use crate::kernel_state::{
    Back, Backup, Flow, HostSide, Label, LabelAction, LinkLayer, NextHop, Peer, Row, Rules, Target,
};
use ebpf_abi::flow::FlowKey;
use ebpf_abi::label::LabelEntry;
use ebpf_abi::probe::{self, PeerKey};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::{Address, Direction, flow as bytes};
pub use followed::{read_trace, trace};
pub use metered::{meter, read_meter};
use proto_model::FabricAddress;
pub use sealed::{read_seal, seal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host side of an ENI as the maps refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Index of the host side.
    pub ifindex: u32,
    /// Where its inner side is.
    pub inner: Inner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// In another namespace: `bpf_redirect_peer` reaches it.
    Elsewhere,
    /// In the host's own ([`proto_model::resource::Attachment::Host`]): `bpf_redirect` to the host side.
    OnHost,
}

/// Bytes that mean nothing, or an entry whose interface is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("interface {} is not there", .0.as_str())]
    NoInterface(HostSide),
    #[error("interface index {0} is not one of the fabric's")]
    NoIndex(u32),
    #[error("kind {kind} is none that a {what} can have")]
    Kind { what: &'static str, kind: u8 },
    #[error("the value repeats another key than its own")]
    OtherKey,
    #[error("session {0} of a peer is more than 65535")]
    Session(u32),
    #[error("rules say {said} rows, but there are {found}")]
    Rows { said: u32, found: usize },
}

/// IPv4 rides as IPv4-mapped IPv6.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => ebpf_abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub fn ip(address: &Address) -> IpAddr {
    if ebpf_abi::is_mapped(address) {
        IpAddr::V4(Ipv4Addr::new(address[12], address[13], address[14], address[15]))
    } else {
        IpAddr::V6(Ipv6Addr::from(*address))
    }
}

/// `towards`: index of the interface that the host's routes choose; used while the neighbour is not known, and never
/// 0, because 0 marks an empty slot.
pub fn next_hop(hop: &NextHop, towards: u32) -> bytes::NextHop {
    let empty = LinkLayer { ifindex: towards, source: [0; 6], neighbour: [0; 6], longest: 0 };
    let link = hop.link.unwrap_or(empty);
    bytes::NextHop {
        local: address(hop.local),
        remote: address(hop.remote),
        ifindex: link.ifindex,
        source_mac: link.source,
        neighbour_mac: link.neighbour,
        flags: if hop.link.is_some() { bytes::NextHop::RESOLVED } else { 0 },
        longest: link.longest,
    }
}

/// None: the slot is empty.
pub fn read_next_hop(slot: u32, value: &bytes::NextHop) -> Option<NextHop> {
    let link = LinkLayer {
        ifindex: value.ifindex,
        source: value.source_mac,
        neighbour: value.neighbour_mac,
        longest: value.longest,
    };
    let resolved = value.flags & bytes::NextHop::RESOLVED != 0;
    (value.ifindex != 0).then(|| NextHop {
        slot,
        local: ip(&value.local),
        remote: ip(&value.remote),
        link: resolved.then_some(link),
    })
}

/// # Errors
/// An interface that `door` does not know.
pub fn flow(
    flow: &Flow,
    door: impl Fn(&HostSide) -> Option<Door>,
) -> Result<(FlowKey, bytes::Flow), Unreadable> {
    let find = |host: &HostSide| door(host).ok_or(Unreadable::NoInterface(*host));
    let none = Backup { slot: 0, label: 0, group: 0 };
    let (kind, target, label, backup) = match &flow.target {
        Target::NextHop { slot, label, backup } => {
            let kind = if flow.sealed { bytes::Flow::SEALED } else { bytes::Flow::TUNNEL };
            (kind, *slot, *label, backup.unwrap_or(none))
        }
        Target::Eni(host) => {
            let far = find(host)?;
            (kind(far.inner, bytes::Flow::PEER, bytes::Flow::EGRESS), far.ifindex, 0, none)
        }
    };
    let remote = address(flow.remote);
    let key = FlowKey { eni: find(&flow.host)?.ifindex, remote };
    let value = bytes::Flow {
        circuit: flow.circuit,
        local: address(flow.local),
        remote,
        slot: flow.slot,
        target,
        label,
        mac: flow.mac,
        gateway: flow.gateway,
        direction: flow.direction as u8,
        kind,
        mtu: flow.mtu,
        // Groups are fewer than this has room for.
        group: backup.group as u16,
        backup_target: backup.slot,
        backup_label: backup.label,
        class: flow.class,
    };
    Ok((key, value))
}

/// # Errors
/// An index that `host` does not know, or bytes that no agent writes.
pub fn read_flow(
    key: &FlowKey,
    value: &bytes::Flow,
    host: impl Fn(u32) -> Option<HostSide>,
) -> Result<Flow, Unreadable> {
    let find = |index: u32| host(index).ok_or(Unreadable::NoIndex(index));
    let target = match value.kind {
        bytes::Flow::TUNNEL | bytes::Flow::SEALED => {
            let (slot, label, group) = (value.backup_target, value.backup_label, u32::from(value.group));
            let backup = (group != 0).then_some(Backup { slot, label, group });
            Target::NextHop { slot: value.target, label: value.label, backup }
        }
        bytes::Flow::PEER | bytes::Flow::EGRESS => Target::Eni(find(value.target)?),
        kind => return Err(Unreadable::Kind { what: "flow", kind }),
    };
    if key.remote != value.remote {
        return Err(Unreadable::OtherKey);
    }
    Ok(Flow {
        host: find(key.eni)?,
        circuit: value.circuit,
        local: ip(&value.local),
        remote: ip(&value.remote),
        mac: value.mac,
        gateway: value.gateway,
        slot: value.slot,
        direction: Direction::of(value.direction),
        mtu: value.mtu,
        class: value.class,
        target,
        sealed: value.kind == bytes::Flow::SEALED,
    })
}

/// # Errors
/// An interface that `door` does not know.
pub fn label(label: &Label, door: impl Fn(&HostSide) -> Option<Door>) -> Result<LabelEntry, Unreadable> {
    let mut entry = LabelEntry {
        label: label.label,
        kind: LabelEntry::TRANSIT,
        direction: label.direction as u8,
        sealed: 0,
        reserved: 0,
        circuit: label.circuit,
        from: address(label.from),
        to: address(label.to),
        target: 0,
        out_label: 0,
        mac: [0; 6],
        gateway: [0; 6],
        remote_v6: [0; 16],
        local_v6: [0; 16],
        remote_v4: [0; 4],
        local_v4: [0; 4],
        back: 0,
        mtu: 0,
        class: label.class,
        reserved2: [0; 12],
    };
    match &label.action {
        LabelAction::Transit { next_hop, out_label } => {
            entry.target = *next_hop;
            entry.out_label = *out_label;
        }
        LabelAction::Deliver { eni, local, remote, back, mtu, sealed } => {
            entry.mtu = *mtu;
            let door = door(eni).ok_or(Unreadable::NoInterface(*eni))?;
            entry.kind = kind(door.inner, LabelEntry::PEER, LabelEntry::EGRESS);
            entry.target = door.ifindex;
            entry.mac = local.mac();
            entry.gateway = local.gateway_mac();
            entry.remote_v6 = remote.v6.octets();
            entry.local_v6 = local.v6.octets();
            entry.remote_v4 = remote.v4.octets();
            entry.local_v4 = local.v4.octets();
            entry.back = back.next_hop;
            entry.sealed = u8::from(*sealed);
            entry.out_label = back.label;
        }
    }
    Ok(entry)
}

/// None: the slot is free.
///
/// # Errors
/// An index that `host` does not know, or bytes that no agent writes.
pub fn read_label(
    entry: &LabelEntry,
    host: impl Fn(u32) -> Option<HostSide>,
) -> Result<Option<Label>, Unreadable> {
    if entry.label == 0 {
        return Ok(None);
    }
    let action = match entry.kind {
        LabelEntry::TRANSIT => LabelAction::Transit { next_hop: entry.target, out_label: entry.out_label },
        LabelEntry::PEER | LabelEntry::EGRESS => LabelAction::Deliver {
            eni: host(entry.target).ok_or(Unreadable::NoIndex(entry.target))?,
            local: FabricAddress { v4: entry.local_v4.into(), v6: entry.local_v6.into() },
            remote: FabricAddress { v4: entry.remote_v4.into(), v6: entry.remote_v6.into() },
            back: Back { next_hop: entry.back, label: entry.out_label },
            mtu: entry.mtu,
            sealed: entry.sealed != 0,
        },
        kind => return Err(Unreadable::Kind { what: "label", kind }),
    };
    Ok(Some(Label {
        label: entry.label,
        circuit: entry.circuit,
        direction: Direction::of(entry.direction),
        from: ip(&entry.from),
        to: ip(&entry.to),
        class: entry.class,
        action,
    }))
}

/// The key in `PEERS` of a neighbour that may ask.
pub fn peer(peer: &Peer) -> PeerKey {
    PeerKey { remote: address(peer.remote), session: peer.session.into() }
}

/// The value of one that has not asked yet.
pub const NEW_PEER: probe::Peer = probe::Peer { second: 0, spent: 0, answered: 0, told: 0 };

/// # Errors
/// A session that does not fit 16 bits, which no agent writes.
pub fn read_peer(key: &PeerKey) -> Result<Peer, Unreadable> {
    let session = u16::try_from(key.session).map_err(|_| Unreadable::Session(key.session))?;
    Ok(Peer { remote: ip(&key.remote), session })
}

/// What goes into `RULESETS` and, before it, into `RULES` from row `start` on.
pub fn rules(rules: &Rules) -> (RuleSetRef, Vec<RuleRow>) {
    let rows: Vec<RuleRow> = rules.rows.iter().map(rule_row).collect();
    let set = RuleSetRef {
        circuit: rules.circuit,
        start: rules.start,
        count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        version: rules.version,
        reserved: 0,
    };
    (set, rows)
}

/// `rows`: the `count` rows from `start` on.
///
/// # Errors
/// Another number of rows.
pub fn read_rules(set: &RuleSetRef, rows: &[RuleRow]) -> Result<Rules, Unreadable> {
    if u32::try_from(rows.len()) != Ok(set.count) {
        return Err(Unreadable::Rows { said: set.count, found: rows.len() });
    }
    Ok(Rules {
        circuit: set.circuit,
        version: set.version,
        start: set.start,
        rows: rows.iter().map(read_row).collect(),
    })
}

fn kind(inner: Inner, elsewhere: u8, on_host: u8) -> u8 {
    match inner {
        Inner::Elsewhere => elsewhere,
        Inner::OnHost => on_host,
    }
}

pub(crate) fn rule_row(row: &Row) -> RuleRow {
    RuleRow {
        source: row.source,
        source_mask: row.source_mask,
        destination: row.destination,
        destination_mask: row.destination_mask,
        id: row.id,
        port_from: row.port_from,
        port_to: row.port_to,
        protocol: row.protocol,
        directions: row.directions,
        allow: u8::from(row.allow),
        family: row.family,
        reserved: [0; 3],
    }
}

fn read_row(row: &RuleRow) -> Row {
    Row {
        source: row.source,
        source_mask: row.source_mask,
        destination: row.destination,
        destination_mask: row.destination_mask,
        id: row.id,
        port_from: row.port_from,
        port_to: row.port_to,
        protocol: row.protocol,
        directions: row.directions,
        allow: row.allow != 0,
        family: row.family,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fabric(host: u8) -> FabricAddress {
        proto_model::FabricPrefix::default().address(u32::from(host)).expect("a small host number")
    }

    fn door(host: &HostSide) -> Option<Door> {
        let ifindex = host.as_str().strip_prefix("eni")?.parse().ok()?;
        let inner = if ifindex % 2 == 0 { Inner::OnHost } else { Inner::Elsewhere };
        Some(Door { ifindex, inner })
    }

    fn host(index: u32) -> Option<HostSide> {
        (index < 100).then(|| HostSide::named(&format!("eni{index}")))
    }

    fn a_flow(target: Target, remote: IpAddr) -> Flow {
        Flow {
            host: HostSide::named("eni3"),
            circuit: 7,
            local: "100.64.0.1".parse().expect("address"),
            remote,
            mac: fabric(2).mac(),
            gateway: fabric(2).gateway_mac(),
            slot: 5,
            direction: Direction::Reverse,
            mtu: 1_350,
            class: 0x0203,
            target,
            sealed: false,
        }
    }

    #[test]
    fn flows_read_back_as_written() {
        let v4 = "100.64.0.2".parse().expect("address");
        let v6 = "fdfb::2".parse().expect("address");
        let second = Backup { slot: 10, label: 78, group: 3 };
        for (target, kind) in [
            (Target::NextHop { slot: 9, label: 77, backup: None }, bytes::Flow::TUNNEL),
            (Target::NextHop { slot: 9, label: 77, backup: Some(second) }, bytes::Flow::TUNNEL),
            (Target::Eni(HostSide::named("eni5")), bytes::Flow::PEER),
            (Target::Eni(HostSide::named("eni4")), bytes::Flow::EGRESS),
        ] {
            for remote in [v4, v6] {
                let written = a_flow(target.clone(), remote);
                let (key, value) = flow(&written, door).expect("known interfaces");
                assert_eq!((key.eni, value.kind), (3, kind));
                assert_eq!(read_flow(&key, &value, host), Ok(written));
                if kind == bytes::Flow::TUNNEL {
                    let sealed = Flow { sealed: true, ..a_flow(target.clone(), remote) };
                    let (key, value) = flow(&sealed, door).expect("known interfaces");
                    assert_eq!(
                        (value.kind, read_flow(&key, &value, host)),
                        (bytes::Flow::SEALED, Ok(sealed))
                    );
                }
            }
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let flow_to = a_flow(Target::Eni(HostSide::named("gone")), "::1".parse().expect("address"));
        let refusal = flow(&flow_to, door).expect_err("no such interface");
        assert_eq!(refusal.to_string(), "interface gone is not there");
    }

    #[test]
    fn labels_read_back_as_written() {
        let deliver = |n: u32| LabelAction::Deliver {
            eni: HostSide::named(&format!("eni{n}")),
            local: fabric(1),
            remote: fabric(2),
            back: Back { next_hop: n, label: n + 70 },
            mtu: 1_350,
            sealed: n == 2,
        };
        for (action, kind) in [
            (LabelAction::Transit { next_hop: 3, out_label: 99 }, LabelEntry::TRANSIT),
            (deliver(1), LabelEntry::PEER),
            (deliver(2), LabelEntry::EGRESS),
        ] {
            let written = Label {
                label: 0x12_3456,
                circuit: 1 << 40,
                direction: Direction::Forward,
                from: "192.0.2.1".parse().expect("address"),
                to: "2001:db8::1".parse().expect("address"),
                class: 0x0405,
                action,
            };
            let value = label(&written, door).expect("known interfaces");
            assert_eq!(value.kind, kind);
            assert_eq!(read_label(&value, host), Ok(Some(written)));
        }
    }

    #[test]
    fn peers_read_back_as_written() {
        let written = Peer { remote: "2001:db8::1".parse().expect("address"), session: u16::MAX };
        assert_eq!(read_peer(&peer(&written)), Ok(written));
        let odd = PeerKey { session: 1 << 16, ..peer(&written) };
        assert_eq!(read_peer(&odd), Err(Unreadable::Session(1 << 16)));
    }

    #[test]
    fn rules_read_back_as_written() {
        let one = Row {
            source: [1; 16],
            source_mask: [2; 16],
            destination: [3; 16],
            destination_mask: [4; 16],
            id: 5,
            port_from: 6,
            port_to: 7,
            protocol: RuleRow::ANY_PROTOCOL,
            directions: 3,
            allow: true,
            family: 6,
        };
        let written = Rules { circuit: 1, version: 2, start: 3, rows: vec![one; 2] };
        let (set, rows) = rules(&written);
        assert_eq!(read_rules(&set, &rows), Ok(written));
        assert_eq!(read_rules(&set, &rows[1..]), Err(Unreadable::Rows { said: 2, found: 1 }));
    }

    #[test]
    fn next_hops_read_back_as_written() {
        let link = LinkLayer { ifindex: 4, source: [1; 6], neighbour: [2; 6], longest: 1514 };
        for link in [None, Some(link)] {
            let written = NextHop {
                slot: 8,
                local: "192.0.2.1".parse().expect("address"),
                remote: "192.0.2.2".parse().expect("address"),
                link,
            };
            assert_eq!(read_next_hop(8, &next_hop(&written, 4)), Some(written));
        }
    }
}
