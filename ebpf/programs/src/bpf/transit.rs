//! Transit in XDP: swaps the label of a packet before the kernel has spent anything on it.
//!
//! Everything is at a constant offset and read by words; whatever does not look like the packets that the fabric itself
//! sends (IPv4 options, a UDP checksum, a fragment), or that cannot leave by XDP (a neighbour not resolved, an interface
//! without XDP, a frame too long for it), goes on to tcx, which handles it or says why not.
use crate::bpf::door::{self, Forward, Sight};
use crate::bpf::dry::{self, dry};
use crate::bpf::endpoint::next_hop;
use crate::bpf::maps::{SETTINGS, STATS};
use crate::bpf::packet::{Frame, Head, Slot};
use crate::bpf::trace;
use crate::bpf::underlay::{find, is_local};
use ebpf_abi::event::HOOK_UNDERLAY_XDP;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::probe::OAM;
use ebpf_abi::stats::Stats;
use ebpf_abi::{Reason, mapped};
use ebpf_programs::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, PROTOCOL_UDP, Vxlan};
use ebpf_programs::tunnel::{OVERHEAD_IPV4, OVERHEAD_IPV6, replaced, same_family};
use ebpf_programs::words::{halves, join};

/// Ethernet, IP, UDP and VXLAN: where the inner frame starts.
const HEAD_IPV4: usize = 14 + 20 + 8 + 8;
const HEAD_IPV6: usize = 14 + 40 + 8 + 8;
/// First halves of `::ffff:a.b.c.d`, as words in memory order.
const MAPPED: u64 = 0;
const MAPPED_TAIL: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[inline(always)]
pub(crate) fn arrival(frame: &Frame) -> Result<Forward, Refusal> {
    let Some(head) = frame.head::<HEAD_IPV4>() else { return Ok(Forward::Pass) };
    match u16::from_be(head.load16::<12>()) {
        ETHERTYPE_IPV4 => ipv4(frame, head),
        ETHERTYPE_IPV6 => match frame.head::<HEAD_IPV6>() {
            Some(head) => ipv6(frame, head),
            None => Ok(Forward::Pass),
        },
        _ => Ok(Forward::Pass),
    }
}

#[inline(always)]
fn ipv4(frame: &Frame, head: Head<HEAD_IPV4>) -> Result<Forward, Refusal> {
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
    let word = head.load32::<46>();
    let counters = Counters::fetch(word);
    let flags = head.load8::<42>();
    let Some(entry) = accepted(flags, word, &peers)? else {
        return Ok(Forward::Pass);
    };
    let length = frame.length().max(14 + u32::from(u16::from_be(head.load16::<16>())));
    let Some(hop) = onward(length, &entry, head.load8::<22>(), 4)? else { return Ok(Forward::Pass) };
    let (local, remote) = (halves(&hop.local)[1] >> 32, halves(&hop.remote)[1] >> 32);
    followed(frame, flags, &entry);
    let time = head.load16::<22>();
    let less = time.wrapping_sub(u16::from_ne_bytes([1, 0]));
    let changes = [(u32::from(time), u32::from(less)), (source, local as u32), (destination, remote as u32)];
    head.store16::<24>(replaced(head.load16::<24>(), &changes));
    head.store16::<22>(less);
    head.store32::<26>(local as u32);
    head.store32::<30>(remote as u32);
    head.store32::<46>(vni(entry.out_label));
    link(head, &hop);
    counters.add(frame, flags, OVERHEAD_IPV4);
    sent(frame, &hop, &entry)
}

#[inline(always)]
fn ipv6(frame: &Frame, head: Head<HEAD_IPV6>) -> Result<Forward, Refusal> {
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
    let word = head.load32::<66>();
    let counters = Counters::fetch(word);
    let flags = head.load8::<62>();
    let Some(entry) = accepted(flags, word, &peers)? else {
        return Ok(Forward::Pass);
    };
    let time = head.load8::<21>();
    let length = frame.length().max(54 + u32::from(u16::from_be(head.load16::<18>())));
    let Some(hop) = onward(length, &entry, time, 6)? else { return Ok(Forward::Pass) };
    let (local, remote) = (halves(&hop.local), halves(&hop.remote));
    followed(frame, flags, &entry);
    head.store8::<21>(time.wrapping_sub(1));
    head.store64::<22>(local[0]);
    head.store64::<30>(local[1]);
    head.store64::<38>(remote[0]);
    head.store64::<46>(remote[1]);
    head.store32::<66>(vni(entry.out_label));
    link(head, &hop);
    counters.add(frame, flags, OVERHEAD_IPV6);
    sent(frame, &hop, &entry)
}

