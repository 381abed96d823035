//! Second ways: which group each protected end is in, what the protector has to know, what the controller is told.
use super::Node;
use crate::groups::End;
use crate::io::Output;
use crate::kernel_state::{Backup, Entry, EntryKey, Flow, HostSide, KernelState, Label, LabelAction, Target};
use crate::ledger::Have;
use crate::lower::Ways;
use crate::protect::limits::VOICES;
use crate::protect::{Guard, Order, Session};
use ebpf_abi::Direction;
use proto_model::desired::{self, Endpoint, Gate, Leg, NextHop, Object, ObjectKey, Receive, Side};
use proto_model::report::Say;
use proto_model::{CircuitId, FabricAddress, PathId, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Node {
    /// Puts a protected end into its group, and offers it as one to probe its paths as, once its gate is open.
    pub(super) fn protect(
        &mut self,
        end: &Endpoint,
        own: &FabricAddress,
        ways: Ways,
        now: Timestamp,
    ) -> Ways {
        let Some(two) = TwoWays::of(end) else { return ways };
        let seen = self.seen_group(two, own, end, ways);
        let who = (end.circuit, end.side);
        let Some(group) = self.ledger.groups.join(who, two.guard(), seen, now) else { return ways };
        match end.gate {
            Gate::Closed => {}
            Gate::Open => {
                let far = IpAddr::V4(end.remote.v4);
                two.sessions().into_iter().for_each(|(path, s)| self.orders.offer(path, far, who, s));
            }
        }
        Ways { group, ..ways }
    }

    /// The opposite of [`Self::protect`], and for neighbours.
    pub(super) fn unprotect(&mut self, key: &ObjectKey) {
        match self.objects.get(key) {
            Some(Object::Endpoint(end)) => {
                let who: End = (end.circuit, end.side);
                if let Some(two) = TwoWays::of(end) {
                    let far = IpAddr::V4(end.remote.v4);
                    two.sessions().into_iter().for_each(|(path, _)| self.orders.withdraw(path, far, who));
                    self.ledger.groups.leave(who);
                }
            }
            Some(Object::Peer(peer)) => self.orders.remove_peer(&peer.link),
            Some(
                Object::Eni(_) | Object::Hop(_) | Object::Rules(_) | Object::Trace(_) | Object::Policy(_),
            )
            | None => {}
        }
    }

    /// Protects what the kernel forwards before any controller has spoken: a restart must not cost the second way.
    pub(super) fn assume(&mut self, seen: Vec<Seen>) {
        let mut guards = vec![Order::InUse(self.ledger.groups.in_use())];
        for Seen { group, ends } in seen {
            let [primary, backup] = [1, 0].map(|way| PathId(u64::MAX - 2 * u64::from(group) - way));
            let guard = Guard { primary, backup, max_rtt: None, max_loss: None };
            let Some(order) = self.ledger.groups.assume(group, guard) else { continue };
            for (far, end, sessions) in ends {
                for (path, session) in [primary, backup].into_iter().zip(sessions) {
                    self.orders.offer(path, far, end, session);
                    self.assumed.push((path, far, end));
                }
            }
            guards.push(order);
        }
        let orders = self.orders.take().into_iter().chain(guards).collect();
        self.outputs.push_back(Output::Protect(orders));
    }

    /// From now on the controller's words count.
    pub(super) fn stop_assuming(&mut self) {
        for (path, far, end) in std::mem::take(&mut self.assumed) {
            self.orders.withdraw(path, far, end);
        }
    }

    /// Tells the protector and the controller what changed for them.
    pub(super) fn order(&mut self, now: Timestamp) {
        let mut orders: Vec<Order> = self.orders.take();
        orders.extend(self.ledger.groups.orders(now));
        if !orders.is_empty() {
            self.outputs.push_back(Output::Protect(orders));
        }
        match self.uplink.synced() {
            Some((session, _)) => {
                let switches = self.ledger.groups.switches(now);
                let say = |switches| Output::Say { session, say: Say::Switched(switches) };
                self.outputs.extend(switches.into_iter().map(say));
            }
            None => self.ledger.groups.end(),
        }
    }

    /// The group that the kernel's flow of this end has, if the flow leads where it shall.
    fn seen_group(&self, two: TwoWays<'_>, own: &FabricAddress, end: &Endpoint, ways: Ways) -> Option<u32> {
        let key = EntryKey::Flow(HostSide::of(own), end.remote.v4.into());
        let Have::Is(have) = &self.ledger.get(&key)?.have else { return None };
        let Entry::Flow(Flow { circuit, target: Target::NextHop { slot, label, backup }, .. }) = &**have
        else {
            return None;
        };
        let Backup { slot: second, label: under, group } = (*backup)?;
        let there = (*circuit, *slot, *label, second, under);
        let labels = (two.send.label.value(), two.backup.send.label.value());
        (there == (end.circuit.0, ways.primary, labels.0, ways.backup, labels.1)).then_some(group)
    }
}

/// A group that flows in the kernel use, and some of the ends in it.
pub(super) struct Seen {
    group: u32,
    /// The far resource, the end, and how its ways are probed as this end.
    ends: Vec<(IpAddr, End, [Session; 2])>,
}

/// The kernel has no names for paths, so the ends of a group stand for its two. The label under which answers come is the
/// one whose own answers go the same way; where there are two such (one of them is about to go), nobody here knows under
/// which of them the far end answers, and the end is left out.
pub(super) fn seen(state: &KernelState) -> Vec<Seen> {
    let mut receives: BTreeMap<(u64, u32, u32), Option<u32>> = BTreeMap::new();
    for entry in state.values() {
        if let Entry::Label(Label { label, circuit, action: LabelAction::Deliver { back, .. }, .. }) = entry {
            let of = receives.entry((*circuit, back.next_hop, back.label));
            of.and_modify(|one| *one = None).or_insert(Some(*label));
        }
    }
    let session = |circuit: u64, slot: u32, label: u32| {
        let Entry::NextHop(hop) = state.get(&EntryKey::NextHop(slot))? else { return None };
        let receive = (*receives.get(&(circuit, slot, label))?)?;
        Some(Session { local: hop.local, remote: hop.remote, label, receive })
    };
    let mut by_group: BTreeMap<u32, Seen> = BTreeMap::new();
    for entry in state.values() {
        let Entry::Flow(flow) = entry else { continue };
        let Target::NextHop { slot, label, backup: Some(backup) } = flow.target else { continue };
        let first = session(flow.circuit, slot, label);
        let second = session(flow.circuit, backup.slot, backup.label);
        if let (Some(first), Some(second)) = (first, second) {
            let side = match flow.direction {
                Direction::Forward => Side::Source,
                Direction::Reverse => Side::Destination,
            };
            let (group, end) = (backup.group, (CircuitId(flow.circuit), side));
            let seen = by_group.entry(group).or_insert_with(|| Seen { group, ends: Vec::new() });
            if seen.ends.len() < VOICES && seen.ends.iter().all(|(_, known, _)| *known != end) {
                seen.ends.push((flow.remote, end, [first, second]));
            }
        }
    }
    by_group.into_values().collect()
}

/// The tunnels of an end that has two.
#[derive(Clone, Copy)]
struct TwoWays<'a> {
    path: PathId,
    send: &'a NextHop,
    receive: &'a Receive,
    backup: &'a desired::Backup,
}

impl<'a> TwoWays<'a> {
    fn of(end: &'a Endpoint) -> Option<Self> {
        let Leg::Tunnel { path, send, receive, backup: Some(backup) } = &end.leg else { return None };
        let two = Self { path: *path, send, receive: receive.first()?, backup };
        (*path != backup.path).then_some(two)
    }

    fn guard(self) -> Guard {
        let desired::Backup { path, max_rtt, max_loss, .. } = *self.backup;
        Guard { primary: self.path, backup: path, max_rtt, max_loss }
    }

    fn sessions(self) -> [(PathId, Session); 2] {
        let second = (self.backup.path, session(&self.backup.send, &self.backup.receive));
        [(self.path, session(self.send, self.receive)), second]
    }
}

fn session(send: &NextHop, receive: &Receive) -> Session {
    Session {
        local: send.local,
        remote: send.remote,
        label: send.label.value(),
        receive: receive.label.value(),
    }
}
