//! The protectors of a world: what they wish is done, and their probes go the ways that packets would.
use super::walk::{Fate, Map};
use super::{Event, Life, Site, World};
use crate::host::Host;
use agent_core::io::Input;
use agent_core::protect::{Answer, Defect, Event as Happened, Key, Session, Told, Wish};
use ebpf_abi::flow;
use proto_model::report::Way;
use proto_model::{NodeName, PathId, Timestamp};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// What a hop takes.
const HOP: Duration = Duration::from_micros(500);

impl World {
    pub(super) fn probes_due(&self, host: &Host) -> Option<Timestamp> {
        host.protector.next_deadline().filter(|_| self.mood.probes)
    }

    /// The next protector that is due runs.
    pub(super) fn probe_due(&mut self, at: Timestamp) {
        let due = self.sites.iter().find(|(_, site)| match &site.life {
            Life::Alive(host) => self.probes_due(host).is_some_and(|due| due <= at),
            Life::Dead(_) | Life::Between => false,
        });
        if let Some(node) = due.map(|(node, _)| node.clone()) {
            self.protect(&node, Happened::Tick);
        }
    }

    /// Something happens to the protector of a host.
    pub(super) fn protect(&mut self, node: &NodeName, event: Happened) {
        let now = self.now;
        let Some(host) = self.sites.get_mut(node).and_then(Site::host) else { return };
        host.protector.handle(event, now);
        let wishes: Vec<Wish> = std::iter::from_fn(|| host.protector.poll_wish()).collect();
        wishes.into_iter().for_each(|wish| self.grant(node, wish));
    }

    fn grant(&mut self, node: &NodeName, wish: Wish) {
        match wish {
            Wish::SendPath { path, session, sequence } => self.send_probe(node, path, session, sequence),
            Wish::SendDefect { session, dead } => self.send_defect(node, &session, dead),
            Wish::SendLink { .. } | Wish::Took(_) => {}
            Wish::Look(group) => {
                let way = match self.sites[node].kernel().maps.groups.get(&group).copied() {
                    Some(flow::BACKUP) => Way::Backup,
                    Some(_) | None => Way::Primary,
                };
                self.protect(node, Happened::Looked { group, way });
            }
            Wish::Turn { group, to } => {
                self.note(|| format!("  {node} turns group {group}: {to:?}"));
                self.touched = true;
                let value = match to {
                    Way::Primary => flow::PRIMARY,
                    Way::Backup => flow::BACKUP,
                };
                if let Some(site) = self.sites.get_mut(node) {
                    site.kernel_mut().maps.groups.insert(group, value);
                }
            }
            Wish::Sweep(kept) => {
                if let Some(site) = self.sites.get_mut(node) {
                    site.kernel_mut().maps.groups.retain(|group, _| kept.contains(group));
                }
            }
            Wish::Tell(Told::Turned { group, to, why, at }) => {
                self.turns.push((node.clone(), to, at));
                self.agent_handles(node, Input::Protector(Told::Turned { group, to, why, at }));
            }
            Wish::Tell(told @ Told::Measured(_)) => self.agent_handles(node, Input::Protector(told)),
        }
    }

    /// The answer comes back if all hosts on both ways have the labels for it.
    fn send_probe(&mut self, node: &NodeName, path: PathId, session: Session, sequence: u32) {
        let kernels = self.sites.iter().map(|(node, site)| (node.clone(), site.kernel())).collect();
        let map = Map { kernels, addresses: &self.addresses, cut: &self.cut };
        let Some((label, hops)) = map.probe(node, &session) else { return };
        if label != session.receive {
            self.fail(&format!(
                "{node} probes {path} and is answered under {label}, not {}",
                session.receive
            ));
        }
        let reflected = self.reflected.entry((node.clone(), label)).or_default();
        *reflected += 1;
        let arrives = self.now.plus(HOP * hops);
        let (there, of) = (self.now.0, Key::Path(label));
        let answer = Answer {
            of,
            sequence,
            reflected: *reflected,
            received: there,
            answered: there,
            arrived: arrives,
        };
        self.at(arrives, Event::Probed { node: node.clone(), answer });
    }

    /// The far end's program tells its agent, if the circuit has two ways there.
    fn send_defect(&mut self, node: &NodeName, session: &Session, dead: PathId) {
        let kernels = self.sites.iter().map(|(node, site)| (node.clone(), site.kernel())).collect();
        let map = Map { kernels, addresses: &self.addresses, cut: &self.cut };
        let Some((far, hops, group, way)) = map.defect(node, session) else { return };
        let defect =
            Defect { group, came: if way == flow::BACKUP { Way::Backup } else { Way::Primary }, dead };
        self.at(self.now.plus(HOP * hops), Event::Defect { node: far, defect });
    }

