//! A workload's packet on its way into a circuit: known, honest, allowed, wrapped, sent.
use crate::bpf::door::{Forward, Sight, now};
use crate::bpf::dry::{self, dry};
use crate::bpf::maps::{FLOWS, GROUPS, METERS, NEXT_HOPS, SETTINGS, STATS};
use crate::bpf::packet::{Skb, Slot};
use crate::bpf::seal;
use crate::bpf::size;
use crate::bpf::tables::Kernel;
use crate::bpf::trace;
use crate::bpf::work::Work;
use ebpf_abi::flow::{BACKUP, Flow, FlowKey, NextHop};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::trace::Traced;
use ebpf_abi::{Direction, Reason};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::firewall::{self, Subject};
use ebpf_programs::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use ebpf_programs::meter::{self, Due};
use ebpf_programs::network::Network;
use ebpf_programs::segment;
use ebpf_programs::transport::{self, Transport};
use ebpf_programs::tunnel::{self, OVERHEAD_IPV4, OVERHEAD_IPV6, Outer4, Outer6, Wrap};
use ebpf_programs::words::same;

#[inline(always)]
pub(crate) fn workload(skb: &Skb, work: &mut Work) -> Result<Forward, Reason> {
    let Work { sight, network, transport, room, flow, .. } = work;
    if skb.has_vlan_tag() {
        return Err(Reason::VlanTag);
    }
    read_network(skb, 0, network)?;
    sight.addresses(network);
    if !network.is_unicast() {
        return Err(Reason::NotUnicast);
    }
    *flow = find(skb, network).ok_or(Reason::NoCircuit)?;
    sight.circuit = flow.circuit;
    if !same(&flow.local, &network.source) {
        return Err(Reason::SpoofedSource);
    }
    read_transport(skb, network, transport)?;
    admit(sight, Direction::of(flow.direction), network, transport)?;
    if flow.class != 0 {
        meter(skb, flow.class, network, transport)?;
        skb.classify(flow.class);
    }
    if trace::on() {
        trace::skb(skb, sight, Traced::ENTERED, out_label(flow));
    }
    size::clamp(skb, network, transport, flow.mtu)?;
    match enter(skb, flow, network, transport, room) {
        Ok(sent) => {
            count(flow.slot, Way::Sent, &Load::of(skb, network, transport));
            Ok(Forward::Sent(sent))
        }
        Err(Reason::TooBig) => size::answer(skb, sight, network, transport, *room),
        Err(reason) => Err(reason),
    }
}

/// Into the circuit, by whatever way it has. `room` says what would have passed, if this is too big.
#[inline(always)]
fn enter(
    skb: &Skb,
    flow: &Flow,
    network: &Network,
    transport: &Transport,
    room: &mut u32,
) -> Result<i32, Reason> {
    let longest = segment::longest(network, transport, skb.segment());
    if flow.mtu != 0 && longest > u32::from(flow.mtu) {
        *room = u32::from(flow.mtu);
        return Err(Reason::TooBig);
    }
    match flow.kind {
        Flow::SEALED => seal::encrypt(skb, flow, network.family),
        Flow::TUNNEL => {
            *room = longest;
            tunnel(skb, flow, network, transport, room)
        }
        Flow::PEER => hand_over(skb, flow, network),
        _ => {
            skb.write(0, &link(flow, network))?;
            skb.send(flow.target)
        }
    }
}

/// Fills `network`. The functions that are called, not inlined, return plain results: kernel 6.18 refuses BTF of an enum
/// whose discriminant lies inside its value ("Invalid member bits_offset"), as in `Result<Network, Reason>`.
#[inline(never)]
pub(crate) fn read_network(skb: &Skb, at: u32, network: &mut Network) -> Result<(), Reason> {
    *network = ebpf_programs::workload_frame(skb, at)?;
    Ok(())
}

/// Fills `transport`.
#[inline(never)]
pub(crate) fn read_transport(skb: &Skb, network: &Network, transport: &mut Transport) -> Result<(), Reason> {
    *transport = transport::read(skb, network)?;
    Ok(())
}

/// The firewall, and what a refusal is told with.
#[inline(never)]
pub(crate) fn admit(
    sight: &mut Sight,
    direction: Direction,
    network: &Network,
    transport: &Transport,
) -> Result<(), Reason> {
    sight.ports(transport);
    let subject = Subject { circuit: sight.circuit, direction, network, transport };
    firewall::judge(&Kernel, &subject).map_err(|denied| {
        sight.rule = denied.rule;
        denied.reason
    })
}

/// What is more than the circuit's limit is dropped; without one its slot is empty.
#[inline(never)]
fn meter(skb: &Skb, class: u16, network: &Network, transport: &Transport) -> Result<(), Reason> {
    let Some(slot) = Slot::of(METERS.get_ptr_mut(u32::from(class))) else { return Ok(()) };
    let meter = slot.view();
    if meter.price == 0 {
        return Ok(());
    }
    let cost = meter.cost(Load::of(skb, network, transport).bytes);
    let paid = slot.shared();
    let due = meter::due(paid.load(), now(), meter.burst, cost).ok_or(Reason::OverLimit)?;
    if !dry() {
        match due {
            Due::Until(time) => paid.store(time),
            Due::More(cost) => paid.add(cost),
        }
    }
    Ok(())
}

/// The open gate from this interface to that address.
#[inline(always)]
fn find(skb: &Skb, network: &Network) -> Option<Flow> {
    let key = FlowKey { eni: skb.ifindex(), remote: network.destination };
    let flow = Slot::of(FLOWS.get_ptr_mut(&key))?.load();
    same(&flow.remote, &network.destination).then_some(flow)
}

