//! A packet from the underlay: whose label is it, and is it to be passed on or delivered?
use crate::bpf::door::{Forward, Sight};
use crate::bpf::dry::dry;
use crate::bpf::endpoint::{
    Load, Way, admit, count, ethertype, leave, next_hop, read_network, read_transport,
};
use crate::bpf::maps::{LABELS, LOCALS, SETTINGS};
use crate::bpf::packet::{Skb, Slot};
use crate::bpf::probe;
use crate::bpf::seal;
use crate::bpf::size;
use crate::bpf::trace;
use crate::bpf::work::Work;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::trace::Traced;
use ebpf_abi::{Address, Direction, Reason, mapped, share};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::headers::{Ethernet, Udp, Vxlan};
use ebpf_programs::network::Network;
use ebpf_programs::tunnel::{self, Carries, Link4, Link6, Outer};
use ebpf_programs::words::same;

#[inline(always)]
pub(crate) fn arrival(skb: &Skb, work: &mut Work) -> Result<Forward, Reason> {
    if skb.has_vlan_tag() || skb.is_overheard() {
        return Ok(Forward::Pass);
    }
    let Work { sight, outer, entry, probe, .. } = work;
    if !read(skb, outer) {
        return Ok(Forward::Pass);
    }
    sight.source = outer.source;
    sight.destination = outer.destination;
    sight.protocol = 17;
    if !matches!(outer.carries, Carries::Tunnel) {
        if dry() {
            return Ok(Forward::Pass);
        }
        return probe::link(skb, outer, probe).map(Forward::Sent);
    }
    match accepted(skb, outer, sight, entry) {
        Ok(()) => {}
        Err(_) if !is_local(&outer.destination) => return Ok(Forward::Pass),
        Err(reason) => return Err(reason),
    }
    if dry() && work.outer.probe {
        return Ok(Forward::Pass);
    }
    let sent = if work.entry.kind == LabelEntry::TRANSIT {
        if trace::on() && !work.outer.probe {
            trace::skb(skb, &work.sight, Traced::PASSED_ON, work.entry.out_label);
        }
        pass_on(skb, &work.outer, &work.entry)?
    } else if work.outer.probe {
        probe::path(skb, &work.outer, &work.entry, &mut work.probe)?
    } else {
        deliver(skb, work)?
    };
    Ok(Forward::Sent(sent))
}

/// Fills `outer`; false when the packet is not ours.
#[inline(never)]
fn read(skb: &Skb, outer: &mut Outer) -> bool {
    let Some(ethernet) = skb.read::<Ethernet>(0) else { return false };
    let Some(settings) = SETTINGS.get(0) else { return false };
    let Some(found) = tunnel::read(skb, ethernet.ethertype(), settings.port) else { return false };
    *outer = found;
    true
}

