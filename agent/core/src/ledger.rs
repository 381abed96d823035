//! For every kernel entry: what is wanted, and what the kernel was last known to have.
use crate::bounds::{ENIS, FLOWS, RULESETS, Refused};
use crate::groups::Groups;
use crate::kernel_state::{Entry, EntryKey, Flow, HostSide, Label, LabelAction, Target};
use crate::lower::needs;
use crate::packed::Packed;
use crate::rows::Rows;
use proto_model::Timestamp;
use proto_model::desired::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All cells. An entry that is wanted and there is stored once: both sides share it.
#[derive(Debug)]
pub(crate) struct Ledger {
    cells: Packed<EntryKey, Cell>,
    pub(crate) rows: Rows,
    pub(crate) groups: Groups,
    /// Labels and flows that lead to an interface, wanted or there, and how often they are held.
    towards: BTreeMap<HostSide, BTreeMap<EntryKey, u32>>,
    wanted: Wanted,
}

#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) want: Option<Arc<Entry>>,
    /// The object that wants it, or wanted it last. Next hops have many.
    pub(crate) owner: Option<ObjectKey>,
    pub(crate) have: Have,
    /// How many entries that may be in the kernel need this one.
    pub(crate) leaning: u32,
}

/// What the kernel has under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Have {
    #[default]
    Absent,
    Is(Arc<Entry>),
    /// A step failed, or an interface vanished under it: perhaps still this, perhaps nothing.
    Unsure(Option<Arc<Entry>>),
}

/// How many of the bounded kinds are wanted.
#[derive(Debug, Default)]
struct Wanted {
    enis: usize,
    flows: usize,
    rulesets: usize,
}

impl Have {
    fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Absent | Self::Unsure(None) => None,
            Self::Is(entry) | Self::Unsure(Some(entry)) => Some(entry),
        }
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            cells: Packed::default(),
            rows: Rows::new(),
            groups: Groups::default(),
            towards: BTreeMap::new(),
            wanted: Wanted::default(),
        }
    }

    pub(crate) fn get(&self, key: &EntryKey) -> Option<&Cell> {
        self.cells.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &EntryKey> {
        self.cells.keys()
    }

    /// Everything that refers to an interface: its routes and flows, labels that deliver to it, flows from others to
    /// it.
    pub(crate) fn bound_to(&self, host: &HostSide) -> BTreeSet<EntryKey> {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
        let least = proto_model::FabricAddress { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED };
        let routes = self.cells.range(EntryKey::Route(*host, least)..);
        let flows = self.cells.range(EntryKey::Flow(*host, IpAddr::V4(Ipv4Addr::UNSPECIFIED))..);
        let own_route = |key: &&EntryKey| matches!(key, EntryKey::Route(on, _) if on == host);
        let own_flow = |key: &&EntryKey| matches!(key, EntryKey::Flow(on, _) if on == host);
        let routes = routes.map(|(key, _)| key).take_while(own_route);
        let flows = flows.map(|(key, _)| key).take_while(own_flow);
        let towards = self.towards.get(host).into_iter().flat_map(BTreeMap::keys);
        routes.chain(flows).chain(towards).cloned().collect()
    }

    /// Whether these entries could be wanted by this object, beside all that is wanted already.
    pub(crate) fn check(&self, owner: &ObjectKey, entries: &[Entry]) -> Result<(), Refused> {
        for entry in entries {
            let key = entry.key();
            let taken =
                self.cells.get(&key).filter(|cell| cell.want.is_some()).and_then(|cell| cell.owner.as_ref());
            if let Some(by) = taken.filter(|by| *by != owner) {
                return Err(Refused::Taken { entry: describe(&key), by: by.clone() });
            }
        }
        let flows = entries.iter().filter(|entry| matches!(entry, Entry::Flow(_))).count();
        let one = |found: bool| usize::from(found);
        let enis = one(entries.iter().any(|entry| matches!(entry, Entry::Eni(_))));
        let rulesets = one(entries.iter().any(|entry| matches!(entry, Entry::Rules(_))));
        match () {
            () if self.wanted.enis + enis > ENIS => Err(Refused::Enis),
            () if self.wanted.flows + flows > FLOWS => {
                Err(Refused::Flows { have: self.wanted.flows, need: flows })
            }
            () if self.wanted.rulesets + rulesets > RULESETS => Err(Refused::RuleSets),
            () => Ok(()),
        }
    }

    pub(crate) fn want(&mut self, entry: Entry, owner: Option<ObjectKey>, now: Timestamp) {
        let key = entry.key();
        self.hold(&entry);
        self.unwant(&key, now);
        self.count(&key, 1);
        let cell = self.cells.of(key);
        let there = cell.have.entry().filter(|have| ***have == entry).cloned();
        cell.want = Some(there.unwrap_or_else(|| Arc::new(entry)));
        cell.owner = owner.or(cell.owner.take());
    }

    pub(crate) fn unwant(&mut self, key: &EntryKey, now: Timestamp) {
        let Some(want) = self.cells.get_mut(key).and_then(|cell| cell.want.take()) else { return };
        self.count(key, -1);
        self.let_go(&want, now);
        self.prune(key);
    }

    /// What the kernel has now; keys that nothing leans on any more are returned.
    pub(crate) fn set_have(&mut self, key: &EntryKey, have: Have, now: Timestamp) -> Vec<EntryKey> {
        let new = have.entry().cloned();
        if let Some(entry) = &new {
            self.hold(entry);
            for need in needs(entry) {
                self.cells.of(need).leaning += 1;
            }
        }
        let cell = self.cells.of(key.clone());
        let old = std::mem::replace(&mut cell.have, have).entry().cloned();
        let freed = old.map(|entry| self.forget(&entry, now)).unwrap_or_default();
        self.prune(key);
        freed
    }

    fn forget(&mut self, entry: &Entry, now: Timestamp) -> Vec<EntryKey> {
        self.let_go(entry, now);
        let mut freed = Vec::new();
        for need in needs(entry) {
            let Some(cell) = self.cells.get_mut(&need) else { continue };
            cell.leaning -= 1;
            if cell.leaning == 0 {
                self.prune(&need);
                freed.push(need);
            }
        }
        freed
    }

    fn prune(&mut self, key: &EntryKey) {
        let idle = |cell: &Cell| cell.want.is_none() && cell.have == Have::Absent && cell.leaning == 0;
        if self.cells.get(key).is_some_and(idle) {
            self.cells.remove(key);
        }
    }

    /// Something speaks of this entry: it is wanted, there, or being written.
    pub(crate) fn hold(&mut self, entry: &Entry) {
        if let Entry::Rules(rules) = entry {
            self.rows.hold(rules.start, length(rules.rows.len()));
        }
        if let Some(group) = turns_with(entry) {
            self.groups.hold(group);
        }
        if let Some(host) = leads_to(entry) {
            *self.towards.entry(*host).or_default().entry(entry.key()).or_default() += 1;
        }
    }

    /// The opposite of [`Self::hold`].
    pub(crate) fn let_go(&mut self, entry: &Entry, now: Timestamp) {
        if let Entry::Rules(rules) = entry {
            self.rows.release(rules.start, length(rules.rows.len()), now);
        }
        if let Some(group) = turns_with(entry) {
            self.groups.let_go(group);
        }
        let Some((host, keys)) = leads_to(entry).and_then(|host| Some((host, self.towards.get_mut(host)?)))
        else {
            return;
        };
        let key = entry.key();
        if let Some(count) = keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(&key);
            }
        }
        if keys.is_empty() {
            self.towards.remove(host);
        }
    }

    fn count(&mut self, key: &EntryKey, by: isize) {
        let counter = match key {
            EntryKey::Eni(_) => &mut self.wanted.enis,
            EntryKey::Flow(..) => &mut self.wanted.flows,
            EntryKey::Rules(_) => &mut self.wanted.rulesets,
            EntryKey::NextHop(_)
            | EntryKey::Seal(_)
            | EntryKey::Shaper(_)
            | EntryKey::Meter(_)
            | EntryKey::Class(..)
            | EntryKey::Label(_)
            | EntryKey::Peer(..)
            | EntryKey::Trace(_)
            | EntryKey::Route(..) => return,
        };
        *counter = counter.saturating_add_signed(by);
    }
}

