//! Transit in XDP: swaps the label of a packet before the kernel has spent anything on it.
//!
//! Everything is at a constant offset and read by words; whatever does not look like the packets that the fabric itself
//! sends (IPv4 options, a UDP checksum, a fragment, a neighbour not resolved) goes on to tcx, which handles it.
use crate::bpf::door::{Forward, Sight};
use crate::bpf::endpoint::{Load, Way, count, next_hop};
use crate::bpf::maps::SETTINGS;
use crate::bpf::packet::{Frame, Head};
use crate::bpf::underlay::{find, is_local};
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::{Address, Reason};
use ebpf_programs::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, PROTOCOL_UDP, Vxlan};
use ebpf_programs::tunnel::{OVERHEAD_IPV4, OVERHEAD_IPV6, replaced, same_family};
use ebpf_programs::words::halves;

/// Ethernet, IP, UDP and VXLAN: where the inner frame starts.
const HEAD_IPV4: usize = 14 + 20 + 8 + 8;
const HEAD_IPV6: usize = 14 + 40 + 8 + 8;
/// First halves of `::ffff:a.b.c.d`, as words in memory order.
const MAPPED: u64 = 0;
const MAPPED_TAIL: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[inline(always)]
pub(crate) fn arrival(frame: &Frame, sight: &mut Sight) -> Result<Forward, Reason> {
    let Some(head) = frame.head::<HEAD_IPV4>() else { return Ok(Forward::Pass) };
    match u16::from_be(head.load16::<12>()) {
        ETHERTYPE_IPV4 => ipv4(frame, head, sight),
        ETHERTYPE_IPV6 => match frame.head::<HEAD_IPV6>() {
            Some(head) => ipv6(frame, head, sight),
            None => Ok(Forward::Pass),
        },
        _ => Ok(Forward::Pass),
    }
}

#[inline(always)]
fn ipv4(frame: &Frame, head: Head<HEAD_IPV4>, sight: &mut Sight) -> Result<Forward, Reason> {
    let whole = u16::from_be(head.load16::<20>()) & (Ipv4::MORE_FRAGMENTS | Ipv4::FRAGMENT_OFFSET) == 0;
    let ours = head.load8::<14>() == 0x45
        && head.load8::<23>() == PROTOCOL_UDP
        && whole
        && head.load16::<36>() == port()
        && head.load16::<40>() == 0;
    if !ours {
        return Ok(Forward::Pass);
    }
    let (source, destination) = (head.load32::<26>(), head.load32::<30>());
    let peers = Peers { source: [MAPPED, tail(source)], destination: [MAPPED, tail(destination)] };
    let Some(entry) = accepted(head.load8::<42>(), head.load32::<46>(), &peers, sight)? else {
        return Ok(Forward::Pass);
    };
    let Some(hop) = onward(&entry, head.load8::<22>(), 4)? else { return Ok(Forward::Pass) };
    let (local, remote) = (halves(&hop.local)[1] >> 32, halves(&hop.remote)[1] >> 32);
    let time = head.load16::<22>();
    let less = time.wrapping_sub(u16::from_ne_bytes([1, 0]));
    let changes = [(u32::from(time), u32::from(less)), (source, local as u32), (destination, remote as u32)];
    head.store16::<24>(replaced(head.load16::<24>(), &changes));
    head.store16::<22>(less);
    head.store32::<26>(local as u32);
    head.store32::<30>(remote as u32);
    head.store32::<46>(vni(entry.out_label));
    link(head, &hop);
    passed(frame, &entry, OVERHEAD_IPV4);
    frame.send(hop.ifindex).map(Forward::Sent)
}

