//! A packet's way through the maps of pretended kernels, as the data plane would take it.
use crate::kernel::PretendedKernel;
use agent_core::abi;
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::label::{self, LabelEntry};
use proto_model::{FabricAddress, NodeName};
use std::collections::BTreeMap;
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
}

impl Map<'_> {
    /// The fate of a packet that a workload sends into a flow.
    pub fn send(&self, from: &NodeName, key: &FlowKey, flow: &Flow) -> Fate {
        let kernel = self.kernels[from];
        if kernel.interface(key.eni).is_none() {
            return Fate::Dropped("its own interface is gone".into());
        }
        match flow.kind {
            Flow::TUNNEL => self.tunnel(from, flow),
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

    fn tunnel(&self, from: &NodeName, flow: &Flow) -> Fate {
        let (mut at, mut slot, mut under) = (from.clone(), flow.target, flow.label);
        for _ in 0..TTL {
            let Some(hop) = self.kernels[&at].maps.next_hops.get(&slot) else {
                return Fate::Dropped(format!("{at} has no next hop {slot}"));
            };
            let (local, remote) = (abi::ip(&hop.local), abi::ip(&hop.remote));
            let Some(next) = self.addresses.get(&remote) else {
                return Fate::Astray(format!("{at} sends to {remote}, which nobody has"));
            };
            let kernel = self.kernels[next];
            let Some(entry) =
                kernel.maps.labels.get(&label::index(under)).filter(|entry| entry.label == under)
            else {
                return Fate::Dropped(format!("{next} does not know label {under}"));
            };
            if (abi::ip(&entry.from), abi::ip(&entry.to)) != (local, remote) {
                return Fate::Dropped(format!("{next} does not take label {under} from {local} at {remote}"));
            }
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
                return deliver(kernel, entry, flow);
            }
            (at, slot, under) = (next.clone(), entry.target, entry.out_label);
        }
        Fate::Astray(format!("a packet of c{} loops", flow.circuit))
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
