//! Probes: a request is answered where it came in, an answer or a defect is told to the agent; no workload sees any.
use crate::bpf::door::{CONSUMED, NEXT, now, tai};
use crate::bpf::endpoint::{leave, next_hop};
use crate::bpf::maps::{FLOWS, PEERS, PROBES, REFLECTED};
use crate::bpf::packet::{Skb, Slot};
use crate::bpf::underlay::{correct, is_local, readdress};
use ebpf_abi::flow::FlowKey;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::probe::{
    Answer, Defect, INNER, PER_SECOND, Peer, PeerKey, Reply, Request, TOLD_PER_SECOND, came_by,
};
use ebpf_abi::{Address, Reason, mapped, share};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::headers::{Ethernet, Ipv4, Ipv6, Udp, Vxlan};
use ebpf_programs::stamp::{self, Inside, Role};
use ebpf_programs::tunnel::{self, Carries, Link4, Link6, Outer};

/// What is read of a probe and written as its answer, beside the stack like the rest of [`crate::bpf::work::Work`].
#[repr(C, align(8))]
pub(crate) struct Probe {
    /// When it came: `CLOCK_TAI`, nanoseconds.
    arrived: u64,
    request: Request,
    udp: [[u8; 2]; 2],
    answer: Answer,
    /// Path probe: what stands before it.
    inside: Inside,
    reserved: [u8; 2],
}

/// A packet with the mark of a path probe, at the end of its path.
#[inline(never)]
pub(crate) fn path(skb: &Skb, outer: &Outer, entry: &LabelEntry, probe: &mut Probe) -> Result<i32, Reason> {
    probe.arrived = tai();
    let at = outer.udp + Udp::LENGTH + Vxlan::LENGTH;
    skb.fill(at, &mut probe.inside)?;
    let role = probe.inside.role(skb.length() - at - Ethernet::LENGTH).ok_or(Reason::MalformedProbe)?;
    // Several in one, put together on the way in: the lengths inside are those of one.
    if skb.segment() != 0 {
        return Err(Reason::MalformedProbe);
    }
    match role {
        Role::Request => {
            skb.fill(at + INNER, &mut probe.request)?;
            reflect(skb, outer, entry, probe)
        }
        Role::Answer => {
            skb.fill(at + INNER, &mut probe.answer)?;
            Ok(tell(entry.label, &outer.source, &probe.answer))
        }
        Role::Defect => {
            skb.fill(at + INNER, &mut probe.request)?;
            Ok(tell_defect(&outer.source, entry, zerocopy::transmute_ref!(&probe.request)))
        }
    }
}

/// Sends the answer by the way that belongs to the label under which the request came.
#[inline(never)]
fn reflect(skb: &Skb, outer: &Outer, entry: &LabelEntry, probe: &mut Probe) -> Result<i32, Reason> {
    if entry.out_label == 0 {
        return Err(Reason::NoWayBack);
    }
    let hop = &next_hop(entry.back)?;
    if !tunnel::same_family(hop, outer.family) {
        return Err(Reason::NoNextHop);
    }
    skb.fits(hop.ifindex, 0)?;
    let answered = Slot::of(REFLECTED.get_ptr_mut(label::index(entry.label))).ok_or(Reason::HelperFailed)?;
    answer(probe, answered.load(), outer.ttl);
    if outer.checksum {
        correct(skb, outer, entry, hop)?;
    }
    put_answer(skb, outer, probe, outer.udp + Udp::LENGTH + Vxlan::LENGTH)?;
    readdress(skb, outer, hop, tunnel::TTL)?;
    skb.write(outer.udp + Udp::LENGTH + 4, &Vxlan::of(entry.out_label).vni)?;
    skb.classify(share::CONTROL);
    let sent = leave(skb, hop)?;
    // One sender's probes come in on one CPU, by one flow; a lost count would be taken for a lost probe, no more.
    answered.update(|answered| *answered = answered.wrapping_add(1));
    Ok(sent)
}

/// What the request is answered with.
#[inline(never)]
fn answer(probe: &mut Probe, number: u32, ttl: u8) {
    probe.answer = stamp::answer(&probe.request, number, probe.arrived, tai(), ttl);
}

/// Puts it where the request was, the turned headers of a path probe before it.
#[inline(never)]
fn put_answer(skb: &Skb, outer: &Outer, probe: &mut Probe, at: u32) -> Result<(), Reason> {
    let mut stamp = at;
    if matches!(outer.carries, Carries::Tunnel) {
        probe.inside = probe.inside.turned();
        skb.write(at, &probe.inside)?;
        stamp += INNER;
    }
    skb.write(stamp, &probe.answer)?;
    if outer.checksum {
        skb.correct(outer.udp + 6, stamp::difference(&probe.request, &probe.answer), false)?;
    }
    Ok(())
}

/// UDP from or to port 862. Whatever is not between this host and a neighbour that it knows under that session is left
/// to the kernel: other reflectors and senders may live here, and the authenticated mode is not answered by programs.
#[inline(never)]
pub(crate) fn link(skb: &Skb, outer: &Outer, probe: &mut Probe) -> Result<i32, Reason> {
    probe.arrived = tai();
    if !is_plain(skb, outer, probe) {
        return Ok(NEXT);
    }
    let session = u32::from(u16::from_be_bytes(probe.request.session));
    let key = PeerKey { remote: outer.source, session };
    let Some(peer) = Slot::of(PEERS.get_ptr_mut(&key)) else { return Ok(NEXT) };
    if !is_local(&outer.destination) {
        return Ok(NEXT);
    }
    let is_answer = matches!(outer.carries, Carries::Answer);
    if !affordable(&peer, is_answer) {
        return Err(Reason::ProbeBudget);
    }
    if is_answer {
        probe.answer = zerocopy::transmute!(probe.request);
        return Ok(tell(0, &outer.source, &probe.answer));
    }
    answer(probe, peer.view().answered, outer.ttl);
    let sent = send_back(skb, outer, probe)?;
    peer.update(|peer| peer.answered = peer.answered.wrapping_add(1));
    Ok(sent)
}

