//! A pretended kernel: the data plane's maps as bytes, interfaces with indexes, namespaces that can go away.
pub use crate::maps::Maps;
use crate::queues::Queues;
use agent_core::abi::{self, Door, Inner};
use agent_core::kernel_state::{
    Eni, Entry, EntryKey, HostSide, Kernel, KernelState, Peer, Route, Rules, Step,
};
use ebpf_abi::flow::FlowKey;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::rules::RuleRow;
use ebpf_abi::share;
use ebpf_abi::{flow, maps};
use proto_model::FabricAddress;
use proto_model::resource::Attachment;
use std::collections::{BTreeMap, BTreeSet};

/// Index that stands for "wherever the routes lead".
const TOWARDS: u32 = 1;

/// Survives its agents. Refuses what the real one refuses, and notes what the real one would let pass although no agent
/// may do it.
#[derive(Clone, Debug, Default)]
pub struct PretendedKernel {
    pub maps: Maps,
    interfaces: BTreeMap<u32, Interface>,
    namespaces: BTreeSet<String>,
    pub queues: Queues,
    last_index: u32,
    /// Indexes that host sides had last: by them, what is left in the maps of a vanished one can be removed.
    indexes: BTreeMap<HostSide, u32>,
    made_anew: Vec<HostSide>,
    /// Interfaces that need to be put although they are there.
    damaged: BTreeSet<HostSide>,
    faults: BTreeMap<EntryKey, Fault>,
    /// What an agent did that no agent may do.
    pub sins: Vec<String>,
    /// Steps that were asked for.
    pub steps: u64,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub eni: Eni,
    /// With the MTU of each; 0: the interface's.
    pub routes: BTreeMap<FabricAddress, u16>,
}

#[derive(Clone, Debug)]
struct Fault {
    /// How many more times.
    times: u32,
    why: String,
}

impl PretendedKernel {
    pub fn new() -> Self {
        Self { last_index: 10, ..Self::default() }
    }

    pub fn add_namespace(&mut self, attachment: &Attachment) {
        self.namespaces.insert(place(attachment));
    }

    /// The interfaces in it go with it; returns their host sides.
    pub fn remove_namespace(&mut self, attachment: &Attachment) -> Vec<HostSide> {
        self.namespaces.remove(&place(attachment));
        let inside = |interface: &Interface| place(&interface.eni.attachment) == place(attachment);
        let gone: Vec<HostSide> =
            self.interfaces.values().filter(|i| inside(i)).map(|i| i.eni.host).collect();
        self.interfaces.retain(|_, interface| !inside(interface));
        gone
    }

    /// Somebody removed one interface.
    pub fn remove_interface(&mut self, host: &HostSide) -> bool {
        let before = self.interfaces.len();
        self.interfaces.retain(|_, interface| interface.eni.host != *host);
        before != self.interfaces.len()
    }

    /// Something about an interface is not as it was put, and packets pass all the same.
    pub fn damage(&mut self, host: HostSide) {
        self.damaged.insert(host);
    }

    /// The next `times` steps for this key are refused.
    pub fn fail(&mut self, key: EntryKey, times: u32, why: &str) {
        self.faults.insert(key, Fault { times, why: why.to_owned() });
    }

