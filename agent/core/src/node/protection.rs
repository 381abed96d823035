//! Second ways: which group each protected end is in, what the protector has to know, what the controller is told.
use super::Node;
use crate::groups::End;
use crate::io::Output;
use crate::kernel_state::{Backup, Entry, EntryKey, Flow, HostSide, Target};
use crate::ledger::Have;
use crate::lower::Ways;
use crate::protect::{Guard, Order, Session};
use proto_model::desired::{self, Endpoint, Gate, Leg, NextHop, Object, ObjectKey, Receive};
use proto_model::report::Say;
use proto_model::{FabricAddress, PathId, Timestamp};

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
            Gate::Open => two.sessions().into_iter().for_each(|(path, s)| self.orders.offer(path, who, s)),
        }
        Ways { group, ..ways }
    }

    /// The opposite of [`Self::protect`], and for neighbours.
    pub(super) fn unprotect(&mut self, key: &ObjectKey) {
        match self.objects.get(key) {
            Some(Object::Endpoint(end)) => {
                let who: End = (end.circuit, end.side);
                if let Some(two) = TwoWays::of(end) {
                    two.sessions().into_iter().for_each(|(path, _)| self.orders.withdraw(path, who));
                    self.ledger.groups.leave(who);
                }
            }
            Some(Object::Peer(peer)) => self.orders.remove_peer(&peer.link),
            Some(Object::Eni(_) | Object::Hop(_) | Object::Rules(_)) | None => {}
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