#[inline(always)]
fn ipv6(frame: &Frame, head: Head<HEAD_IPV6>, sight: &mut Sight) -> Result<Forward, Reason> {
    let ours = head.load8::<14>() >> 4 == 6
        && head.load8::<20>() == PROTOCOL_UDP
        && head.load16::<56>() == port()
        && head.load16::<60>() == 0;
    if !ours {
        return Ok(Forward::Pass);
    }
    let peers = Peers {
        source: [head.load64::<22>(), head.load64::<30>()],
        destination: [head.load64::<38>(), head.load64::<46>()],
    };
    let Some(entry) = accepted(head.load8::<62>(), head.load32::<66>(), &peers, sight)? else {
        return Ok(Forward::Pass);
    };
    let time = head.load8::<21>();
    let Some(hop) = onward(&entry, time, 6)? else { return Ok(Forward::Pass) };
    let (local, remote) = (halves(&hop.local), halves(&hop.remote));
    head.store8::<21>(time.wrapping_sub(1));
    head.store64::<22>(local[0]);
    head.store64::<30>(local[1]);
    head.store64::<38>(remote[0]);
    head.store64::<46>(remote[1]);
    head.store32::<66>(vni(entry.out_label));
    link(head, &hop);
    passed(frame, &entry, OVERHEAD_IPV6);
    frame.send(hop.ifindex).map(Forward::Sent)
}

/// Outer addresses as words in memory order.
struct Peers {
    source: [u64; 2],
    destination: [u64; 2],
}

impl Peers {
    fn addresses(&self) -> (Address, Address) {
        (address(self.source), address(self.destination))
    }
}

#[inline(always)]
fn address(halves: [u64; 2]) -> Address {
    let [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]] = halves.map(u64::to_ne_bytes);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Second half of a mapped IPv4 address.
#[inline(always)]
fn tail(v4: u32) -> u64 {
    u64::from(v4) << 32 | u64::from(MAPPED_TAIL)
}

#[inline(always)]
fn port() -> u16 {
    SETTINGS.get(0).map_or(0, |settings| u16::from_ne_bytes(settings.port))
}

/// The entry of a packet in transit; none when another must decide: tcx delivers, and whatever is not for this host
/// is the kernel's.
#[inline(always)]
fn accepted(flags: u8, word: u32, peers: &Peers, sight: &mut Sight) -> Result<Option<LabelEntry>, Reason> {
    let label = u32::from_be(word) >> 8;
    match judged(flags, label, peers) {
        Ok(entry) if entry.kind == LabelEntry::TRANSIT => {
            sight.circuit = entry.circuit;
            sight.label = label;
            Ok(Some(entry))
        }
        Ok(_) => Ok(None),
        Err(reason) => refused(reason, label, peers, sight).map(|()| None),
    }
}

#[inline(always)]
fn judged(flags: u8, label: u32, peers: &Peers) -> Result<LabelEntry, Reason> {
    if flags & Vxlan::VALID == 0 {
        return Err(Reason::MalformedVxlan);
    }
    let entry = find(label)?.load();
    if halves(&entry.from) != peers.source || halves(&entry.to) != peers.destination {
        return Err(Reason::WrongPeer);
    }
    Ok(entry)
}

/// Only what was meant for this host is refused.
#[inline(always)]
fn refused(reason: Reason, label: u32, peers: &Peers, sight: &mut Sight) -> Result<(), Reason> {
    let (source, destination) = peers.addresses();
    if !is_local(&destination) {
        return Ok(());
    }
    sight.source = source;
    sight.destination = destination;
    sight.protocol = PROTOCOL_UDP;
    sight.label = label;
    Err(reason)
}

/// The next hop; none when only the kernel can reach it.
#[inline(always)]
fn onward(entry: &LabelEntry, ttl: u8, family: u8) -> Result<Option<NextHop>, Reason> {
    let hop = next_hop(entry.target)?;
    if !same_family(&hop, family) {
        return Err(Reason::NoNextHop);
    }
    if ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    Ok((hop.flags & NextHop::RESOLVED != 0).then_some(hop))
}

#[inline(always)]
fn link<const N: usize>(head: Head<N>, hop: &NextHop) {
    let [a, b, c, d, e, f] = hop.neighbour_mac;
    let [g, h, i, j, k, l] = hop.source_mac;
    head.store32::<0>(u32::from_ne_bytes([a, b, c, d]));
    head.store32::<4>(u32::from_ne_bytes([e, f, g, h]));
    head.store32::<8>(u32::from_ne_bytes([i, j, k, l]));
}

#[inline(always)]
fn vni(label: u32) -> u32 {
    (label << 8).to_be()
}

#[inline(always)]
fn passed(frame: &Frame, entry: &LabelEntry, overhead: u32) {
    let length = frame.length().saturating_sub(overhead + 14);
    count(label::index(entry.label), Way::Received, &Load::plain(length));
}
