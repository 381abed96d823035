//! What goes wrong: streams break, agents and controllers die, kernels refuse, namespaces vanish.
use super::{Event, Life, World};
use crate::host::Host;
use agent_core::kernel_state::{EntryKey, HostSide};
use proto_model::NodeName;
use proto_model::resource::Attachment;

/// How bad a world is.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    /// Things that go wrong at most, in all.
    pub nuisances: u32,
    /// Workloads, in all.
    pub population: usize,
    /// Requests of the client, in all.
    pub requests: u32,
    /// Of 1,000 messages, so many take up to 3 s.
    pub slow_per_mille: u64,
    /// Of 1,000 inputs, so many are the controller's last.
    pub controller_dies_per_mille: u64,
    /// Whether kernels refuse steps and lose interfaces and namespaces.
    pub kernels: bool,
    /// Whether protectors probe; without it they only lose carriers.
    pub probes: bool,
    /// Keeps a log of everything that happens.
    pub talkative: bool,
}

/// What has to be undone.
#[derive(Clone, Debug)]
pub(super) enum Nuisance {
    Namespace { node: NodeName, attachment: Attachment },
    Refusals(NodeName),
}

impl World {
    pub(super) fn nuisance(&mut self) {
        if self.mood.nuisances == 0 {
            return;
        }
        self.mood.nuisances -= 1;
        self.touched = true;
        let nodes: Vec<NodeName> = self.sites.keys().cloned().collect();
        let Some(node) = self.chance.pick(&nodes).cloned() else { return };
        let kinds = if self.mood.kernels { 8 } else { 5 };
        match self.chance.below(kinds) {
            4 => self.lose_carrier(&node),
            0 | 1 => self.hang_up(&node),
            2 => self.kill(&node),
            3 => {
                if self.controller.is_some() {
                    self.controller_dies("as its hour has come");
                }
            }
            5 => self.refuse(&node),
            6 => self.take_interface(&node),
            _ => self.take_namespace(&node),
        }
        if self.mood.nuisances > 0 {
            self.soon(4_000, Event::Nuisance);
        }
    }

    fn kill(&mut self, node: &NodeName) {
        self.hang_up(node);
        let Some(site) = self.sites.get_mut(node) else { return };
        match std::mem::replace(&mut site.life, Life::Between) {
            Life::Alive(host) => site.life = Life::Dead(Host::crash(host)),
            other => site.life = other,
        }
        self.queue.retain(|_, event| !matches!(event, Event::Step(of) if of == node));
        let long = if self.chance.happens(200) { 60_000 } else { 2_000 };
        self.soon(long, Event::Revive(node.clone()));
    }

    /// The kernel refuses some of what it has or shall have.
    fn refuse(&mut self, node: &NodeName) {
        self.disturbed.insert(node.clone());
        let Some(host) = self.sites.get_mut(node).and_then(super::Site::host) else { return };
        let keys: Vec<EntryKey> = host.node().want().into_keys().collect();
        let long = if self.chance.happens(300) { 1_000 } else { 3 };
        for _ in 0..2 {
            if let Some(key) = self.chance.pick(&keys).cloned()
                && let Some(host) = self.sites.get_mut(node).and_then(super::Site::host)
            {
                host.kernel.fail(key, long, "on purpose");
            }
        }
        self.soon(40_000, Event::Undo(Nuisance::Refusals(node.clone())));
    }

    fn take_interface(&mut self, node: &NodeName) {
        let Some(site) = self.sites.get_mut(node) else { return };
        let sides: Vec<HostSide> = site.kernel().interfaces().map(|(_, i)| i.eni.host).collect();
        let Some(side) = self.chance.pick(&sides).cloned() else { return };
        self.disturbed.insert(node.clone());
        site.kernel_mut().remove_interface(&side);
        self.soon(50, Event::Vanished { node: node.clone(), side });
    }

    fn take_namespace(&mut self, node: &NodeName) {
        let here: Vec<_> = self.topology.workloads.iter().filter(|w| w.node == *node).collect();
        let Some(attachment) = self.chance.pick(&here).map(|w| super::client::attachment(&w.name)) else {
            return;
        };
        self.disturbed.insert(node.clone());
        let Some(site) = self.sites.get_mut(node) else { return };
        for side in site.kernel_mut().remove_namespace(&attachment) {
            self.soon(50, Event::Vanished { node: node.clone(), side });
        }
        self.soon(40_000, Event::Undo(Nuisance::Namespace { node: node.clone(), attachment }));
    }

    pub(super) fn undo(&mut self, nuisance: Nuisance) {
        match nuisance {
            Nuisance::Namespace { node, attachment } => {
                if let Some(site) = self.sites.get_mut(&node) {
                    site.kernel_mut().add_namespace(&attachment);
                }
            }
            Nuisance::Refusals(node) => {
                if let Some(site) = self.sites.get_mut(&node) {
                    site.kernel_mut().heal();
                }
            }
        }
    }

    /// From now on nothing goes wrong any more.
    pub fn calm_down(&mut self) {
        self.mood.nuisances = 0;
        self.mood.controller_dies_per_mille = 0;
        self.mood.slow_per_mille = 0;
    }
}
