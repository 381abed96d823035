//! Tells the packets of circuits that somebody follows. While nobody does, a packet pays the test of one byte.
use crate::bpf::door::{Sight, now, tai};
use crate::bpf::dry::dry;
use crate::bpf::maps::{SETTINGS, TRACE_BUDGET, TRACED, TRACES};
use crate::bpf::packet::{Frame, Skb, Slot, in_place};
use ebpf_abi::Reason;
use ebpf_abi::event::HOOK_UNDERLAY_XDP;
use ebpf_abi::trace::{PER_SECOND, Traced};

/// Whether any circuit of this host is followed.
#[inline(always)]
pub(crate) fn on() -> bool {
    !dry() && SETTINGS.get(0).is_some_and(|settings| settings.tracing != 0)
}

/// What became of a packet at a tcx hook.
#[inline(never)]
pub(crate) fn skb(skb: &Skb, sight: &Sight, act: u8, out_label: u32) {
    let Some(missed) = affordable(sight.circuit) else { return };
    let Some(mut entry) = TRACES.reserve(0) else { return not_told(missed) };
    let record = in_place(&mut entry);
    from(record, sight, missed);
    record.act = act;
    record.out_label = out_label;
    record.segment = skb.segment();
    record.taken = (skb.copy(&mut record.bytes) as u16).to_ne_bytes();
    entry.submit(0);
}

/// The same of a drop.
#[inline(never)]
pub(crate) fn skb_dropped(skb: &Skb, sight: &Sight, reason: Reason) {
    let Some(missed) = affordable(sight.circuit) else { return };
    let Some(mut entry) = TRACES.reserve(0) else { return not_told(missed) };
    let record = in_place(&mut entry);
    from(record, sight, missed);
    record.act = Traced::DROPPED;
    record.reason = reason as u32;
    record.rule = sight.rule;
    record.segment = skb.segment();
    record.taken = (skb.copy(&mut record.bytes) as u16).to_ne_bytes();
    entry.submit(0);
}

/// A packet in transit by XDP, before its headers change.
#[inline(never)]
pub(crate) fn frame(frame: &Frame, circuit: u64, label: u32, out_label: u32) {
    let Some(missed) = affordable(circuit) else { return };
    let Some(mut entry) = TRACES.reserve(0) else { return not_told(missed) };
    let record = in_place(&mut entry);
    begin(record, missed);
    record.circuit = circuit;
    record.label = label;
    record.out_label = out_label;
    record.ifindex = frame.ifindex();
    record.length = frame.length();
    record.hook = HOOK_UNDERLAY_XDP;
    record.act = Traced::PASSED_ON;
    record.taken = (frame.copy(&mut record.bytes) as u16).to_ne_bytes();
    entry.submit(0);
}

/// A drop in XDP.
#[inline(never)]
pub(crate) fn frame_dropped(frame: &Frame, sight: &Sight, reason: Reason) {
    let Some(missed) = affordable(sight.circuit) else { return };
    let Some(mut entry) = TRACES.reserve(0) else { return not_told(missed) };
    let record = in_place(&mut entry);
    from(record, sight, missed);
    record.act = Traced::DROPPED;
    record.reason = reason as u32;
    record.taken = (frame.copy(&mut record.bytes) as u16).to_ne_bytes();
    entry.submit(0);
}

#[inline(always)]
fn from(record: &mut Traced, sight: &Sight, missed: u64) {
    begin(record, missed);
    record.circuit = sight.circuit;
    record.label = sight.label;
    record.ifindex = sight.ifindex;
    record.length = sight.length;
    record.hook = sight.hook;
}

#[inline(always)]
fn begin(record: &mut Traced, missed: u64) {
    record.at = tai();
    record.missed = missed;
    record.out_label = 0;
    record.reason = 0;
    record.rule = 0;
    record.segment = 0;
}

/// How many this CPU has not told since its last record, if the circuit is followed and this second has a record left.
#[inline(never)]
fn wanted(circuit: u64) -> u64 {
    let Some(wanted) = Slot::of(TRACED.get_ptr_mut(&circuit)) else { return u64::MAX };
    let at = now();
    if wanted.view().until <= at {
        return u64::MAX;
    }
    let Some(slot) = Slot::of(TRACE_BUDGET.get_ptr_mut(0)) else { return u64::MAX };
    let second = at / 1_000_000_000;
    let mut missed = u64::MAX;
    slot.update(|budget| {
        if budget.second != second {
            budget.second = second;
            budget.spent = 0;
        }
        if budget.spent < PER_SECOND {
            budget.spent += 1;
            missed = budget.missed;
            budget.missed = 0;
        } else {
            budget.missed += 1;
        }
    });
    missed
}

/// The ring is full: the next record says so.
#[inline(never)]
fn not_told(missed: u64) {
    if let Some(slot) = Slot::of(TRACE_BUDGET.get_ptr_mut(0)) {
        slot.update(|budget| budget.missed += missed + 1);
    }
}

#[inline(always)]
fn affordable(circuit: u64) -> Option<u64> {
    match wanted(circuit) {
        u64::MAX => None,
        missed => Some(missed),
    }
}
