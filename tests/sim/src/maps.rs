//! The maps of a pretended host's data plane.
use agent_core::abi;
use ebpf_abi::flow::{self, FlowKey};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::probe::{self, PeerKey};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::seal::SealRow;
use ebpf_abi::share;
use ebpf_abi::trace::Wanted;
use std::collections::BTreeMap;

/// What the data plane reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maps {
    pub flows: BTreeMap<FlowKey, flow::Flow>,
    pub next_hops: BTreeMap<u32, flow::NextHop>,
    pub labels: BTreeMap<u32, LabelEntry>,
    pub rulesets: BTreeMap<u64, RuleSetRef>,
    pub rules: BTreeMap<u32, RuleRow>,
    pub peers: BTreeMap<PeerKey, probe::Peer>,
    pub seals: BTreeMap<u64, SealRow>,
    pub traced: BTreeMap<u64, Wanted>,
    pub meters: BTreeMap<u16, share::Meter>,
    /// Written by the protector alone; what is not there is [`flow::PRIMARY`].
    pub groups: BTreeMap<u32, u32>,
}

impl Maps {
    /// Everything of the fabric that is in them.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(self.flows.values().map(|flow| format!("flow of c{}", flow.circuit)));
        left.extend(self.labels.values().map(|label| format!("label {} of c{}", label.label, label.circuit)));
        left.extend(self.rulesets.keys().map(|circuit| format!("rules of c{circuit}")));
        left.extend(self.next_hops.keys().map(|slot| format!("next hop {slot}")));
        left.extend(self.seals.keys().map(|circuit| format!("the encryption of c{circuit}")));
        left.extend(self.peers.keys().map(|peer| format!("peer {}", abi::ip(&peer.remote))));
        left.extend(self.meters.keys().map(|slot| format!("meter {slot}")));
        left.extend(self.traced.keys().map(|circuit| format!("the trace of c{circuit}")));
        let turned = self.groups.iter().filter(|(_, way)| **way != flow::PRIMARY);
        left.extend(turned.map(|(group, _)| format!("group {group} on its backup")));
        left
    }
}