/// Fills the entry under which this packet is let in.
#[inline(always)]
fn accepted(skb: &Skb, outer: &mut Outer, sight: &mut Sight, entry: &mut LabelEntry) -> Result<(), Reason> {
    let vxlan = tunnel::vxlan(skb, outer)?;
    outer.probe = vxlan.is_probe();
    let label = vxlan.label();
    sight.label = label;
    *entry = find(label)?.load();
    sight.circuit = entry.circuit;
    if !same(&entry.from, &outer.source) || !same(&entry.to, &outer.destination) {
        return Err(Reason::WrongPeer);
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn find(label: u32) -> Result<Slot<LabelEntry>, Reason> {
    let entry = Slot::of(LABELS.get_ptr_mut(label::index(label))).ok_or(Reason::UnknownLabel)?;
    let allocated = entry.view().label;
    if allocated == 0 || label == 0 {
        return Err(Reason::UnknownLabel);
    }
    if allocated != label {
        return Err(Reason::StaleLabel);
    }
    Ok(entry)
}

#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    LOCALS.get_ptr(address).is_some()
}

/// Where a transit host sends a packet.
#[inline(always)]
fn onward(entry: &LabelEntry, outer: &Outer) -> Result<NextHop, Reason> {
    let hop = next_hop(entry.target)?;
    if !tunnel::same_family(&hop, outer.family) {
        return Err(Reason::NoNextHop);
    }
    if outer.ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    Ok(hop)
}

#[inline(never)]
fn pass_on(skb: &Skb, outer: &Outer, entry: &LabelEntry) -> Result<i32, Reason> {
    let hop = &onward(entry, outer)?;
    skb.fits(hop.ifindex, 0)?;
    if outer.checksum {
        correct(skb, outer, entry, hop)?;
    }
    let inner = outer.udp + Udp::LENGTH + Vxlan::LENGTH;
    skb.write(inner - 4, &Vxlan::of(entry.out_label).vni)?;
    readdress(skb, outer, hop, outer.ttl.wrapping_sub(1))?;
    // Probes are not the circuit's traffic, and do not wait behind it.
    if outer.probe {
        skb.classify(share::CONTROL);
    } else {
        if entry.class != 0 {
            skb.classify(entry.class);
        }
        let length = skb.length().saturating_sub(inner + Ethernet::LENGTH);
        count(label::index(entry.label), Way::Received, &Load::plain(length));
    }
    leave(skb, hop)
}

/// Keeps the UDP checksum of a foreign sender right; our own packets have none (see `tunnel`).
#[inline(never)]
pub(crate) fn correct(skb: &Skb, outer: &Outer, entry: &LabelEntry, hop: &NextHop) -> Result<(), Reason> {
    let at = outer.udp + 6;
    skb.correct(at, tunnel::difference(&outer.source, &hop.local), true)?;
    skb.correct(at, tunnel::difference(&outer.destination, &hop.remote), true)?;
    let (old, new) = (Vxlan::of(entry.label).vni, Vxlan::of(entry.out_label).vni);
    skb.correct(at, tunnel::label_difference(old, new), false)
}

#[inline(always)]
pub(crate) fn readdress(skb: &Skb, outer: &Outer, hop: &NextHop, ttl: u8) -> Result<(), Reason> {
    if outer.family == 4 { readdress4(skb, hop, ttl) } else { readdress6(skb, hop, ttl) }
}

#[inline(never)]
fn readdress4(skb: &Skb, hop: &NextHop, ttl: u8) -> Result<(), Reason> {
    let mut head: Link4 = skb.read(0).ok_or(Reason::Truncated)?;
    tunnel::readdress4(&mut head, hop, ttl);
    skb.write(0, &head)
}

#[inline(never)]
fn readdress6(skb: &Skb, hop: &NextHop, ttl: u8) -> Result<(), Reason> {
    let mut head: Link6 = skb.read(0).ok_or(Reason::Truncated)?;
    tunnel::readdress6(&mut head, hop, ttl);
    skb.write(0, &head)
}

#[inline(always)]
fn deliver(skb: &Skb, work: &mut Work) -> Result<i32, Reason> {
    let inner = work.outer.udp + Udp::LENGTH + Vxlan::LENGTH;
    if work.entry.sealed != 0 {
        return seal::decrypt(skb, work, inner);
    }
    let Work { sight, network, transport, entry, .. } = work;
    read_network(skb, inner, network)?;
    sight.addresses(network);
    if !belongs(network, entry) {
        return Err(Reason::ForeignInner);
    }
    read_transport(skb, network, transport)?;
    admit(sight, Direction::of(entry.direction), network, transport)?;
    if trace::on() {
        trace::skb(skb, sight, Traced::DELIVERED, 0);
    }
    size::clamp(skb, network, transport, entry.mtu)?;
    let load = Load::of(skb, network, transport);
    let sent = unwrap_and_send(skb, entry, inner, network.family)?;
    count(label::index(entry.label), Way::Received, &load);
    Ok(sent)
}

/// A circuit carries the packets of its two resources and of nobody else.
#[inline(always)]
pub(crate) fn belongs(network: &Network, entry: &LabelEntry) -> bool {
    if network.family == 4 {
        same(&network.source, &mapped(entry.remote_v4)) && same(&network.destination, &mapped(entry.local_v4))
    } else {
        same(&network.source, &entry.remote_v6) && same(&network.destination, &entry.local_v6)
    }
}

#[inline(never)]
fn unwrap_and_send(skb: &Skb, entry: &LabelEntry, inner: u32, family: u8) -> Result<i32, Reason> {
    skb.fits(entry.target, -(inner as i32))?;
    skb.shrink(inner, family)?;
    let link = Ethernet {
        destination: entry.mac,
        source: entry.gateway,
        ethertype: ethertype(family).to_be_bytes(),
    };
    skb.write(0, &link)?;
    if entry.kind == LabelEntry::PEER { skb.hand_over(entry.target) } else { skb.send(entry.target) }
}
