//! One host of the fabric: everything it was told, everything its kernel has, and what it says and does next.
mod apply;
mod ends;
mod perform;
mod policy;
mod protection;

use crate::diff::Work;
use crate::groups::End;
use crate::io::{ClassDrops, Input, Output};
use crate::kernel_state::{Entry, KernelState, Step};
use crate::ledger::{Have, Ledger};
use crate::objects::Objects;
use crate::orders::Orders;
use crate::protect::Told;
use crate::queued::Queued;
use crate::sample::Sampler;
use crate::shares::{self, Shares};
use crate::slots::Slots;
use crate::status::{Due, Status};
pub use crate::timed::Counts;
use crate::timed::Timed;
use crate::traces::Traces;
use crate::uplink::{Heard, Uplink};
use proto_model::desired::{ObjectKey, Side, Tell};
use proto_model::report::{DropCount, Say, Traffic};
use proto_model::{CircuitId, Generation, PathId, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// All state of an agent. Feed it with [`Node::handle`], then take outputs until there is none; call again with
/// [`Input::Tick`] when [`Node::next_deadline`] has come.
#[derive(Debug)]
pub struct Node {
    phase: Phase,
    uplink: Uplink,
    /// As they hold now; those with times in them, as they were told, are in `timed`.
    objects: Objects,
    timed: Timed,
    /// Circuit ends at each resource here, whether its interface has been told yet or not.
    ends_of: BTreeMap<ResourceId, BTreeSet<(CircuitId, Side)>>,
    /// Circuit ends that the kernel had at the start; empty once a controller has spoken.
    seen_ends: BTreeSet<(CircuitId, Side)>,
    ledger: Ledger,
    slots: Slots,
    shares: Shares,
    work: Work,
    status: Status,
    sampler: Sampler,
    queued: Queued,
    orders: Orders,
    traces: Traces,
    /// Paths that are probed only because the kernel's flows use them.
    assumed: Vec<(PathId, IpAddr, End)>,
    outputs: VecDeque<Output>,
    /// Session and generation that the round under way brings about.
    round: Option<(u64, Generation)>,
    /// Session and generation that has been brought about, except for what failed.
    reached: Option<(u64, Generation)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the kernel.
    Blind,
    /// The kernel forwards as it did before; no controller has told anything since the start, so nothing is touched.
    /// Only neighbours are followed: a next hop that moved would lose every packet until a controller speaks.
    Seen,
    /// A whole has been told: what is not in it is not wanted.
    Led,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    pub fn new() -> Self {
        Self {
            phase: Phase::Blind,
            uplink: Uplink::default(),
            objects: Objects::default(),
            timed: Timed::default(),
            ends_of: BTreeMap::new(),
            seen_ends: BTreeSet::new(),
            ledger: Ledger::new(),
            slots: Slots::new(),
            shares: Shares::default(),
            work: Work::default(),
            status: Status::default(),
            sampler: Sampler::default(),
            queued: Queued::default(),
            orders: Orders::default(),
            traces: Traces::default(),
            assumed: Vec::new(),
            outputs: VecDeque::new(),
            round: None,
            reached: None,
        }
    }

    /// Takes note of what happened at `now`. Before [`Input::Observed`] nothing is noted.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        match (self.phase, input) {
            (Phase::Blind, Input::Observed(state)) => self.observed(state, now),
            (Phase::Blind, _) | (Phase::Seen | Phase::Led, Input::Observed(_)) => return,
            (_, Input::Remembered(objects)) => self.remembered(objects, now),
            (_, Input::Connected { session, hello }) => {
                if self.uplink.connect(session) {
                    self.sampler.end();
                    if self.shares.learn(&hello.underlays) && self.phase == Phase::Led {
                        self.reshape(now);
                    }
                    self.outputs.push_back(Output::Say { session, say: Say::Hello(hello) });
                }
            }
            (_, Input::Disconnected { session }) => {
                self.uplink.disconnect(session);
                if self.uplink.session().is_none() {
                    self.sampler.end();
                }
            }
            (_, Input::Told { session, tell }) => self.told(session, tell, now),
            (_, Input::Performed(results)) => self.performed(results, now),
            (_, Input::Neighbour { local, remote, link }) => {
                if let Some(hop) = self.slots.resolve((local, remote), link) {
                    self.desire(Entry::NextHop(hop), None, now);
                }
            }
            (_, Input::Vanished(host)) => self.vanished(&host, now),
            (_, Input::MadeAnew(host)) => self.doubt_bound(&host, now),
            (_, Input::Counted { traffic, drops, queues, interfaces }) => {
                self.sampler.carried(interfaces);
                self.counted(&traffic, drops, queues, now);
            }
            (_, Input::Dropped(events)) => {
                if let Some(session) = self.uplink.session() {
                    self.outputs.push_back(Output::Say { session, say: Say::Drops(events) });
                }
            }
            (_, Input::Protector(Told::Measured(links))) => self.sampler.measured(links),
            (_, Input::Protector(Told::Turned { group, to, why, at })) => {
                self.ledger.groups.turned(group, to, why, at);
            }
            (_, Input::Rehearsed { session, query, answer }) => {
                if self.uplink.session() == Some(session) {
                    self.outputs.push_back(Output::Say { session, say: Say::Answer { query, answer } });
                }
            }
            (_, Input::Traced(packets)) => {
                if let Some(session) = self.uplink.session() {
                    self.outputs.push_back(Output::Say { session, say: Say::Traced(packets) });
                }
            }
            (_, Input::ClockSet { ahead }) => self.timed.set_clock(ahead),
            (_, Input::Tick) => {}
        }
        self.fall_due(now);
        self.order(now);
        self.advance(now);
    }

    /// The next wish; none: nothing more until something happens.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When a [`Input::Tick`] is needed at the latest.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let retry = self.status.next_due();
        let ends = self.timed.next_due();
        [retry, self.sampler.next_due(), ends, self.traces.next_due()].into_iter().flatten().min()
    }

    /// What ended by itself since the start.
    pub fn ended_so_far(&self) -> Counts {
        self.timed.counts()
    }

    /// What is wanted of the kernel, by key.
    pub fn want(&self) -> KernelState {
        let cells =
            self.ledger.keys().filter_map(|key| self.ledger.get(key)?.want.as_deref().map(|w| (key, w)));
        cells.map(|(key, want)| (key.clone(), want.clone())).collect()
    }

    /// What the kernel is known to have.
    pub fn have(&self) -> KernelState {
        let cells = self.ledger.keys().filter_map(|key| Some((key, self.ledger.get(key)?)));
        let sure = cells.filter_map(|(key, cell)| match &cell.have {
            Have::Is(entry) => Some((key.clone(), Entry::clone(entry))),
            Have::Absent | Have::Unsure(_) => None,
        });
        sure.collect()
    }

    fn observed(&mut self, state: KernelState, now: Timestamp) {
        self.phase = Phase::Seen;
        let seen = protection::seen(&state);
        self.note_ends(&state);
        for (key, entry) in state {
            if let Entry::NextHop(hop) = &entry
                && self.slots.adopt(hop)
            {
                self.outputs.push_back(Output::Watch { local: hop.local, remote: hop.remote });
            }
            if let Some((end, number)) = shares::seen(&entry) {
                self.shares.adopt(end, number);
            }
            if let Entry::Shaper(shaper) = &entry {
                self.shares.keep(shaper);
            }
            self.ledger.set_have(&key, Have::Is(Arc::new(entry)), now);
        }
        self.assume(seen);
    }

    fn counted(
        &mut self,
        traffic: &[(u32, Traffic)],
        mut drops: Vec<DropCount>,
        queues: Vec<ClassDrops>,
        now: Timestamp,
    ) {
        drops.extend(self.queued.count(queues, &self.shares.owners()));
        if let Some((session, _)) = self.uplink.synced()
            && let Some(telemetry) = self.sampler.digest(traffic, drops, now)
        {
            self.outputs.push_back(Output::Say { session, say: Say::Telemetry(telemetry) });
        }
    }

    fn told(&mut self, session: u64, tell: Tell, now: Timestamp) {
        match self.uplink.hear(session, tell) {
            Heard::Whole(objects) => self.apply_whole(objects, now),
            Heard::Changes(changes) => self.apply_changes(changes, now),
            Heard::Question(query, question) => {
                self.outputs.push_back(Output::Rehearse { session, query, question });
            }
            Heard::Gap => self.outputs.push_back(Output::Say { session, say: Say::AskWhole }),
            Heard::Nothing => {}
        }
    }

    fn fall_due(&mut self, now: Timestamp) {
        self.ended(now);
        if self.sampler.is_due(now) {
            self.outputs.push_back(Output::Count);
        }
        let mut again: BTreeSet<ObjectKey> = self.traces.due(now).collect();
        for due in self.status.take_due(now) {
            match due {
                Due::Step(key) => self.work.mark(key),
                Due::Lower(object) => {
                    again.insert(object);
                }
            }
        }
        self.lower_again(again, now);
    }

    /// Asks for the next batch, unless one is under way; says what has been reached.
    fn advance(&mut self, now: Timestamp) {
        while self.phase != Phase::Blind && self.work.flight.is_none() {
            let (steps, left) = self.work.batch(&mut self.ledger);
            self.leave(left, now);
            if !steps.is_empty() {
                self.outputs.push_back(Output::Perform(steps));
                break;
            }
            if self.work.was_complete() {
                self.reached = self.round.take().or(self.reached);
            }
            if self.work.is_idle() {
                self.reached = self.uplink.synced();
                break;
            }
            self.round = self.uplink.synced();
            let left = self.work.begin_round(&self.ledger);
            self.leave(left, now);
        }
        self.report();
    }

    fn report(&mut self) {
        let current = self.uplink.session();
        let Some((session, generation)) = self.reached.filter(|(session, _)| Some(*session) == current)
        else {
            return;
        };
        let reported = self.uplink.reported();
        let news = self.status.has_news() && self.work.is_idle();
        let report = match reported {
            None => self.status.report_whole(generation),
            Some(last) if last != generation || news => self.status.report_news(generation),
            Some(_) => return,
        };
        self.uplink.set_reported(generation);
        let empty = report.failed.is_empty() && report.recovered.is_empty();
        if !(empty && reported == Some(generation)) {
            self.outputs.push_back(Output::Say { session, say: Say::Report(report) });
        }
    }
}

/// Steps as the simulator and the tests count them.
pub fn steps(output: &Output) -> &[Step] {
    match output {
        Output::Perform(steps) => steps,
        Output::Say { .. }
        | Output::Watch { .. }
        | Output::Unwatch { .. }
        | Output::Remember { .. }
        | Output::Protect(_)
        | Output::Rehearse { .. }
        | Output::Count => &[],
    }
}