    pub fn heal(&mut self) {
        self.faults.clear();
    }

    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.get(&index)
    }

    pub fn interfaces(&self) -> impl Iterator<Item = (u32, &Interface)> {
        self.interfaces.iter().map(|(index, interface)| (*index, interface))
    }

    pub fn index(&self, host: &HostSide) -> Option<u32> {
        self.interfaces.iter().find(|(_, interface)| interface.eni.host == *host).map(|(index, _)| *index)
    }

    /// Everything of the fabric that is in it, also what no agent sees any more.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.interfaces.values().map(|i| format!("interface {}", i.eni.host.as_str())).collect();
        left.extend(self.maps.leftovers());
        left.extend(self.queues.leftovers());
        left
    }

    fn door(&self, host: &HostSide) -> Option<Door> {
        let ifindex = self.index(host)?;
        let inner = match self.interfaces.get(&ifindex)?.eni.attachment {
            Attachment::Host => Inner::OnHost,
            Attachment::Path(_) | Attachment::Named(_) | Attachment::Process(_) | Attachment::External(_) => {
                Inner::Elsewhere
            }
        };
        Some(Door { ifindex, inner })
    }

    fn host(&self, index: u32) -> Option<HostSide> {
        self.interfaces.get(&index).map(|interface| interface.eni.host)
    }

    fn sin(&mut self, what: String) {
        self.sins.push(what);
    }

    fn put(&mut self, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::NextHop(hop) => {
                self.maps.next_hops.insert(hop.slot, abi::next_hop(hop, TOWARDS));
                bound("NEXT_HOPS", self.maps.next_hops.len(), maps::NEXT_HOPS)
            }
            Entry::Shaper(shaper) => {
                self.queues.put(shaper);
                Ok(())
            }
            Entry::Class(class) => self.queues.put_class(class),
            Entry::Meter(meter) => {
                self.maps.meters.insert(meter.slot, abi::meter(meter));
                bound("METERS", self.maps.meters.len(), share::METERS)
            }
            Entry::Eni(eni) => self.put_eni(eni),
            Entry::Rules(rules) => self.put_rules(rules),
            Entry::Label(label) => {
                let value = abi::label(label, |host| self.door(host)).map_err(|why| why.to_string())?;
                if let Some(slot) = towards(&value)
                    && !self.maps.next_hops.contains_key(&slot)
                {
                    self.sin(format!("label {} leads to the empty slot {slot}", label.label));
                }
                self.maps.labels.insert(label::index(label.label), value);
                Ok(())
            }
            Entry::Seal(seal) => {
                self.maps.seals.insert(seal.circuit, abi::seal(seal));
                bound("SEALS", self.maps.seals.len(), maps::SEALS)
            }
            Entry::Peer(peer) => {
                self.maps.peers.entry(abi::peer(peer)).or_insert(abi::NEW_PEER);
                bound("PEERS", self.maps.peers.len(), maps::PEERS)
            }
            Entry::Trace(trace) => {
                self.maps.traced.insert(trace.circuit, abi::trace(trace, trace.until.0));
                bound("TRACED", self.maps.traced.len(), maps::TRACED)
            }
            Entry::Route(route) => self.put_route(route),
            Entry::Flow(flow) => {
                let (key, value) = abi::flow(flow, |host| self.door(host)).map_err(|why| why.to_string())?;
                for slot in ways(&value) {
                    if !self.maps.next_hops.contains_key(&slot) {
                        self.sin(format!("a flow of c{} leads to the empty slot {slot}", flow.circuit));
                    }
                }
                if !self.maps.rulesets.contains_key(&flow.circuit) {
                    self.sin(format!("a flow of c{} is open without rules", flow.circuit));
                }
                self.maps.flows.insert(key, value);
                bound("FLOWS", self.maps.flows.len(), maps::FLOWS)
            }
        }
    }

    fn put_eni(&mut self, eni: &Eni) -> Result<(), String> {
        let at = place(&eni.attachment);
        if eni.attachment != Attachment::Host && !self.namespaces.contains(&at) {
            return Err(format!("there is no namespace {at}"));
        }
        let twin = |other: &&Interface| {
            other.eni.host != eni.host
                && place(&other.eni.attachment) == at
                && other.eni.interface == eni.interface
        };
        if self.interfaces.values().find(twin).is_some() {
            return Err(format!("an interface {} is in {at} already", eni.interface));
        }
        let present = self.index(&eni.host).and_then(|index| self.interfaces.get_mut(&index));
        if let Some(interface) = present {
            if (Eni { mtu: eni.mtu, ..interface.eni.clone() }) == *eni {
                interface.eni.mtu = eni.mtu;
                self.damaged.remove(&eni.host);
                return Ok(());
            }
            self.check_unbound(&eni.host);
            self.remove_interface(&eni.host);
        }
        self.last_index += 1;
        if let Some(former) = self.indexes.insert(eni.host, self.last_index) {
            self.clear_references(former);
            self.made_anew.push(eni.host);
        }
        self.interfaces.insert(self.last_index, Interface { eni: eni.clone(), routes: BTreeMap::new() });
        Ok(())
    }

    /// An interface that is made again inherits nothing from the one that vanished.
    fn clear_references(&mut self, index: u32) {
        self.maps.labels.retain(|_, label| label.kind == LabelEntry::TRANSIT || label.target != index);
        self.maps.flows.retain(|key, flow| key.eni != index && (flow.leaves_host() || flow.target != index));
    }

    fn put_route(&mut self, route: &Route) -> Result<(), String> {
        let missing = || format!("interface {} is not there", route.host.as_str());
        let index = self.index(&route.host).ok_or_else(missing)?;
        self.interfaces.get_mut(&index).ok_or_else(missing)?.routes.insert(route.to, route.mtu);
        Ok(())
    }

    /// First the rows, where no packet may look; then the value that puts them in force.
    fn put_rules(&mut self, rules: &Rules) -> Result<(), String> {
        let (set, rows) = abi::rules(rules);
        if set.start + set.count > maps::RULES {
            return Err(format!(
                "rows {} to {} are past the table's {}",
                set.start,
                set.start + set.count,
                maps::RULES
            ));
        }
        let changes = |at: u32, row: &RuleRow| self.maps.rules.get(&at) != Some(row);
        let changed: Vec<u32> =
            (set.start..).zip(&rows).filter(|(at, row)| changes(*at, row)).map(|(at, _)| at).collect();
        let read_by = |at: u32| {
            self.maps.rulesets.values().find(|other| (other.start..other.start + other.count).contains(&at))
        };
        let read: Vec<String> = changed
            .iter()
            .filter_map(|at| {
                read_by(*at).map(|other| {
                    format!("row {at}, in force for c{}, was changed for c{}", other.circuit, set.circuit)
                })
            })
            .collect();
        self.sins.extend(read);
        self.maps.rules.extend((set.start..).zip(rows));
        self.maps.rulesets.insert(rules.circuit, set);
        bound("RULESETS", self.maps.rulesets.len(), maps::RULESETS)
    }

    fn remove(&mut self, key: &EntryKey) {
        match key {
            EntryKey::NextHop(slot) => {
                let label = self.maps.labels.values().any(|label| towards(label) == Some(*slot));
                let flow = self.maps.flows.values().any(|flow| ways(flow).contains(slot));
                if label || flow {
                    self.sin(format!("next hop {slot} was removed while something led to it"));
                }
                self.maps.next_hops.remove(slot);
            }
            EntryKey::Shaper(interface) => {
                let sin = self.queues.remove(interface);
                self.sins.extend(sin);
            }
            EntryKey::Class(interface, number) => self.queues.remove_class(interface, *number),
            EntryKey::Meter(slot) => {
                self.maps.meters.remove(slot);
            }
            EntryKey::Eni(host) => {
                self.check_unbound(host);
                self.remove_interface(host);
                self.indexes.remove(host);
            }
            EntryKey::Rules(circuit) => {
                if self.maps.flows.values().any(|flow| flow.circuit == *circuit) {
                    self.sin(format!("the rules of c{circuit} were removed while its gate was open"));
                }
                self.maps.rulesets.remove(circuit);
            }
            EntryKey::Seal(circuit) => {
                let sealed = |l: &&LabelEntry| l.sealed != 0 && l.circuit == *circuit;
                if self.maps.labels.values().any(|label| sealed(&label)) {
                    self.sin(format!("the encryption of c{circuit} was removed while a label needed it"));
                }
                self.maps.seals.remove(circuit);
            }
            EntryKey::Label(index) => {
                self.maps.labels.remove(index);
            }
            EntryKey::Peer(remote, session) => {
                let key = abi::peer(&Peer { remote: *remote, session: *session });
                self.maps.peers.remove(&key);
            }
            EntryKey::Trace(circuit) => {
                self.maps.traced.remove(circuit);
            }
            EntryKey::Route(host, to) => {
                let index = self.index(host);
                if let Some(interface) = index.and_then(|index| self.interfaces.get_mut(&index)) {
                    interface.routes.remove(to);
                }
            }
            EntryKey::Flow(host, remote) => {
                if let Some(eni) = self.indexes.get(host) {
                    self.maps.flows.remove(&FlowKey { eni: *eni, remote: abi::address(*remote) });
                }
            }
        }
    }

    fn check_unbound(&mut self, host: &HostSide) {
        let Some(index) = self.index(host) else { return };
        let label = self.maps.labels.values().find(|l| l.kind != LabelEntry::TRANSIT && l.target == index);
        let of_flow = |(key, flow): &(&FlowKey, &flow::Flow)| {
            key.eni == index || (!flow.leaves_host() && flow.target == index)
        };
        let bound = label.map(|l| format!("label {}", l.label));
        let bound = bound.or_else(|| {
            self.maps.flows.iter().find(of_flow).map(|(_, f)| format!("a flow of c{}", f.circuit))
        });
        if let Some(bound) = bound {
            self.sin(format!("interface {} was removed while {bound} referred to it", host.as_str()));
        }
    }
}