/// Outer addresses as words in memory order.
struct Peers {
    source: [u64; 2],
    destination: [u64; 2],
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

/// A drop, as far as the fast path knows it; the rest is read again when it is told.
pub(crate) struct Refusal {
    reason: Reason,
    label: u32,
    circuit: u64,
}

impl Refusal {
    /// Only what was meant for this host is refused; the rest is the kernel's.
    #[inline(never)]
    pub(crate) fn verdict(&self, frame: &Frame) -> u32 {
        let mut sight = Sight::of(HOOK_UNDERLAY_XDP, frame.ifindex(), frame.length());
        sight.circuit = self.circuit;
        sight.label = self.label;
        sight.protocol = PROTOCOL_UDP;
        addresses(frame, &mut sight);
        if stray(self.reason) && !is_local(&sight.destination) {
            return door::xdp(frame, Ok(Forward::Pass), &sight);
        }
        door::xdp(frame, Err(self.reason), &sight)
    }
}

/// Whether a packet that is somebody else's can look like this: it carries no label that let it in.
#[inline(always)]
fn stray(reason: Reason) -> bool {
    matches!(reason, Reason::MalformedVxlan | Reason::UnknownLabel | Reason::StaleLabel | Reason::WrongPeer)
}

#[inline(always)]
fn addresses(frame: &Frame, sight: &mut Sight) {
    let Some(head) = frame.head::<HEAD_IPV4>() else { return };
    if u16::from_be(head.load16::<12>()) == ETHERTYPE_IPV4 {
        sight.source = mapped(head.load32::<26>().to_ne_bytes());
        sight.destination = mapped(head.load32::<30>().to_ne_bytes());
    } else if let Some(head) = frame.head::<HEAD_IPV6>() {
        sight.source = join([head.load64::<22>(), head.load64::<30>()]);
        sight.destination = join([head.load64::<38>(), head.load64::<46>()]);
    }
}

/// The entry of a packet in transit; none when another must decide: tcx delivers.
#[inline(always)]
fn accepted(flags: u8, word: u32, peers: &Peers) -> Result<Option<LabelEntry>, Refusal> {
    let label = u32::from_be(word) >> 8;
    let nobodys = |reason| Refusal { reason, label, circuit: 0 };
    if flags & Vxlan::VALID == 0 {
        return Err(nobodys(Reason::MalformedVxlan));
    }
    let entry = find(label).map_err(nobodys)?.load();
    if halves(&entry.from) != peers.source || halves(&entry.to) != peers.destination {
        return Err(Refusal { reason: Reason::WrongPeer, label, circuit: entry.circuit });
    }
    Ok((entry.kind == LabelEntry::TRANSIT).then_some(entry))
}

/// The next hop; none when XDP cannot get a frame of this length there. It is the length that the IP header says: of a
/// frame in several buffers only the first is seen here.
#[inline(always)]
fn onward(length: u32, entry: &LabelEntry, ttl: u8, family: u8) -> Result<Option<NextHop>, Refusal> {
    let refused = |reason| Refusal { reason, label: entry.label, circuit: entry.circuit };
    let hop = next_hop(entry.target).map_err(refused)?;
    if !same_family(&hop, family) {
        return Err(refused(Reason::NoNextHop));
    }
    if ttl <= 1 {
        return Err(refused(Reason::TtlExceeded));
    }
    // An unresolved neighbour has 0 there too.
    Ok((length <= u32::from(hop.longest)).then_some(hop))
}

/// Tells it, if it is one of a circuit that somebody follows. Probes are not the circuit's traffic.
#[inline(always)]
fn followed(frame: &Frame, flags: u8, entry: &LabelEntry) {
    if trace::on() && flags & OAM == 0 {
        trace::frame(frame, entry.circuit, entry.label, entry.out_label);
    }
}

#[inline(always)]
fn sent(frame: &Frame, hop: &NextHop, entry: &LabelEntry) -> Result<Forward, Refusal> {
    let refused = |reason| Refusal { reason, label: entry.label, circuit: entry.circuit };
    dry::passed(entry.circuit, entry.label);
    frame.send(hop.ifindex).map(Forward::Sent).map_err(refused)
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

/// The counters of a label, touched before the label's entry is: with 100,000 labels both are far from the cache, and
/// the processor fetches them side by side only if neither waits for the other (about a fifth of the hop's time).
struct Counters {
    found: Option<Slot<Stats>>,
    packets: u64,
    bytes: u64,
}

impl Counters {
    #[inline(always)]
    fn fetch(word: u32) -> Self {
        let found = Slot::of(STATS.get_ptr_mut(label::index(u32::from_be(word) >> 8)));
        let (packets, bytes) = found.as_ref().map_or((0, 0), |slot| {
            let stats = slot.view();
            (stats.received_packets, stats.received_bytes)
        });
        Self { found, packets, bytes }
    }

    /// Nothing else on this CPU counts between `fetch` and here. Probes are not the circuit's traffic.
    #[inline(always)]
    fn add(self, frame: &Frame, flags: u8, overhead: u32) {
        if flags & OAM != 0 || dry() {
            return;
        }
        let length = frame.length().saturating_sub(overhead + 14);
        if let Some(slot) = self.found {
            slot.update(|stats| {
                stats.received_packets = self.packets + 1;
                stats.received_bytes = self.bytes + u64::from(length);
            });
        }
    }
}
