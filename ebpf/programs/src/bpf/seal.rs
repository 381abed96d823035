//! Packets of encrypted circuits on their way to the agent and back.
use crate::bpf::door::Forward;
use crate::bpf::endpoint::{
    Load, Way, admit, count, ethertype, hand_in, read_network, read_transport, tunnel,
};
use crate::bpf::maps::{FLOWS, LABELS, SEALERS};
use crate::bpf::packet::{Skb, Slot};
use crate::bpf::size;
use crate::bpf::trace;
use crate::bpf::underlay::belongs;
use crate::bpf::work::Work;
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::seal::{CIPHER, PLAIN, Tag};
use ebpf_abi::trace::Traced;
use ebpf_abi::{Direction, Reason, mapped};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::headers::Ethernet;
use ebpf_programs::seal;
use ebpf_programs::segment;
use ebpf_programs::words::same;

/// A packet that the firewall has let in: to the agent, which encrypts it.
#[inline(always)]
pub(crate) fn encrypt(skb: &Skb, flow: &Flow, family: u8) -> Result<i32, Reason> {
    give(skb, PLAIN, &Tag::packet(flow.slot, flow.circuit, ethertype(family)))
}

/// What came through a circuit's tunnel: to the agent, which decrypts it. The outer headers stay: a superpacket that lost
/// them is still marked as a tunnel's (kernel 6.18, `bpf_skb_net_shrink`), and cannot be cut for an interface that does
/// not take superpackets of tunnels.
#[inline(always)]
pub(crate) fn decrypt(skb: &Skb, work: &mut Work, inner: u32) -> Result<i32, Reason> {
    let Work { network, transport, entry, outer, .. } = work;
    // What cannot be read as a packet at all is not a message either.
    let read = read_network(skb, inner, network).and_then(|()| read_transport(skb, network, transport));
    if read.is_err() || !seal::is_message(network, transport) {
        return Err(Reason::NotSealed);
    }
    give(skb, CIPHER, &Tag::packet(label::index(entry.label), entry.circuit, ethertype(outer.family)))
}

#[inline(always)]
fn give(skb: &Skb, which: u32, tag: &Tag) -> Result<i32, Reason> {
    let device = SEALERS.get(which).copied().unwrap_or(0);
    if device == 0 {
        return Err(Reason::NoSealer);
    }
    skb.write(0, tag)?;
    skb.send(device)
}

/// The agent has encrypted something: into the circuit's tunnel, by the way that is in force now.
#[inline(always)]
pub(crate) fn encrypted(skb: &Skb, work: &mut Work) -> Result<Forward, Reason> {
    known(skb, work)?;
    let Work { network, transport, room, entry, flow, .. } = work;
    read_network(skb, 0, network)?;
    read_transport(skb, network, transport)?;
    if !seal::is_message(network, transport) {
        return Err(Reason::NotSealed);
    }
    *flow = way_back(entry);
    let key = FlowKey { eni: entry.target, remote: mapped(entry.remote_v4) };
    if let Some(open) = Slot::of(FLOWS.get_ptr_mut(&key)) {
        let open = open.load();
        if open.circuit == entry.circuit && same(&open.remote, &key.remote) {
            *flow = open;
        }
    }
    if flow.class != 0 {
        skb.classify(flow.class);
    }
    *room = segment::longest(network, transport, skb.segment());
    tunnel(skb, flow, network, transport, room).map(Forward::Sent)
}

/// While the gate is closed, the ends agree on keys by the way on which answers to probes go.
#[inline(always)]
fn way_back(entry: &LabelEntry) -> Flow {
    Flow {
        circuit: entry.circuit,
        local: [0; 16],
        remote: [0; 16],
        slot: label::index(entry.label),
        target: entry.back,
        label: entry.out_label,
        mac: entry.mac,
        gateway: entry.gateway,
        direction: Direction::of(entry.direction).opposite() as u8,
        kind: Flow::SEALED,
        mtu: 0,
        group: 0,
        class: 0,
        backup_target: 0,
        backup_label: 0,
    }
}

/// The agent has decrypted something: the same checks as for what comes in the clear, then to the workload.
#[inline(always)]
pub(crate) fn decrypted(skb: &Skb, work: &mut Work) -> Result<Forward, Reason> {
    known(skb, work)?;
    let Work { sight, network, transport, entry, .. } = work;
    read_network(skb, 0, network)?;
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
    let sent = hand_in(skb, entry, network.family)?;
    count(label::index(entry.label), Way::Received, &load);
    Ok(Forward::Sent(sent))
}

/// Fills the entry of the label that the agent named; a refusal ends here, as what the agent refused it for.
#[inline(always)]
fn known(skb: &Skb, work: &mut Work) -> Result<(), Reason> {
    let Work { sight, entry, .. } = work;
    let tag: Tag = skb.read(0).ok_or(Reason::Truncated)?;
    sight.circuit = tag.circuit();
    if tag.mark == Tag::REFUSED {
        return Err(match tag.kind() {
            kind if kind == Reason::NoSealSession as u16 => Reason::NoSealSession,
            kind if kind == Reason::TooBig as u16 => Reason::TooBig,
            kind if kind == Reason::MalformedIp as u16 => Reason::MalformedIp,
            _ => Reason::SealBroken,
        });
    }
    let found = Slot::of(LABELS.get_ptr_mut(tag.index())).ok_or(Reason::UnknownLabel)?;
    *entry = found.load();
    sight.label = entry.label;
    if tag.mark != Tag::PACKET || entry.label == 0 || entry.sealed != 1 {
        return Err(Reason::UnknownLabel);
    }
    // The circuit was released while the packet was with the agent, and another one has the label now.
    if entry.circuit != tag.circuit() { Err(Reason::StaleLabel) } else { Ok(()) }
}

const _: () = assert!(size_of::<Tag>() == Ethernet::LENGTH as usize);