/// The slots of `NEXT_HOPS` that a flow sends to.
fn ways(flow: &flow::Flow) -> Vec<u32> {
    match (flow.leaves_host(), flow.group) {
        (true, 0) => vec![flow.target],
        (true, _) => vec![flow.target, flow.backup_target],
        (false, _) => Vec::new(),
    }
}

/// The slot of `NEXT_HOPS` to which packets of a label go, or answers to the probes under it.
fn towards(label: &LabelEntry) -> Option<u32> {
    match label.kind {
        LabelEntry::TRANSIT => Some(label.target),
        _ => (label.out_label != 0).then_some(label.back),
    }
}

impl Kernel for PretendedKernel {
    fn perform(&mut self, step: &Step) -> Result<(), String> {
        self.steps += 1;
        if let Some(fault) = self.faults.get_mut(&step.key())
            && fault.times > 0
        {
            fault.times -= 1;
            return Err(fault.why.clone());
        }
        match step {
            Step::Put(entry) => self.put(entry),
            Step::Remove(key) => {
                self.remove(key);
                Ok(())
            }
        }
    }

    fn made_anew(&mut self) -> Vec<HostSide> {
        std::mem::take(&mut self.made_anew)
    }

    /// What refers to an interface that is gone says nothing any more, so it is cleared away.
    fn observe(&mut self) -> Result<KernelState, String> {
        let there: BTreeSet<u32> = self.interfaces.keys().copied().collect();
        self.maps
            .labels
            .retain(|_, label| label.kind == LabelEntry::TRANSIT || there.contains(&label.target));
        self.maps.flows.retain(|key, flow| {
            there.contains(&key.eni) && (flow.leaves_host() || there.contains(&flow.target))
        });
        let mut entries: Vec<Entry> = Vec::new();
        for (slot, hop) in &self.maps.next_hops {
            entries.extend(abi::read_next_hop(*slot, hop).map(Entry::NextHop));
        }
        for interface in self.interfaces.values() {
            let host = &interface.eni.host;
            let mtu = if self.damaged.contains(host) { 0 } else { interface.eni.mtu };
            entries.push(Entry::Eni(Eni { mtu, ..interface.eni.clone() }));
            entries.extend(
                interface
                    .routes
                    .iter()
                    .map(|(to, mtu)| Entry::Route(Route { host: *host, to: *to, mtu: *mtu })),
            );
        }
        for set in self.maps.rulesets.values() {
            let rows: Vec<RuleRow> = (set.start..set.start + set.count)
                .filter_map(|at| self.maps.rules.get(&at).copied())
                .collect();
            entries.push(Entry::Rules(abi::read_rules(set, &rows).map_err(|why| why.to_string())?));
        }
        entries.extend(self.maps.seals.values().map(|row| Entry::Seal(abi::read_seal(row))));
        for (circuit, wanted) in &self.maps.traced {
            entries.push(Entry::Trace(abi::read_trace(*circuit, wanted)));
        }
        entries.extend(self.queues.entries());
        for (slot, meter) in &self.maps.meters {
            entries.extend(abi::read_meter(*slot, meter).map(Entry::Meter));
        }
        for key in self.maps.peers.keys() {
            entries.push(Entry::Peer(abi::read_peer(key).map_err(|why| why.to_string())?));
        }
        for label in self.maps.labels.values() {
            entries.extend(
                abi::read_label(label, |i| self.host(i)).map_err(|why| why.to_string())?.map(Entry::Label),
            );
        }
        for (key, flow) in &self.maps.flows {
            entries.push(Entry::Flow(
                abi::read_flow(key, flow, |i| self.host(i)).map_err(|why| why.to_string())?,
            ));
        }
        Ok(entries.into_iter().map(|entry| (entry.key(), entry)).collect())
    }
}

