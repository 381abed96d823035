//! The one door out: turns what a program decided into a verdict, and counts and tells every drop.
use crate::bpf::dry::{self, dry};
use crate::bpf::maps::{DROPS, EVENT_BUDGET, EVENTS, REASONS};
use crate::bpf::packet::{Frame, Skb, Slot};
use crate::bpf::trace;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ktime_get_tai_ns};
use ebpf_abi::event::{Budget, DropEvent, PER_SECOND};
use ebpf_abi::stats::{DropKey, Dropped};
use ebpf_abi::{Address, Reason};
use ebpf_programs::network::Network;
use ebpf_programs::transport::Transport;

/// What happens to a packet that is not dropped.
pub(crate) enum Forward {
    /// Not ours: the next program, or the kernel, goes on with it untouched.
    Pass,
    /// The verdict of the helper that sent it, or of a probe's handling.
    Sent(i32),
    /// Too big: dropped, and its sender is told so; the verdict of the helper that sends the error.
    Told(i32),
}

/// What is known about a packet so far: what a drop will be told with.
#[repr(C, align(8))]
pub(crate) struct Sight {
    pub(crate) circuit: u64,
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) rule: u32,
    pub(crate) label: u32,
    pub(crate) ifindex: u32,
    pub(crate) length: u32,
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    pub(crate) protocol: u8,
    pub(crate) hook: u8,
    reserved: [u8; 2],
}

impl Sight {
    #[inline(always)]
    pub(crate) const fn of(hook: u8, ifindex: u32, length: u32) -> Self {
        Self {
            circuit: 0,
            source: [0; 16],
            destination: [0; 16],
            rule: 0,
            label: 0,
            ifindex,
            length,
            source_port: [0; 2],
            destination_port: [0; 2],
            protocol: 0,
            hook,
            reserved: [0; 2],
        }
    }

    #[inline(always)]
    pub(crate) fn addresses(&mut self, network: &Network) {
        self.source = network.source;
        self.destination = network.destination;
        self.protocol = network.protocol;
    }

    #[inline(always)]
    pub(crate) fn ports(&mut self, transport: &Transport) {
        self.source_port = transport.source_port;
        self.destination_port = transport.destination_port;
        if self.protocol == 1 || self.protocol == 58 {
            self.destination_port = [transport.icmp_type, transport.icmp_code];
        }
    }
}

/// The verdict on a packet that was meant for the program itself. Not `TC_ACT_STOLEN`: tcx takes that for "go on" (kernel
/// 6.18, `tcx_run`).
pub(crate) const CONSUMED: i32 = TC_ACT_SHOT as i32;

/// The verdict on a packet that the next program, or the kernel, is to have untouched; see [`Forward::Pass`].
pub(crate) const NEXT: i32 = TC_ACT_UNSPEC;

/// The verdict where even the first map is missing, which no loaded program can see.
pub(crate) const BROKEN: i32 = TC_ACT_SHOT as i32;

/// The verdict of a tcx program.
#[inline(always)]
pub(crate) fn tcx(skb: &Skb, result: Result<Forward, Reason>, sight: &Sight) -> i32 {
    match result {
        Ok(Forward::Pass) => NEXT,
        Ok(Forward::Sent(verdict)) => {
            dry::seen(sight);
            verdict
        }
        Ok(Forward::Told(verdict)) => {
            refused(Reason::TooBig, sight);
            verdict
        }
        Err(reason) => {
            refused(reason, sight);
            if trace::on() {
                trace::skb_dropped(skb, sight, reason);
            }
            TC_ACT_SHOT as i32
        }
    }
}

/// The verdict of an XDP program.
#[inline(always)]
pub(crate) fn xdp(frame: &Frame, result: Result<Forward, Reason>, sight: &Sight) -> u32 {
    match result {
        Ok(forward) => let_through(forward),
        Err(reason) => {
            refused(reason, sight);
            if trace::on() {
                trace::frame_dropped(frame, sight, reason);
            }
            xdp_action::XDP_DROP
        }
    }
}

/// The verdict of an XDP program that has nothing to tell.
#[inline(always)]
pub(crate) fn let_through(forward: Forward) -> u32 {
    match forward {
        Forward::Pass => xdp_action::XDP_PASS,
        Forward::Sent(verdict) | Forward::Told(verdict) => verdict as u32,
    }
}

/// Counts a drop under its reason and under its circuit and rule, and tells it if the budget allows.
#[inline(never)]
fn refused(reason: Reason, sight: &Sight) {
    if dry() {
        return dry::refused(reason, sight);
    }
    let bytes = u64::from(sight.length);
    if let Some(count) = Slot::of(REASONS.get_ptr_mut(reason as u32)) {
        count.update(|count| add(count, bytes));
    }
    let key = DropKey { circuit: sight.circuit, reason: reason as u32, rule: sight.rule };
    match Slot::of(DROPS.get_ptr_mut(&key)) {
        Some(count) => count.update(|count| add(count, bytes)),
        // A second CPU may be first; then its packet is the one that this loses to. `REASONS` has both.
        None => drop(DROPS.insert(&key, &Dropped { packets: 1, bytes }, 0)),
    }
    let at = now();
    if affordable(reason, at) {
        tell(reason, sight, at);
    }
}

#[inline(always)]
fn add(count: &mut Dropped, bytes: u64) {
    count.packets += 1;
    count.bytes += bytes;
}

/// Whether this second has an event left for this reason on this CPU.
#[inline(always)]
fn affordable(reason: Reason, at: u64) -> bool {
    let Some(slot) = Slot::of(EVENT_BUDGET.get_ptr_mut(reason as u32)) else { return false };
    let second = at / 1_000_000_000;
    let mut affordable = true;
    slot.update(|budget: &mut Budget| {
        if budget.second != second {
            *budget = Budget { second, spent: 0 };
        }
        affordable = budget.spent < PER_SECOND;
        budget.spent += u64::from(affordable);
    });
    affordable
}

#[inline(always)]
fn tell(reason: Reason, sight: &Sight, at: u64) {
    let Some(mut event) = EVENTS.reserve(0) else { return };
    event.write(DropEvent {
        at,
        circuit: sight.circuit,
        source: sight.source,
        destination: sight.destination,
        reason: reason as u32,
        rule: sight.rule,
        ifindex: sight.ifindex,
        length: sight.length,
        label: sight.label,
        source_port: sight.source_port,
        destination_port: sight.destination_port,
        protocol: sight.protocol,
        hook: sight.hook,
        reserved: [0; 6],
    });
    event.submit(0);
}

/// Nanoseconds since 1970 by `CLOCK_TAI`, in which probes are stamped (kernel 6.1).
#[inline(always)]
pub(crate) fn tai() -> u64 {
    // SAFETY: plain helper call.
    unsafe { bpf_ktime_get_tai_ns() }
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: plain helper call.
    unsafe { bpf_ktime_get_ns() }
}
