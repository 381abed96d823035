//! Packets that a circuit cannot carry: their sender is told, and TCPs are told before it comes to that.
use crate::bpf::door::{Forward, Sight, now};
use crate::bpf::dry::{self, dry};
use crate::bpf::maps::ERROR_BUDGET;
use crate::bpf::packet::{Skb, Slot};
use crate::bpf::trace;
use ebpf_abi::Reason;
use ebpf_abi::event::{Budget, ERRORS_PER_SECOND};
use ebpf_abi::maps::ERROR_BUDGETS;
use ebpf_programs::bytes::Bytes;
use ebpf_programs::headers::Ethernet;
use ebpf_programs::network::Network;
use ebpf_programs::segment::{self, Options};
use ebpf_programs::too_big::{self, Error4, Error6, Quote};
use ebpf_programs::transport::Transport;

/// Lowers what a SYN announces to what packets of `mtu` bytes hold; 0: not known.
#[inline(always)]
pub(crate) fn clamp(skb: &Skb, network: &Network, transport: &Transport, mtu: u16) -> Result<(), Reason> {
    if mtu == 0 || !segment::announces(transport) {
        return Ok(());
    }
    lower(skb, network, transport, mtu)
}

#[inline(never)]
fn lower(skb: &Skb, network: &Network, transport: &Transport, mtu: u16) -> Result<(), Reason> {
    let options = skb.walk(Options::of(network, transport));
    let Some(lowered) = segment::lowered(skb, network, &options, mtu) else { return Ok(()) };
    skb.correct_tcp(network.transport + 16, lowered.difference)?;
    skb.write(lowered.at, &lowered.to)
}

/// Tells the workload how long its packets may be: the packet becomes the error, and goes back out of the interface on
/// which it came. Too often, or about what may not be answered, it is only dropped.
#[inline(never)]
pub(crate) fn answer(
    skb: &Skb,
    sight: &Sight,
    network: &Network,
    transport: &Transport,
    mtu: u32,
) -> Result<Forward, Reason> {
    if dry() {
        dry::room(mtu);
        return Err(Reason::TooBig);
    }
    if !too_big::is_answerable(skb, network, transport) || !affordable(sight.circuit) {
        return Err(Reason::TooBig);
    }
    let quote = skb.sum_up(Quote::of(network));
    let link: Ethernet = skb.read(0).ok_or(Reason::TooBig)?;
    if !quote.is_whole() {
        return Err(Reason::TooBig);
    }
    if trace::on() {
        trace::skb_dropped(skb, sight, Reason::TooBig);
    }
    skb.cut(Ethernet::LENGTH + quote.length)?;
    skb.widen(too_big::longer(network.family))?;
    if network.family == 4 {
        skb.write(0, &Error4::of(&link, network, mtu, &quote))?;
    } else {
        skb.write(0, &Error6::of(&link, network, mtu, &quote))?;
    }
    skb.send(skb.ifindex()).map(Forward::Told)
}

/// Whether this second has an error left for this circuit on this CPU. Circuits whose numbers are as many apart as there
/// are budgets share one.
#[inline(always)]
fn affordable(circuit: u64) -> bool {
    let index = circuit as u32 & (ERROR_BUDGETS - 1);
    let Some(slot) = Slot::of(ERROR_BUDGET.get_ptr_mut(index)) else { return false };
    let second = now() / 1_000_000_000;
    let mut affordable = true;
    slot.update(|budget: &mut Budget| {
        if budget.second != second {
            *budget = Budget { second, spent: 0 };
        }
        affordable = budget.spent < ERRORS_PER_SECOND;
        budget.spent += u64::from(affordable);
    });
    affordable
}