/// Reads a whole, plain STAMP datagram; false when it is none.
#[inline(never)]
fn is_plain(skb: &Skb, outer: &Outer, probe: &mut Probe) -> bool {
    // IPv6 wants a checksum; the sender would never see an answer without one.
    if outer.fragment || skb.segment() != 0 || outer.family == 6 && !outer.checksum {
        return false;
    }
    let Some(udp) = skb.read::<Udp>(outer.udp) else { return false };
    probe.udp = [udp.source, udp.destination];
    let datagram = u32::from(u16::from_be_bytes(udp.length));
    datagram >= Udp::LENGTH + stamp::LENGTH
        && payload(skb, outer).is_some_and(|payload| datagram <= payload)
        && skb.fill(outer.udp + Udp::LENGTH, &mut probe.request).is_ok()
        && !stamp::is_authenticated(&probe.request, datagram - Udp::LENGTH)
}

/// Bytes from the UDP header on, as the IP header claims and the frame has them; none for a frame to many.
#[inline(always)]
fn payload(skb: &Skb, outer: &Outer) -> Option<u32> {
    let link: Ethernet = skb.read(0)?;
    let end = if outer.family == 4 {
        let ip: Ipv4 = skb.read(Ethernet::LENGTH)?;
        Ethernet::LENGTH + u32::from(u16::from_be_bytes(ip.total_length))
    } else {
        let ip: Ipv6 = skb.read(Ethernet::LENGTH)?;
        Ethernet::LENGTH + Ipv6::LENGTH + u32::from(u16::from_be_bytes(ip.payload_length))
    };
    let whole = end <= skb.length() && link.destination[0] & 1 == 0;
    whole.then_some(end.saturating_sub(outer.udp))
}

/// Whether this second has an answer left: for this neighbour, or from it. Whoever forges a neighbour's answers can make
/// its measurements wrong, but can neither fill the ring nor keep the agent busy.
#[inline(never)]
fn affordable(peer: &Slot<Peer>, is_answer: bool) -> bool {
    let second = now() / 1_000_000_000;
    let mut affordable = true;
    peer.update(|peer| {
        if peer.second != second {
            peer.second = second;
            peer.spent = 0;
            peer.told = 0;
        }
        if is_answer {
            affordable = peer.told < TOLD_PER_SECOND;
            peer.told += u32::from(affordable);
        } else {
            affordable = peer.spent < PER_SECOND;
            peer.spent += u64::from(affordable);
        }
    });
    affordable
}

/// The answer in the request's place, out of the interface on which that came in.
#[inline(never)]
fn send_back(skb: &Skb, outer: &Outer, probe: &mut Probe) -> Result<i32, Reason> {
    put_answer(skb, outer, probe, outer.udp + Udp::LENGTH)?;
    let [source, destination] = probe.udp;
    probe.udp = [destination, source];
    skb.write(outer.udp, &probe.udp)?;
    if outer.family == 4 {
        let mut head: Link4 = skb.read(0).ok_or(Reason::Truncated)?;
        stamp::turn4(&mut head);
        skb.write(0, &head)?;
    } else {
        let mut head: Link6 = skb.read(0).ok_or(Reason::Truncated)?;
        stamp::turn6(&mut head);
        skb.write(0, &head)?;
    }
    skb.classify(share::CONTROL);
    skb.send(skb.ifindex())
}

/// An answer, for the agent. When the ring is full it is lost, as if on the way.
#[inline(never)]
fn tell(label: u32, from: &Address, answer: &Answer) -> i32 {
    let Some(mut reply) = PROBES.reserve(0) else { return CONSUMED };
    reply.write(Reply {
        label,
        sequence: u32::from_be_bytes(answer.sender_sequence),
        reflected: u32::from_be_bytes(answer.sequence),
        session: u16::from_be_bytes(answer.session),
        kind: Reply::ANSWER,
        reserved: 0,
        from: *from,
        received: answer.received.nanos(),
        answered: answer.timestamp.nanos(),
        arrived: now(),
    });
    reply.submit(0);
    CONSUMED
}

/// A defect, for the agent, with the group of the circuit under whose label it came: about others nothing is said under
/// it. A circuit without a group has no use for it.
#[inline(never)]
fn tell_defect(from: &Address, entry: &LabelEntry, defect: &Defect) -> i32 {
    let key = FlowKey { eni: entry.target, remote: mapped(entry.remote_v4) };
    let Some(flow) = Slot::of(FLOWS.get_ptr_mut(&key)) else { return CONSUMED };
    let flow = flow.view();
    let Some(way) = came_by(entry, flow) else { return CONSUMED };
    let Some(mut reply) = PROBES.reserve(0) else { return CONSUMED };
    reply.write(Reply {
        label: 0,
        sequence: u32::from(flow.group),
        reflected: way,
        session: 0,
        kind: Reply::DEFECT,
        reserved: 0,
        from: *from,
        received: u64::from_be_bytes(defect.dead),
        answered: 0,
        arrived: now(),
    });
    reply.submit(0);
    CONSUMED
}