    /// From now on nothing passes between two hosts, either way; their interfaces do not notice.
    ///
    /// # Panics
    /// When no hosts have these names.
    pub fn cut(&mut self, one: &str, other: &str) {
        let [one, other]: [NodeName; 2] = [one, other].map(|name| name.parse().expect("a name"));
        self.cut.extend([(one.clone(), other.clone()), (other, one)]);
        self.touched = true;
    }

    /// From now on nothing passes between two hosts, and the interface of the first one notices; the other one's is on a
    /// switch that does not say so.
    ///
    /// # Panics
    /// When no hosts have these names.
    pub fn unplug(&mut self, one: &str, other: &str) {
        self.cut(one, other);
        let node: NodeName = one.parse().expect("a name");
        let networks = [format!("{one}-{other}"), format!("{other}-{one}")];
        let underlays = self.sites[&node].underlays.iter();
        let there = underlays.filter(|underlay| networks.contains(&underlay.network.to_string()));
        let locals: Vec<IpAddr> = there.flat_map(|underlay| underlay.addresses.clone()).collect();
        for local in locals {
            self.protect(&node, Happened::Carrier { local, up: false });
        }
    }

    /// Everything passes again.
    pub fn mend(&mut self) {
        self.cut.clear();
        self.touched = true;
    }

    /// The controller is gone and does not come back.
    pub fn lose_controller(&mut self) {
        self.controller_dies("for good");
        self.queue.retain(|_, event| !matches!(event, Event::Restore));
        self.mood.requests = 0;
    }

    /// From now on each packet of an active circuit has to arrive, by the way that its end sends by at that moment.
    pub fn watch_packets(&mut self) {
        self.watching = true;
    }

    pub(super) fn check_sent(&mut self) {
        if !self.watching || self.controller.is_none() {
            return;
        }
        let active: BTreeSet<u64> = self.active().into_iter().map(|circuit| circuit.id.0).collect();
        for (node, (_, flow, way), fate) in self.fates() {
            let sent = active.contains(&flow.circuit) && self.way_of(&node, u32::from(flow.group)) == way;
            if sent && !matches!(fate, Fate::Delivered(_)) {
                self.fail(&format!(
                    "a packet of c{} from {node}, sent by its {way:?}, is lost: {fate:?}",
                    flow.circuit
                ));
            }
        }
    }

    /// The ends of a host turn to their backups and stay there, whatever their protector sees.
    ///
    /// # Panics
    /// When no host has this name.
    pub fn turn_ends(&mut self, node: &str) {
        let node: NodeName = node.parse().expect("a name");
        let flows = self.sites[&node].kernel().maps.flows.values();
        let groups: BTreeSet<u32> =
            flows.map(|flow| u32::from(flow.group)).filter(|group| *group != 0).collect();
        for group in groups {
            if let Some(site) = self.sites.get_mut(&node) {
                site.kernel_mut().maps.groups.insert(group, flow::BACKUP);
            }
            let told = Told::Turned { group, to: Way::Backup, why: "as it was told to".into(), at: self.now };
            self.agent_handles(&node, Input::Protector(told));
        }
        self.touched = true;
    }

    fn way_of(&self, node: &NodeName, group: u32) -> Way {
        match self.sites[node].kernel().maps.groups.get(&group) {
            Some(&flow::BACKUP) => Way::Backup,
            Some(_) | None => Way::Primary,
        }
    }

    /// Whether protectors probe from now on.
    pub fn probe(&mut self, probes: bool) {
        self.mood.probes = probes;
    }

    /// After [`Self::lose_controller`].
    pub fn return_controller(&mut self) {
        self.soon(1, Event::Restore);
    }

    /// That all kernels took so far.
    pub fn steps(&self) -> u64 {
        self.sites.values().map(|site| site.kernel().steps).sum()
    }

    /// Flows that have two ways, and how many of them lead to the other end by the one that they are on now.
    pub fn delivered(&self) -> (usize, usize) {
        let fates = self.fates();
        let in_use = |(node, (_, flow, way), _): &&(NodeName, super::check::Sent, Fate)| {
            flow.group != 0 && self.way_of(node, u32::from(flow.group)) == *way
        };
        let used: Vec<_> = fates.iter().filter(in_use).collect();
        let good = used.iter().filter(|(.., fate)| matches!(fate, Fate::Delivered(_))).count();
        (used.len(), good)
    }

    /// Which host turned a group which way, and when.
    pub fn turns(&self) -> &[(NodeName, Way, Timestamp)] {
        &self.turns
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// One of a host's interfaces is unplugged and plugged in again; only its protector notices.
    pub(super) fn lose_carrier(&mut self, node: &NodeName) {
        let addresses = self.sites[node].underlays.iter().flat_map(|underlay| underlay.addresses.clone());
        let addresses: Vec<IpAddr> = addresses.collect();
        let Some(local) = self.chance.pick(&addresses).copied() else { return };
        for up in [false, true] {
            self.protect(node, Happened::Carrier { local, up });
        }
    }
}