/// The group of a flow with two ways.
fn turns_with(entry: &Entry) -> Option<u32> {
    match entry {
        Entry::Flow(Flow { target: Target::NextHop { backup: Some(backup), .. }, .. }) => Some(backup.group),
        Entry::Flow(_)
        | Entry::Label(_)
        | Entry::NextHop(_)
        | Entry::Shaper(_)
        | Entry::Meter(_)
        | Entry::Class(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Seal(_)
        | Entry::Peer(_)
        | Entry::Trace(_)
        | Entry::Route(_) => None,
    }
}

/// The interface that an entry of another key leads to.
fn leads_to(entry: &Entry) -> Option<&HostSide> {
    match entry {
        Entry::Label(Label { action: LabelAction::Deliver { eni, .. }, .. }) => Some(eni),
        Entry::Flow(Flow { target: Target::Eni(far), .. }) => Some(far),
        Entry::Label(_)
        | Entry::Flow(_)
        | Entry::NextHop(_)
        | Entry::Shaper(_)
        | Entry::Meter(_)
        | Entry::Class(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Seal(_)
        | Entry::Peer(_)
        | Entry::Trace(_)
        | Entry::Route(_) => None,
    }
}

/// Rule sets have at most 256 rows.
fn length(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// An entry by its key, for people.
pub(crate) fn describe(key: &EntryKey) -> String {
    match key {
        EntryKey::NextHop(slot) => format!("next hop {slot}"),
        EntryKey::Shaper(interface) => format!("the queues of {interface}"),
        EntryKey::Meter(slot) => format!("meter {slot}"),
        EntryKey::Class(interface, number) => format!("class {number} of {interface}"),
        EntryKey::Eni(host) => format!("interface {}", host.as_str()),
        EntryKey::Rules(circuit) => format!("the rule set of c{circuit}"),
        EntryKey::Seal(circuit) => format!("the encryption of c{circuit}"),
        EntryKey::Label(index) => format!("label index {index}"),
        EntryKey::Peer(remote, session) => format!("session {session} of {remote}"),
        EntryKey::Trace(circuit) => format!("the trace of c{circuit}"),
        EntryKey::Route(host, to) => format!("the route to {} at {}", to.v4, host.as_str()),
        EntryKey::Flow(host, to) => format!("the flow to {to} at {}", host.as_str()),
    }
}
