//! One direction of a circuit through this host: a label that is swapped.
use super::direction;
use crate::kernel_state::{Entry, Label, LabelAction};
use proto_model::desired::Hop;

/// `slot`: of the next hop. `class`: its number among those with a bandwidth.
pub(crate) fn entry(hop: &Hop, slot: u32, class: u16) -> Entry {
    Entry::Label(Label {
        label: hop.receive.label.value(),
        circuit: hop.circuit.0,
        direction: direction(hop.from_side),
        from: hop.receive.from,
        to: hop.receive.local,
        class,
        action: LabelAction::Transit { next_hop: slot, out_label: hop.send.label.value() },
    })
}