fn bound(map: &str, have: usize, most: u32) -> Result<(), String> {
    match have > most as usize {
        true => Err(format!("{map} has {most} entries and is full")),
        false => Ok(()),
    }
}

/// An attachment as a name.
pub fn place(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Path(path) => path.clone(),
        Attachment::Named(name) => format!("/run/netns/{name}"),
        Attachment::Process(pid) => format!("/proc/{pid}/ns/net"),
        Attachment::Host => "the host".into(),
        Attachment::External(ip) => format!("external {ip}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn a_change_of_rows_in_force_is_a_sin() {
        let row = contract::row(1);
        let rules = |circuit, start| {
            Step::Put(Entry::Rules(Rules { circuit, version: 1, start, rows: vec![row.clone()] }))
        };
        let mut kernel = PretendedKernel::new();
        kernel.perform(&rules(1, 5)).expect("room");
        let other = Rules { circuit: 2, version: 1, start: 5, rows: vec![contract::row(2)] };
        kernel.perform(&Step::Put(Entry::Rules(other))).expect("the real one does not look either");
        assert_eq!(kernel.sins, ["row 5, in force for c1, was changed for c2"]);
    }

    #[test]
    fn a_fault_lasts_as_long_as_it_was_told() {
        let mut kernel = PretendedKernel::new();
        kernel.fail(EntryKey::NextHop(1), 2, "no memory");
        let step = Step::Remove(EntryKey::NextHop(1));
        let results: Vec<_> = (0..3).map(|_| kernel.perform(&step)).collect();
        assert_eq!(results, [Err("no memory".into()), Err("no memory".into()), Ok(())]);
    }
}