#[inline(always)]
fn hand_over(skb: &Skb, flow: &Flow, network: &Network) -> Result<i32, Reason> {
    skb.write(0, &link(flow, network))?;
    skb.claim();
    skb.hand_over(flow.target)
}

/// To the workload that a label leads to, the frame being as long as it shall be.
#[inline(always)]
pub(crate) fn hand_in(skb: &Skb, entry: &LabelEntry, family: u8) -> Result<i32, Reason> {
    skb.fits(entry.target, 0)?;
    let link = Ethernet {
        destination: entry.mac,
        source: entry.gateway,
        ethertype: ethertype(family).to_be_bytes(),
    };
    skb.write(0, &link)?;
    skb.claim();
    if entry.kind == LabelEntry::PEER { skb.hand_over(entry.target) } else { skb.send(entry.target) }
}

#[inline(always)]
fn link(flow: &Flow, network: &Network) -> Ethernet {
    Ethernet {
        destination: flow.mac,
        source: flow.gateway,
        ethertype: ethertype(network.family).to_be_bytes(),
    }
}

#[inline(always)]
pub(crate) fn ethertype(family: u8) -> u16 {
    if family == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }
}

#[inline(always)]
pub(crate) fn tunnel(
    skb: &Skb,
    flow: &Flow,
    network: &Network,
    transport: &Transport,
    room: &mut u32,
) -> Result<i32, Reason> {
    let port = SETTINGS.get(0).ok_or(Reason::HelperFailed)?.port;
    let wrap = Wrap {
        source_port: tunnel::source_port(network, transport),
        port,
        ethertype: ethertype(network.family),
        length: skb.length() - Ethernet::LENGTH,
    };
    wrap_and_send(skb, flow, &wrap, room)
}

/// By the primary, unless the protector has turned the flow's group.
#[inline(always)]
fn way(flow: &Flow) -> tunnel::Way {
    let turned = if flow.group == 0 { None } else { GROUPS.get(u32::from(flow.group)).copied() };
    dry::way(turned == Some(BACKUP));
    tunnel::Way::of(flow, turned)
}

/// 0: the other end is on this host.
#[inline(always)]
fn out_label(flow: &Flow) -> u32 {
    match flow.kind {
        Flow::TUNNEL | Flow::SEALED => way(flow).label,
        _ => 0,
    }
}

/// `room` comes with the length of the longest packet, and goes with that of the longest possible one if that is less.
#[inline(never)]
fn wrap_and_send(skb: &Skb, flow: &Flow, wrap: &Wrap, room: &mut u32) -> Result<i32, Reason> {
    let way = way(flow);
    let hop = &next_hop(way.target)?;
    if tunnel::same_family(hop, 4) {
        check_room(skb, hop, OVERHEAD_IPV4, room)?;
        skb.grow(OVERHEAD_IPV4, 4)?;
        skb.write(0, &Outer4::of(flow, way.label, hop, wrap))?;
    } else {
        check_room(skb, hop, OVERHEAD_IPV6, room)?;
        skb.grow(OVERHEAD_IPV6, 6)?;
        skb.write(0, &Outer6::of(flow, way.label, hop, wrap))?;
    }
    leave(skb, hop)
}

/// The underlay may have become narrower than the controller knows.
#[inline(always)]
fn check_room(skb: &Skb, hop: &NextHop, overhead: u32, room: &mut u32) -> Result<(), Reason> {
    let most = skb.room(hop.ifindex)?.saturating_sub(overhead);
    if *room > most {
        *room = most;
        return Err(Reason::TooBig);
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn next_hop(slot: u32) -> Result<NextHop, Reason> {
    let hop = Slot::of(NEXT_HOPS.get_ptr_mut(slot)).ok_or(Reason::NoNextHop)?.load();
    if hop.ifindex == 0 { Err(Reason::NoNextHop) } else { Ok(hop) }
}

/// Out to a next hop, the outer headers being right.
#[inline(always)]
pub(crate) fn leave(skb: &Skb, hop: &NextHop) -> Result<i32, Reason> {
    if hop.flags & NextHop::RESOLVED != 0 { skb.send(hop.ifindex) } else { skb.send_resolving(hop.ifindex) }
}

/// Which counters of a circuit.
pub(crate) enum Way {
    Sent,
    Received,
}

/// What a packet adds to counters.
pub(crate) struct Load {
    packets: u64,
    bytes: u64,
}

impl Load {
    /// A superpacket counts as the segments that it stands for.
    #[inline(always)]
    pub(crate) fn of(skb: &Skb, network: &Network, transport: &Transport) -> Self {
        let segment = skb.segment();
        if segment == 0 {
            return Self { packets: 1, bytes: u64::from(network.length) };
        }
        let headers = u64::from(segment::headers(network, transport));
        let payload = u64::from(network.length).saturating_sub(headers);
        let packets = payload.div_ceil(u64::from(segment)).max(1);
        Self { packets, bytes: payload + packets * headers }
    }

    #[inline(always)]
    pub(crate) fn plain(length: u32) -> Self {
        Self { packets: 1, bytes: u64::from(length) }
    }
}

#[inline(always)]
pub(crate) fn count(slot: u32, way: Way, load: &Load) {
    if dry() {
        return;
    }
    let Some(stats) = Slot::of(STATS.get_ptr_mut(slot)) else { return };
    stats.update(|stats| match way {
        Way::Sent => {
            stats.sent_packets += load.packets;
            stats.sent_bytes += load.bytes;
        }
        Way::Received => {
            stats.received_packets += load.packets;
            stats.received_bytes += load.bytes;
        }
    });
}
