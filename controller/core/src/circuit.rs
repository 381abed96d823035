//! A circuit's life: placed, opened, suspended, closed; and the index of all of them.
use crate::past::Pasts;
use crate::protection::Protection;
use crate::rate::Rate;
use crate::record::{CircuitRecord, Life, Placed};
use crate::telemetry::Counter;
use proto_model::circuit::{Circuit as Shown, CircuitSpec, CircuitState, Path};
use proto_model::desired::ObjectKey;
use proto_model::plan::Plan;
use proto_model::report::Traffic;
use proto_model::request::{CircuitRef, CircuitView};
use proto_model::rule::{Revert, Rule};
use proto_model::topology::Forecast;
use proto_model::{Bandwidth, CircuitId, CircuitName, Generation, NodeName, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

/// Nodes that have not reported, with the generation that they shall report.
pub type Waiting = BTreeMap<NodeName, Generation>;

#[derive(Clone, Debug)]
pub enum Phase {
    /// The gates are closed until every node has reported.
    Building {
        route: Placed,
        waiting: Waiting,
    },
    /// The ends have been told to open.
    Opening {
        route: Placed,
        waiting: Waiting,
    },
    Active {
        route: Placed,
    },
    Suspended {
        why: String,
    },
    /// Its bandwidth is promised on this path from its start to its end.
    Scheduled {
        path: Path,
    },
    /// Its objects are desired no longer.
    Closing {
        route: Option<Placed>,
        waiting: Waiting,
    },
}

impl Phase {
    /// While objects of it are desired.
    pub fn route(&self) -> Option<&Placed> {
        match self {
            Self::Building { route, .. } | Self::Opening { route, .. } | Self::Active { route } => {
                Some(route)
            }
            Self::Suspended { .. } | Self::Scheduled { .. } | Self::Closing { .. } => None,
        }
    }

    /// For everything but whether it is placed.
    pub fn route_mut(&mut self) -> Option<&mut Placed> {
        match self {
            Self::Building { route, .. } | Self::Opening { route, .. } | Self::Active { route } => {
                Some(route)
            }
            Self::Suspended { .. } | Self::Scheduled { .. } | Self::Closing { .. } => None,
        }
    }

    pub fn opened(&self) -> bool {
        match self {
            Self::Opening { .. } | Self::Active { .. } => true,
            Self::Building { .. }
            | Self::Suspended { .. }
            | Self::Scheduled { .. }
            | Self::Closing { .. } => false,
        }
    }

    pub fn is_closing(&self) -> bool {
        matches!(self, Self::Closing { .. })
    }

    pub fn waiting(&self) -> Option<&Waiting> {
        match self {
            Self::Building { waiting, .. }
            | Self::Opening { waiting, .. }
            | Self::Closing { waiting, .. } => Some(waiting),
            Self::Active { .. } | Self::Suspended { .. } | Self::Scheduled { .. } => None,
        }
    }

    pub fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        match self {
            Self::Building { waiting, .. }
            | Self::Opening { waiting, .. }
            | Self::Closing { waiting, .. } => Some(waiting),
            Self::Active { .. } | Self::Suspended { .. } | Self::Scheduled { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Circuit {
    pub id: CircuitId,
    pub spec: CircuitSpec,
    pub phase: Phase,
    pub rules: Vec<Rule>,
    pub rules_version: u32,
    pub next_rule: u32,
    /// The rules wait for a confirmation; what is in force otherwise, and from when on.
    pub revert: Option<Revert>,
    /// When the last change was taken back because nobody had confirmed it.
    pub reverted: Option<Timestamp>,
    pub created: Timestamp,
    pub since: Timestamp,
    pub decision: Option<Box<Plan>>,
    /// Objects of it that hosts cannot build.
    pub trouble: BTreeMap<(NodeName, ObjectKey), String>,
    /// Hosts of its ends that are given up, and since when they are out of contact.
    pub lost_ends: BTreeMap<NodeName, Timestamp>,
    /// Hosts of its ends that have not reported the present rules.
    pub rules_waiting: Waiting,
    /// Hosts that it was taken off, with the generation without it; some may have reported that since.
    pub leaving: Waiting,
    pub protection: Protection,
    /// What it sends.
    pub rate: Rate,
    /// A better path is being built.
    pub moving: Option<Moving>,
    /// The last time that it left a path for a better one, in this life of the controller.
    pub moved: Option<Moved>,
    /// Decisions about its path, in this life of the controller.
    pub past: Pasts,
    pub at_source: Traffic,
    pub at_destination: Traffic,
    /// What was sent each way when its history was written last.
    pub noted: [Counter; 2],
}

/// On the way to a better path, which is its backup until then.
#[derive(Clone, Debug)]
pub struct Moving {
    pub to: Path,
    /// With the numbers.
    pub why: String,
    pub plan: Box<Plan>,
    pub since: Timestamp,
    /// Counted as the other path's load already, so that not all move there at once.
    pub rate: Bandwidth,
    /// Ends that have not reported the other path; none: its hops do not stand yet.
    pub ends: Option<Waiting>,
    /// Circuits that take what it leaves.
    pub then: Vec<CircuitId>,
    /// What was expected of both paths when it began.
    pub expected: Box<[Vec<Forecast>; 2]>,
}

#[derive(Clone, Debug)]
pub struct Moved {
    pub at: Timestamp,
    pub from: Path,
    pub why: String,
    /// How many times in a row it went back where it had come from.
    pub returns: u32,
}

/// However often a circuit goes to and fro.
const LONGEST_REST: Duration = Duration::from_secs(600);

impl Moved {
    /// How long it stays now: twice as long for each time that it went back.
    pub fn rest(&self, first: Duration) -> Duration {
        first.saturating_mul(1 << self.returns.min(10)).min(LONGEST_REST.max(first))
    }

    fn text(&self) -> String {
        format!("moved here from {} at {}: {}", self.from, self.at, self.why)
    }
}

/// What sets up the end that has no agent, if one has none.
fn commands(route: &Placed) -> Option<Vec<String>> {
    Some(route.external.as_ref()?.commands(route.mtu_of_both()))
}

impl Circuit {
    pub fn record(&self) -> CircuitRecord {
        let life = match &self.phase {
            Phase::Building { route, .. } => Life::Placed { route: route.clone(), opened: false },
            Phase::Opening { route, .. } => Life::Opening { route: route.clone() },
            Phase::Active { route } => Life::Placed { route: route.clone(), opened: true },
            Phase::Suspended { why } => Life::Suspended { why: why.clone() },
            Phase::Scheduled { path } => Life::Scheduled { path: path.clone() },
            Phase::Closing { route, .. } => Life::Closing { route: route.clone() },
        };
        CircuitRecord {
            id: self.id,
            spec: self.spec.clone(),
            life,
            rules: self.rules.clone(),
            rules_version: self.rules_version,
            next_rule: self.next_rule,
            revert: self.revert.clone(),
            reverted: self.reverted,
            created: self.created,
            since: self.since,
            retiring: self.protection.retiring.as_ref().map(|old| old.lane.clone()),
            leaving: self.leaving.keys().cloned().collect(),
        }
    }

    pub fn view(&self) -> CircuitView {
        let names = |waiting: &Waiting| waiting.keys().cloned().collect();
        let state = match &self.phase {
            Phase::Building { waiting, .. } => CircuitState::Building { waiting: names(waiting) },
            Phase::Opening { waiting, .. } => CircuitState::Opening { waiting: names(waiting) },
            Phase::Active { .. } => CircuitState::Active,
            Phase::Suspended { why } => CircuitState::Suspended { why: why.clone() },
            Phase::Scheduled { .. } => CircuitState::Scheduled,
            Phase::Closing { waiting, .. } => CircuitState::Closing { waiting: names(waiting) },
        };
        let route = self.phase.route();
        let circuit = Shown {
            id: self.id,
            spec: self.spec.clone(),
            state,
            path: route.map(|route| &route.path).or(self.scheduled()).cloned(),
            backup: route.and_then(|route| route.second()).map(|lane| lane.path.clone()),
            backup_ready: route.and_then(|route| route.backup.as_ref()).is_some_and(|backup| backup.ready),
            on_backup: self.protection.on_backup.keys().copied().collect(),
            protection: route.map(|route| self.protection.text(route)).unwrap_or_default(),
            external: route.and_then(commands).unwrap_or_default(),
            guarantee: String::new(),
            silence: String::new(),
            moved: self.moved.as_ref().map(Moved::text).unwrap_or_default(),
            mtu: route.map(Placed::mtu_of_both),
            rules: self.rules.clone(),
            rules_version: self.rules_version,
            confirm_by: self.revert.as_ref().map(|revert| revert.at),
            created: self.created,
            since: self.since,
            detail: self.detail(),
        };
        let rules_pending = self.rules_pending().into_iter().collect();
        CircuitView { circuit, rules_pending, at_source: self.at_source, at_destination: self.at_destination }
    }

    /// On which its bandwidth is promised.
    pub fn scheduled(&self) -> Option<&Path> {
        match &self.phase {
            Phase::Scheduled { path } => Some(path),
            Phase::Building { .. }
            | Phase::Opening { .. }
            | Phase::Active { .. }
            | Phase::Suspended { .. }
            | Phase::Closing { .. } => None,
        }
    }

    /// Those that have not reported, and those that cannot.
    pub fn rules_pending(&self) -> BTreeSet<NodeName> {
        let refused = self.trouble.keys().filter(|(_, key)| *key == ObjectKey::Rules(self.id));
        self.rules_waiting.keys().chain(refused.map(|(node, _)| node)).cloned().collect()
    }

    fn detail(&self) -> String {
        if let Phase::Suspended { why } = &self.phase {
            return why.clone();
        }
        self.trouble_text().or_else(|| self.lost_text()).unwrap_or_default()
    }

    /// Which end is lost, and since when.
    pub fn lost_text(&self) -> Option<String> {
        let (node, since) = self.lost_ends.first_key_value()?;
        Some(format!("its end {node} is lost since {since}"))
    }

    /// The first object that a host cannot build, and how many more there are.
    pub fn trouble_text(&self) -> Option<String> {
        let ((node, key), why) = self.trouble.first_key_value()?;
        Some(match self.trouble.len() - 1 {
            0 => format!("{node} cannot build the {key}: {why}"),
            more => format!("{node} cannot build the {key}: {why}; and {more} more"),
        })
    }
}

/// All circuits with their indexes.
#[derive(Clone, Debug, Default)]
pub struct Circuits {
    all: BTreeMap<CircuitId, Circuit>,
    by_name: BTreeMap<CircuitName, CircuitId>,
    /// The ends in order: two circuits between the same two would give one workload two ways to the same address.
    by_pair: BTreeMap<(ResourceId, ResourceId), CircuitId>,
    pub suspended: BTreeSet<CircuitId>,
    pub scheduled: BTreeSet<CircuitId>,
    active: usize,
}

impl Circuits {
    pub fn len(&self) -> usize {
        self.all.len()
    }
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    pub fn active(&self) -> usize {
        self.active
    }
    pub fn get(&self, id: CircuitId) -> Option<&Circuit> {
        self.all.get(&id)
    }
    /// For everything but the phase; see [`Self::enter`].
    pub fn get_mut(&mut self, id: CircuitId) -> Option<&mut Circuit> {
        self.all.get_mut(&id)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Circuit> {
        self.all.values()
    }

    pub fn range(&self, range: (Bound<CircuitId>, Bound<CircuitId>)) -> impl Iterator<Item = CircuitId> {
        self.all.range(range).map(|(id, _)| *id)
    }

    pub fn find(&self, circuit: &CircuitRef) -> Option<CircuitId> {
        match circuit {
            CircuitRef::Id(id) => self.all.contains_key(id).then_some(*id),
            CircuitRef::Name(name) => self.by_name.get(name).copied(),
        }
    }

    /// The circuit that keeps this name from another; one that is being closed does not.
    pub fn holder_of_name(&self, name: &CircuitName) -> Option<&Circuit> {
        self.by_name.get(name).and_then(|id| self.all.get(id)).filter(|circuit| !circuit.phase.is_closing())
    }

    pub fn holder_of_pair(&self, one: &ResourceId, other: &ResourceId) -> Option<&Circuit> {
        let id = self.by_pair.get(&pair(one, other))?;
        self.all.get(id).filter(|circuit| !circuit.phase.is_closing())
    }

    pub fn insert(&mut self, circuit: Circuit) {
        let id = circuit.id;
        if !circuit.phase.is_closing() || self.holder_of_name(&circuit.spec.name).is_none() {
            self.by_name.insert(circuit.spec.name.clone(), id);
        }
        if !circuit.phase.is_closing() {
            self.by_pair.insert(pair(&circuit.spec.source, &circuit.spec.destination), id);
        }
        self.count(&circuit.phase, id, true);
        self.all.insert(id, circuit);
    }

    /// Changes the phase, and what is counted by it.
    pub fn enter(&mut self, id: CircuitId, phase: Phase, now: Timestamp) {
        let Some(circuit) = self.all.get_mut(&id) else { return };
        let old = std::mem::replace(&mut circuit.phase, phase.clone());
        circuit.since = now;
        self.count(&old, id, false);
        self.count(&phase, id, true);
    }

    fn count(&mut self, phase: &Phase, id: CircuitId, enters: bool) {
        match (phase, enters) {
            (Phase::Active { .. }, true) => self.active += 1,
            (Phase::Active { .. }, false) => self.active -= 1,
            (Phase::Suspended { .. }, true) => {
                self.suspended.insert(id);
            }
            (Phase::Suspended { .. }, false) => {
                self.suspended.remove(&id);
            }
            (Phase::Scheduled { .. }, true) => {
                self.scheduled.insert(id);
            }
            (Phase::Scheduled { .. }, false) => {
                self.scheduled.remove(&id);
            }
            (Phase::Building { .. } | Phase::Opening { .. } | Phase::Closing { .. }, _) => {}
        }
    }

    pub fn remove(&mut self, id: CircuitId) -> Option<Circuit> {
        let circuit = self.all.remove(&id)?;
        self.count(&circuit.phase, id, false);
        if self.by_name.get(&circuit.spec.name) == Some(&id) {
            self.by_name.remove(&circuit.spec.name);
        }
        let pair = pair(&circuit.spec.source, &circuit.spec.destination);
        if self.by_pair.get(&pair) == Some(&id) {
            self.by_pair.remove(&pair);
        }
        Some(circuit)
    }
}

fn pair(one: &ResourceId, other: &ResourceId) -> (ResourceId, ResourceId) {
    if one <= other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}
