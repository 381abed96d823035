//! A dry run: the same object loaded a second time over the same maps, in which whatever writes is dead code for the
//! verifier, and the verdict is noted in a map of that load's own.
use crate::bpf::door::Sight;
use crate::bpf::maps::VERDICT;
use crate::bpf::packet::Slot;
pub(crate) use crate::bpf::packet::dry;
use ebpf_abi::Reason;
use ebpf_abi::conntrack::Conn;
use ebpf_abi::verdict::Verdict;

#[inline(always)]
fn note(change: impl FnOnce(&mut Verdict)) {
    if let Some(verdict) = Slot::of(VERDICT.get_ptr_mut(0)) {
        verdict.update(change);
    }
}

#[inline(always)]
pub(crate) fn sent(ifindex: u32) {
    if dry() {
        note(|verdict| verdict.ifindex = ifindex);
    }
}

/// By the backup, or by the primary.
#[inline(always)]
pub(crate) fn way(backup: bool) {
    if dry() {
        let way = if backup { Verdict::WAY_BACKUP } else { Verdict::WAY_PRIMARY };
        note(|verdict| verdict.way = way);
    }
}

/// So long a packet would have passed.
#[inline(always)]
pub(crate) fn room(mtu: u32) {
    note(|verdict| verdict.room = mtu as u16);
}

/// A rule was found that allows it, whether or not it opens a connection.
#[inline(always)]
pub(crate) fn ruled(rule: u32) {
    if dry() {
        note(|verdict| verdict.rule = rule);
    }
}

#[inline(always)]
pub(crate) fn would_open(rule: u32) {
    note(|verdict| {
        verdict.rule = rule;
        verdict.connection = Verdict::CONNECTION_WOULD_OPEN;
    });
}

/// It belongs to this connection.
#[inline(always)]
pub(crate) fn belongs(conn: &Conn) {
    if dry() {
        note(|verdict| {
            verdict.rule = conn.rule;
            verdict.connection = match conn.state {
                Conn::STATE_NEW => Verdict::CONNECTION_OPENING,
                Conn::STATE_ESTABLISHED => Verdict::CONNECTION_ESTABLISHED,
                _ => Verdict::CONNECTION_CLOSING,
            };
        });
    }
}

/// What the program knew of the packet at its end.
#[inline(always)]
pub(crate) fn seen(sight: &Sight) {
    passed(sight.circuit, sight.label);
}

#[inline(always)]
pub(crate) fn passed(circuit: u64, label: u32) {
    if dry() {
        note(|verdict| {
            verdict.circuit = circuit;
            verdict.label = label;
        });
    }
}

#[inline(always)]
pub(crate) fn refused(reason: Reason, sight: &Sight) {
    let rule = sight.rule;
    seen(sight);
    note(|verdict| {
        verdict.reason = reason as u32;
        verdict.rule = rule;
        verdict.ifindex = 0;
        verdict.connection = Verdict::CONNECTION_NONE;
    });
}
