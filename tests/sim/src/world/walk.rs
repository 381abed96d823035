//! A packet's way through the maps of pretended kernels, as the data plane would take it.
use crate::kernel::PretendedKernel;
use agent_core::abi;
use agent_core::protect::Session;
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::probe::came_by;
use proto_model::report::Way;
use proto_model::{FabricAddress, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Hops after which a packet counts as looping: the outer TTL.
const TTL: usize = 64;

/// How a packet ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Into the interface of this resource.
    Delivered(String),
    /// Nobody took it, for this reason.
    Dropped(String),
    /// It came to where it must never come.
    Astray(String),
}

/// All hosts, and who has which underlay address.
#[derive(Debug)]
pub struct Map<'a> {
    pub kernels: BTreeMap<NodeName, &'a PretendedKernel>,
    pub addresses: &'a BTreeMap<IpAddr, NodeName>,
    /// Between these hosts nothing passes.
    pub cut: &'a BTreeSet<(NodeName, NodeName)>,
}

impl Map<'_> {
    /// The fate of a packet that a workload sends into a flow, by one of its ways.
    pub fn send(&self, from: &NodeName, key: &FlowKey, flow: &Flow, way: Way) -> Fate {
        let kernel = self.kernels[from];
        if kernel.interface(key.eni).is_none() {
            return Fate::Dropped("its own interface is gone".into());
        }
        match flow.kind {
            Flow::TUNNEL | Flow::SEALED => self.tunnel(from, flow, way),
            _ => match kernel.interface(flow.target) {
                Some(there) if carries(&there.eni.address, flow.remote) => {
                    Fate::Delivered(there.eni.resource.clone())
                }
                Some(there) => {
                    Fate::Astray(format!("a local flow of c{} leads to {}", flow.circuit, there.eni.resource))
                }
                None => Fate::Dropped("the other interface is gone".into()),
            },
        }
    }

    fn tunnel(&self, from: &NodeName, flow: &Flow, way: Way) -> Fate {
        let (mut slot, mut under) = match way {
            Way::Primary => (flow.target, flow.label),
            Way::Backup => (flow.backup_target, flow.backup_label),
        };
        let mut at = from.clone();
        for _ in 0..TTL {
            let (next, entry) = match self.hop(&at, slot, under) {
                Ok(arrived) => arrived,
                Err(fate) => return fate,
            };
            if entry.circuit != flow.circuit {
                return Fate::Astray(format!(
                    "a packet of c{} from {from} is taken for c{} at {next}",
                    flow.circuit, entry.circuit
                ));
            }
            if entry.direction != flow.direction {
                return Fate::Astray(format!("a packet of c{} goes backwards at {next}", flow.circuit));
            }
            if entry.kind != LabelEntry::TRANSIT {
                return deliver(self.kernels[&next], &entry, flow);
            }
            (at, slot, under) = (next, entry.target, entry.out_label);
        }
        Fate::Astray(format!("a packet of c{} loops", flow.circuit))
    }

    /// The next host, and what it does with the label.
    fn hop(&self, at: &NodeName, slot: u32, under: u32) -> Result<(NodeName, LabelEntry), Fate> {
        let Some(hop) = self.kernels[at].maps.next_hops.get(&slot) else {
            return Err(Fate::Dropped(format!("{at} has no next hop {slot}")));
        };
        self.arrive(at, (abi::ip(&hop.local), abi::ip(&hop.remote)), under)
    }

    fn arrive(
        &self,
        at: &NodeName,
        (local, remote): (IpAddr, IpAddr),
        under: u32,
    ) -> Result<(NodeName, LabelEntry), Fate> {
        let Some(next) = self.addresses.get(&remote) else {
            return Err(Fate::Astray(format!("{at} sends to {remote}, which nobody has")));
        };
        if self.cut.contains(&(at.clone(), next.clone())) {
            return Err(Fate::Dropped(format!("nothing passes from {at} to {next}")));
        }
        let labels = &self.kernels[next].maps.labels;
        let Some(entry) = labels.get(&label::index(under)).filter(|entry| entry.label == under) else {
            return Err(Fate::Dropped(format!("{next} does not know label {under}")));
        };
        if (abi::ip(&entry.from), abi::ip(&entry.to)) != (local, remote) {
            return Err(Fate::Dropped(format!(
                "{next} does not take label {under} from {local} at {remote}"
            )));
        }
        Ok((next.clone(), *entry))
    }

    /// The label under which the answer to a probe comes back to the host that sent it, and the hops of both ways;
    /// none: it does not.
    pub fn probe(&self, from: &NodeName, session: &Session) -> Option<(u32, u32)> {
        let first = self.arrive(from, (session.local, session.remote), session.label).ok()?;
        let (far, entry, there) = self.follow(first)?;
        let answered = self.hop(&far, entry.back, entry.out_label).ok().filter(|_| entry.out_label != 0)?;
        let (home, entry, back) = self.follow(answered)?;
        (home == *from).then_some((entry.label, there + back))
    }

    /// The host that a defect message comes to, after how many hops, and what it is told to its agent with: the group and
    /// the way of the circuit under whose label it came.
    pub fn defect(&self, from: &NodeName, session: &Session) -> Option<(NodeName, u32, u32, u32)> {
        let first = self.arrive(from, (session.local, session.remote), session.label).ok()?;
        let (far, entry, hops) = self.follow(first)?;
        let key = FlowKey { eni: entry.target, remote: ebpf_abi::mapped(entry.remote_v4) };
        let flow = self.kernels[&far].maps.flows.get(&key)?;
        let way = came_by(&entry, flow)?;
        Some((far, hops, u32::from(flow.group), way))
    }

    /// To where it would be delivered.
    fn follow(&self, (mut at, mut entry): (NodeName, LabelEntry)) -> Option<(NodeName, LabelEntry, u32)> {
        for hops in 1..64 {
            if entry.kind != LabelEntry::TRANSIT {
                return Some((at, entry, hops));
            }
            (at, entry) = self.hop(&at, entry.target, entry.out_label).ok()?;
        }
        None
    }
}

fn deliver(kernel: &PretendedKernel, entry: &LabelEntry, flow: &Flow) -> Fate {
    let inner = |v4: [u8; 4], v6: [u8; 16], address: &ebpf_abi::Address| match ebpf_abi::is_mapped(address) {
        true => ebpf_abi::mapped(v4) == *address,
        false => v6 == *address,
    };
    if !inner(entry.remote_v4, entry.remote_v6, &flow.local)
        || !inner(entry.local_v4, entry.local_v6, &flow.remote)
    {
        return Fate::Astray(format!("label {} of c{} expects other addresses", entry.label, entry.circuit));
    }
    match kernel.interface(entry.target) {
        Some(there) if carries(&there.eni.address, flow.remote) => {
            Fate::Delivered(there.eni.resource.clone())
        }
        Some(there) => Fate::Astray(format!(
            "label {} of c{} delivers to {}",
            entry.label, entry.circuit, there.eni.resource
        )),
        None => Fate::Dropped("the interface at its end is gone".into()),
    }
}

fn carries(own: &FabricAddress, address: ebpf_abi::Address) -> bool {
    let ip = abi::ip(&address);
    ip == IpAddr::V4(own.v4) || ip == IpAddr::V6(own.v6)
}
