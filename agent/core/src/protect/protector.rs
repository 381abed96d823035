//! All that the protector of one host knows: what happens goes to the path, link or group that it concerns.
use super::defect;
use super::group::{Decision, Group};
use super::limits::{
    DEFECT_AGAIN, DOWN_MOST, LINK_EVERY, LINKS_AT_FULL_RATE, PATHS_AT_FULL_RATE, PROBE_EVERY, REPORT_EVERY,
    STALL,
};
use super::link::Link;
use super::session::{Health, Path};
use super::timers::Timers;
use super::{Answer, Began, Defect, Event, Guard, Key, Order, Probe, Session, Told, Wish};
use ebpf_abi::label::index;
use proto_model::desired::Peer;
use proto_model::report::Way;
use proto_model::topology::LinkId;
use proto_model::{PathId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Feed it with [`Protector::handle`], then take wishes until there is none; call again with [`Event::Tick`] when
/// [`Protector::next_deadline`] has come. Before each tick, all answers that wait are to be handed over: only a tick
/// judges a probe lost, and what was answered before the protector could look is not lost.
#[derive(Debug, Default)]
pub struct Protector {
    paths: BTreeMap<PathId, Path>,
    links: BTreeMap<LinkId, Link>,
    groups: BTreeMap<u32, Group>,
    /// Whose answers come under which label and from which neighbour.
    by_label: BTreeMap<u32, PathId>,
    by_peer: BTreeMap<(IpAddr, u16), LinkId>,
    by_local: BTreeMap<IpAddr, BTreeSet<PathId>>,
    /// Addresses whose interface has no carrier.
    down: BTreeSet<IpAddr>,
    timers: Timers<Timer>,
    /// When a probe of each path is sent next.
    next: BTreeMap<PathId, Timestamp>,
    /// How long it was not run although it should have been, in all, and until when that has been counted.
    stalled: Duration,
    counted: Timestamp,
    wishes: VecDeque<Wish>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Path(PathId),
    Link(LinkId),
    Group(u32),
    Report,
    /// Far ends are told again, for so many times already.
    Defect(IpAddr, usize),
}

impl Protector {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of what happened at `now`, by a clock that never goes back; switches are told with its time.
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        self.count_stall(now);
        match event {
            Event::Ordered(order) => self.ordered(order, now),
            Event::Looked { group, way } => self.looked(group, way, now),
            Event::Answered(answer) => self.answered(&answer, now),
            Event::Sent { probe, sequence, at } => self.sent(&probe, sequence, at),
            Event::NotSent { probe, sequence } => self.not_sent(probe, sequence, now),
            Event::Carrier { local, up } => self.carrier(local, up, now),
            Event::Defect(defect) => self.told_defect(&defect, now),
            Event::Tick => self.tick(now),
        }
    }

    /// The next wish; none: nothing more until something happens.
    pub fn poll_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    /// When an [`Event::Tick`] is needed at the latest.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first()
    }

    fn count_stall(&mut self, now: Timestamp) {
        if let Some(due) = self.next_deadline().filter(|due| now.since(*due) > STALL) {
            self.stalled += now.since(due.max(self.counted));
            self.counted = now;
        }
    }

    fn ordered(&mut self, order: Order, now: Timestamp) {
        match order {
            Order::Measure(path, sessions) => self.measure(path, &sessions, now),
            Order::Forget(path) => self.forget(path, now),
            Order::Guard { group, guard, began } => self.guard(group, guard, began, now),
            Order::Unguard(group) => self.unguard(group),
            Order::InUse(groups) => self.wishes.push_back(Wish::Sweep(groups)),
            Order::Peer(peer) => self.add_peer(peer, now),
            Order::Unpeer(link) => self.remove_peer(&link),
        }
    }

    fn measure(&mut self, id: PathId, sessions: &[Session], now: Timestamp) {
        self.unbind(id);
        for session in sessions {
            self.by_label.insert(index(session.receive), id);
            self.by_local.entry(session.local).or_default().insert(id);
        }
        let down = sessions.iter().map(|session| session.local).find(|local| self.down.contains(local));
        self.with_path(id, now, |path, _| {
            path.measure(sessions, now);
            if let Some(local) = down {
                path.carrier(local, false);
            }
        });
        self.next.entry(id).or_insert(now);
        self.set_path_timer(id);
    }

    fn forget(&mut self, id: PathId, now: Timestamp) {
        self.unbind(id);
        self.next.remove(&id);
        self.with_path(id, now, |path, _| path.forget());
    }

    fn unbind(&mut self, id: PathId) {
        for session in self.paths.get(&id).into_iter().flat_map(Path::sessions) {
            if self.by_label.get(&index(session.receive)) == Some(&id) {
                self.by_label.remove(&index(session.receive));
            }
            if let Some(paths) = self.by_local.get_mut(&session.local) {
                paths.remove(&id);
                if paths.is_empty() {
                    self.by_local.remove(&session.local);
                }
            }
        }
    }

    fn guard(&mut self, number: u32, guard: Guard, began: Began, now: Timestamp) {
        let known = self.groups.remove(&number);
        if let Some(known) = &known {
            self.unwatch(number, known.guard);
        }
        let group = match (began, known) {
            (Began::Before, Some(known)) => known.guarded(guard),
            (Began::Before, None) => Group::new(guard, None),
            (Began::Now, _) => Group::new(guard, Some(Way::Primary)),
        };
        self.groups.insert(number, group);
        for id in [guard.primary, guard.backup] {
            self.paths.entry(id).or_default().watch(number, &guard);
        }
        match began {
            // Whatever was left in the slot by a former life.
            Began::Now => self.wishes.push_back(Wish::Turn { group: number, to: Way::Primary }),
            Began::Before => self.wishes.push_back(Wish::Look(number)),
        }
        self.decide(number, now);
    }

    fn unguard(&mut self, number: u32) {
        let group = self.groups.remove(&number);
        if let Some(group) = &group {
            self.unwatch(number, group.guard);
            self.timers.set(Timer::Group(number), None);
        }
        if group.is_none_or(|group| group.way != Some(Way::Primary)) {
            self.wishes.push_back(Wish::Turn { group: number, to: Way::Primary });
        }
    }

    fn unwatch(&mut self, number: u32, guard: Guard) {
        for id in [guard.primary, guard.backup] {
            if let Some(path) = self.paths.get_mut(&id) {
                path.unwatch(number, &guard);
                if path.is_idle() {
                    self.paths.remove(&id);
                }
            }
        }
    }

    fn looked(&mut self, number: u32, way: Way, now: Timestamp) {
        let Some(group) = self.groups.get_mut(&number).filter(|group| group.way.is_none()) else { return };
        group.way = Some(way);
        if way == Way::Backup {
            let why = "it was found on its backup when the agent started".to_owned();
            self.wishes.push_back(Wish::Tell(Told::Turned { group: number, to: way, why, at: now }));
        }
        self.decide(number, now);
    }

    fn add_peer(&mut self, peer: Peer, now: Timestamp) {
        self.remove_peer(&peer.link);
        let link = peer.link.clone();
        self.by_peer.insert((peer.remote, peer.session), link.clone());
        self.links.insert(link.clone(), Link::new(peer, now));
        self.timers.set(Timer::Link(link), Some(now));
        if self.links.len() == 1 {
            self.timers.set(Timer::Report, Some(now.plus(REPORT_EVERY)));
        }
    }

    fn remove_peer(&mut self, id: &LinkId) {
        let Some(link) = self.links.remove(id) else { return };
        let at = (link.peer.remote, link.peer.session);
        if self.by_peer.get(&at) == Some(id) {
            self.by_peer.remove(&at);
        }
        self.timers.set(Timer::Link(id.clone()), None);
        if self.links.is_empty() {
            self.timers.set(Timer::Report, None);
        }
    }

    fn answered(&mut self, answer: &Answer, now: Timestamp) {
        match answer.of {
            Key::Path(label) => {
                let Some(id) = self.by_label.get(&index(label)).copied() else { return };
                let mut took = None;
                self.with_path(id, now, |path, stalled| took = path.answered(label, answer, now, stalled));
                self.wishes.extend(took.map(Wish::Took));
            }
            Key::Link(from, session) => {
                let id = self.by_peer.get(&(from, session));
                if let Some(link) = id.and_then(|id| self.links.get_mut(id)) {
                    link.answered(answer);
                }
            }
        }
    }

    fn sent(&mut self, probe: &Probe, sequence: u32, at: Timestamp) {
        match probe {
            Probe::Path(id, receive) => {
                if let Some(path) = self.paths.get_mut(id) {
                    path.sent(*receive, sequence, at);
                }
            }
            Probe::Link(id) => {
                if let Some(link) = self.links.get_mut(id) {
                    link.sent(sequence, at);
                }
            }
        }
    }

    fn not_sent(&mut self, probe: Probe, sequence: u32, now: Timestamp) {
        match probe {
            Probe::Path(id, receive) => self.with_path(id, now, |path, _| path.not_sent(receive, sequence)),
            Probe::Link(id) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.not_sent(sequence);
                }
            }
        }
    }

    /// Local addresses from which probed paths begin.
    pub fn locals(&self) -> impl Iterator<Item = &IpAddr> {
        self.by_local.keys()
    }

    fn carrier(&mut self, local: IpAddr, up: bool, now: Timestamp) {
        match up {
            true => self.down.remove(&local),
            false => self.down.insert(local),
        };
        if self.down.len() > DOWN_MOST {
            self.down.retain(|local| self.by_local.contains_key(local));
        }
        for id in self.by_local.get(&local).cloned().unwrap_or_default() {
            self.with_path(id, now, |path, _| path.carrier(local, up));
        }
        if !up {
            self.tell_defect(local, 0, now);
        }
    }

    /// After all groups of this host were turned.
    fn tell_defect(&mut self, local: IpAddr, times: usize, now: Timestamp) {
        let begin = self.by_local.get(&local).into_iter().flatten();
        let dead = begin.filter(|id| self.paths[*id].has_no_carrier(local));
        let told = defect::told(dead.copied(), &self.paths, &self.groups, &self.down);
        let again = DEFECT_AGAIN.get(times).filter(|_| !told.is_empty());
        self.timers.set(Timer::Defect(local, times + 1), again.map(|wait| now.plus(*wait)));
        self.wishes.extend(told);
    }

    /// Believed of the other way of the group under whose label it was said, and of no other path: of more, who can send
    /// under that label has no say.
    fn told_defect(&mut self, defect: &Defect, now: Timestamp) {
        let Some(group) = self.groups.get(&defect.group) else { return };
        let other = match defect.came {
            Way::Primary => group.guard.backup,
            Way::Backup => group.guard.primary,
        };
        if other == defect.dead {
            self.with_path(other, now, |path, _| path.no_carrier_there(now));
        }
    }

    fn tick(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Path(id) => self.path_due(id, now),
                Timer::Link(id) => self.link_due(id, now),
                Timer::Group(number) => self.decide(number, now),
                Timer::Report => self.report(now),
                Timer::Defect(local, times) => self.tell_defect(local, times, now),
            }
        }
    }

    fn path_due(&mut self, id: PathId, now: Timestamp) {
        let every =
            stretched(PROBE_EVERY, self.by_local.values().map(BTreeSet::len).sum(), PATHS_AT_FULL_RATE);
        let sends = self.sends(id, every, now);
        self.with_path(id, now, |path, stalled| path.settle(now, stalled, true));
        if let Some(path) = self.paths.get_mut(&id).filter(|_| sends) {
            let wishes = &mut self.wishes;
            path.send(now, self.stalled, |session, sequence| {
                wishes.push_back(Wish::SendPath { path: id, session, sequence });
            });
        }
        self.set_path_timer(id);
    }

    fn link_due(&mut self, id: LinkId, now: Timestamp) {
        let every = stretched(LINK_EVERY, self.links.len(), LINKS_AT_FULL_RATE);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.settle(now, self.stalled);
        let sequence = link.send(now, self.stalled);
        self.wishes.push_back(Wish::SendLink { peer: link.peer.clone(), sequence });
        let phase = u64::from(link.peer.session);
        self.timers.set(Timer::Link(id), Some(on_grid(now, every, phase)));
    }

    fn report(&mut self, now: Timestamp) {
        let stalled = self.stalled;
        let measured = self.links.iter_mut().filter_map(|(id, link)| {
            link.settle(now, stalled);
            Some((id.clone(), link.report()?))
        });
        let measured: Vec<_> = measured.collect();
        if !measured.is_empty() {
            self.wishes.push_back(Wish::Tell(Told::Measured(measured)));
        }
        self.timers.set(Timer::Report, Some(now.plus(REPORT_EVERY)));
    }

    /// Whether it is time to send; the next time is on a grid on which paths take turns.
    fn sends(&mut self, id: PathId, every: Duration, now: Timestamp) -> bool {
        let Some(next) = self.next.get_mut(&id).filter(|next| **next <= now) else { return false };
        *next = on_grid(now, every, id.0);
        true
    }

    fn set_path_timer(&mut self, id: PathId) {
        let lost = self.paths.get(&id).and_then(|path| path.due(self.stalled));
        let next = self.next.get(&id).copied();
        self.timers.set(Timer::Path(id), lost.into_iter().chain(next).min());
    }

    /// Changes a path, and lets its groups decide if that changed what is thought of it.
    fn with_path(&mut self, id: PathId, now: Timestamp, change: impl FnOnce(&mut Path, Duration)) {
        let path = self.paths.entry(id).or_default();
        let before = path.version;
        change(path, self.stalled);
        let changed = path.version != before;
        if changed && path.health() == Health::Alive {
            // What answers has a carrier, whatever was heard of it.
            path.sessions().for_each(|session| _ = self.down.remove(&session.local));
        }
        if path.is_idle() {
            self.paths.remove(&id);
        } else if changed {
            for number in path.groups.clone() {
                self.decide(number, now);
            }
        }
        self.set_path_timer(id);
    }

    fn decide(&mut self, number: u32, now: Timestamp) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        let Guard { primary, backup, .. } = group.guard;
        let (Some(primary), Some(backup)) = (self.paths.get(&primary), self.paths.get(&backup)) else {
            return;
        };
        match group.decide(primary, backup, now) {
            Decision::Stay(again) => self.timers.set(Timer::Group(number), again),
            Decision::Turn { to, why } => {
                self.wishes.push_back(Wish::Turn { group: number, to });
                self.wishes.push_back(Wish::Tell(Told::Turned { group: number, to, why, at: now }));
                self.decide(number, now);
            }
        }
    }
}

/// Longer in proportion when there are more than `full` of them.
fn stretched(every: Duration, count: usize, full: u64) -> Duration {
    let times = u32::try_from((count as u64).div_ceil(full).max(1)).unwrap_or(u32::MAX);
    every.saturating_mul(times)
}

/// The next whole millisecond after `now` that has this phase: probes of many paths are spread, and those of few share
/// wakeups. What was missed is not made up for.
fn on_grid(now: Timestamp, every: Duration, phase: u64) -> Timestamp {
    const MILLI: u64 = 1_000_000;
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    let first = now.0 / MILLI + 1;
    let wait = (phase % every + every - first % every) % every;
    Timestamp((first + wait) * MILLI)
}
