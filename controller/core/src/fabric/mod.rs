//! Owns all state of a region; everything that happens comes in here, everything that shall happen goes out.
mod advance;
mod agents;
mod allocate;
mod ask;
mod choice;
mod circuits;
mod ends;
mod foresee;
mod insight;
mod kept;
mod keys;
mod learn;
mod leaving;
mod nodes;
mod peers;
mod place;
mod policies;
mod protect;
mod reroute;
mod resources;
mod restore;
mod samples;
mod schedule;
mod seek;
mod series;
mod shortages;
mod silent;
mod standing;
mod step;
mod switches;
mod ticks;
mod together;
mod traces;
mod verdicts;
mod when;
mod why;

#[cfg(test)]
mod checks;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub use crate::settings::Settings;
pub use kept::Kept;
pub use restore::RestoreError;
pub use standing::Counts;

use crate::choice::live::Live;
use crate::circuit::Circuits;
use crate::deadlines::Deadlines;
use crate::forecast::Forecasts;
use crate::io::{Input, Output};
use crate::record::{Counters, IdempotencyRecord, TokenRecord};
use crate::registry::nodes::Node;
use crate::registry::resources::Resources;
use crate::silence::Silences;
use crate::telemetry::Store;
use crate::topology::{Spot, Topology};
use proto_model::request::Request;
use proto_model::{CircuitId, NodeName, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use step::Step;
use traces::Followed;
use why::Journeys;

#[derive(Clone, Debug)]
pub struct Fabric {
    settings: Settings,
    topology: Topology,
    nodes: BTreeMap<NodeName, Node>,
    resources: Resources,
    circuits: Circuits,
    tokens: BTreeMap<[u8; 32], TokenRecord>,
    keys: BTreeMap<String, IdempotencyRecord>,
    /// The same keys, oldest first.
    keys_by_age: BTreeSet<(Timestamp, String)>,
    counters: Counters,
    deadlines: Deadlines,
    /// Nodes without contact for longer than the grace period.
    given_up: BTreeSet<NodeName>,
    /// Circuits to place anew, those with the highest priority first.
    work: BTreeSet<(Reverse<u8>, CircuitId)>,
    /// Circuits with bandwidth by the links that only their backup crosses, those of the least priority first.
    backups: BTreeMap<Spot, BTreeSet<(u8, CircuitId)>>,
    /// Where less is free than a failure may bring, because those whose backups cross it need these now.
    over_booked: BTreeSet<Spot>,
    /// Circuits that lost their backup, in the order of `work`.
    seeking: BTreeSet<(Reverse<u8>, CircuitId)>,
    /// Placed circuits without a disjoint backup that may have one.
    lacking: BTreeSet<CircuitId>,
    /// How many of them are still to be looked at, after which one.
    sweep: usize,
    swept: CircuitId,
    forecasts: Forecasts,
    /// How circuits ran, and the last one that was noted.
    ran: Store<CircuitId>,
    noted: CircuitId,
    /// Number of the bucket of seconds in which the forecasts were asked last.
    foreseen: u64,
    /// The last circuit of which it was looked whether a bound is at risk, and the last one that better paths were sought for.
    looked_at: CircuitId,
    sought: CircuitId,
    /// How circuits choose by cost, the next frame that it is shown, the circuits that may choose another path now, and the last one
    /// of them that was looked at.
    choice: Live,
    next_frame: Option<u64>,
    eager: BTreeSet<CircuitId>,
    preferred: CircuitId,
    standings: standing::Standings,
    silences: Silences,
    /// Circuits over links that fell silent or speak again, until it is looked whether that changes what is said of them.
    doubtful: BTreeSet<CircuitId>,
    /// Packets that somebody wonders about.
    journeys: Journeys,
    /// Circuits whose packets are followed.
    traces: BTreeMap<CircuitId, Followed>,
    started: Timestamp,
    step: Step,
    outputs: VecDeque<Output>,
}

impl Fabric {
    /// Takes in what happened. `now` never goes back.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.topology.advance(now);
        match input {
            Input::Ask { ticket, actor, request: Request::Why(wonder) } => {
                self.why(&actor, ticket, wonder, now)
            }
            Input::Ask { ticket, actor, request } => {
                let answer = self.answer(&actor, request, now);
                self.step.reply(ticket, answer);
            }
            Input::AgentSaid { node, session, key, say } => self.agent_said(&node, session, key, say, now),
            Input::AgentGone { node, session } => self.agent_gone(&node, session, now),
            Input::Tick => self.tick(now),
        }
        self.finish_step();
    }

    /// What shall happen next; ask until there is nothing more. The outputs of one `handle` come in this order:
    /// writes, hang-ups and tells, replies, announcements.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due; none: not before something else happens. May be in the past: at once.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next()
    }
}
