//! A host's protector in virtual time: paths that delay, lose and reorder, a thread that is not always run.
use agent_core::protect::{Answer, Began, Event, Guard, Key, Order, Protector, Session, Told, Wish};
use proto_model::report::Way;
use proto_model::{PathId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const PRIMARY: PathId = PathId(11);
pub(crate) const BACKUP: PathId = PathId(22);
pub(crate) const START: Timestamp = Timestamp(1_000_000_000_000);

/// Numbers that look random and are the same for the same seed (xorshift64*).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }
    pub(crate) fn happens(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }
}

/// How a path behaves at a moment; times one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// Of a million probes, so many are lost on the way there, and of answers on the way back.
    pub(crate) loss: (u64, u64),
}

impl Behaviour {
    pub(crate) fn delay(delay: Duration) -> Self {
        Self { delay, jitter: Duration::from_micros(200), loss: (0, 0) }
    }
    pub(crate) fn millis(millis: u64) -> Self {
        Self::delay(Duration::from_millis(millis))
    }
    pub(crate) fn lossy(self, forward: u64) -> Self {
        Self { loss: (forward, self.loss.1), ..self }
    }
    pub(crate) fn hole(self) -> Self {
        Self { loss: (1_000_000, 1_000_000), ..self }
    }
}

type Nature = Box<dyn Fn(Duration) -> Behaviour>;

enum Due {
    Reflect { path: PathId, receive: u32, sequence: u32 },
    Arrive(Answer),
}

/// What the protector did, and when, since the start.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) at: Duration,
    pub(crate) to: Way,
    pub(crate) why: String,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) protector: Protector,
    pub(crate) chance: Chance,
    natures: BTreeMap<PathId, Nature>,
    sessions: BTreeMap<PathId, Vec<Session>>,
    reflected: BTreeMap<u32, u32>,
    /// Ends that do not answer, by the label under which the answers would come.
    pub(crate) silent: BTreeSet<u32>,
    /// The far hosts' clocks are set all the time.
    pub(crate) wild_clocks: bool,
    due: BTreeMap<(Timestamp, u64), Due>,
    number: u64,
    /// Answers that the kernel has and the protector has not looked at.
    ring: Vec<Answer>,
    /// The thread is not run until then.
    stalled: Timestamp,
    /// Of 1,000 times that it should run, so often it is not run for up to so long.
    pub(crate) stalls: (u64, Duration),
    pub(crate) groups: BTreeMap<u32, Way>,
    pub(crate) moves: Vec<Move>,
    pub(crate) sent: u64,
    /// What far ends were told: when, as which circuit, and of which path.
    pub(crate) defects: Vec<(Duration, Session, PathId)>,
}

pub(crate) fn session(path: PathId) -> Session {
    let label = u32::try_from(path.0).expect("a small number");
    Session { local: local(path), remote: IpAddr::from([192, 0, 2, 9]), label, receive: label + 50_000 }
}

/// Another circuit on the same path.
pub(crate) fn other(path: PathId, number: u32) -> Session {
    let one = session(path);
    Session { label: one.label + 100 * number, receive: one.receive + 100 * number, ..one }
}

pub(crate) fn local(path: PathId) -> IpAddr {
    let low = path.0.to_be_bytes()[7];
    IpAddr::from([192, 0, 2, low])
}

pub(crate) fn guard() -> Guard {
    Guard { primary: PRIMARY, backup: BACKUP, max_rtt: None, max_loss: None }
}

impl World {
    pub(crate) fn empty(seed: u64) -> Self {
        Self {
            now: START,
            protector: Protector::new(),
            chance: Chance::new(seed),
            natures: BTreeMap::new(),
            sessions: BTreeMap::new(),
            reflected: BTreeMap::new(),
            silent: BTreeSet::new(),
            wild_clocks: false,
            due: BTreeMap::new(),
            number: 0,
            ring: Vec::new(),
            stalled: START,
            stalls: (0, Duration::ZERO),
            groups: BTreeMap::new(),
            moves: Vec::new(),
            sent: 0,
            defects: Vec::new(),
        }
    }

    /// Two paths and group 1 over them.
    pub(crate) fn new(
        seed: u64,
        primary: impl Fn(Duration) -> Behaviour + 'static,
        backup: impl Fn(Duration) -> Behaviour + 'static,
    ) -> Self {
        let mut world = Self::empty(seed);
        world.path(PRIMARY, primary);
        world.path(BACKUP, backup);
        world.order(Order::Guard { group: 1, guard: guard(), began: Began::Now });
        world
    }

    pub(crate) fn path(&mut self, path: PathId, nature: impl Fn(Duration) -> Behaviour + 'static) {
        self.natures.insert(path, Box::new(nature));
        self.probe_as(path, &[session(path)]);
    }

    pub(crate) fn probe_as(&mut self, path: PathId, sessions: &[Session]) {
        self.sessions.insert(path, sessions.to_vec());
        self.order(Order::Measure(path, sessions.to_vec()));
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.handle(Event::Ordered(order));
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.protector.handle(event, self.now);
        while let Some(wish) = self.protector.poll_wish() {
            self.perform(wish);
        }
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        loop {
            let run = self.protector.next_deadline().map(|due| due.max(self.stalled).max(self.now));
            let event = self.due.keys().next().map(|(at, _)| *at);
            let wake = match self.ring.is_empty() {
                true => None,
                false => Some(self.stalled.max(self.now)),
            };
            let Some(next) = [run, event, wake].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = next.max(self.now);
            if event == Some(next) {
                self.happen();
            } else {
                self.turn();
            }
        }
        self.now = end;
    }

    pub(crate) fn way(&self) -> Way {
        self.groups.get(&1).copied().unwrap_or_default()
    }

    /// The agent dies and begins anew on the same kernel.
    pub(crate) fn restart(&mut self) {
        self.protector = Protector::new();
        self.ring.clear();
        for (path, sessions) in self.sessions.clone() {
            self.order(Order::Measure(path, sessions));
        }
        self.order(Order::Guard { group: 1, guard: guard(), began: Began::Before });
    }

    /// The thread runs, if it is not to be stalled now: answers first, then the tick.
    fn turn(&mut self) {
        let (often, most) = self.stalls;
        if self.chance.below(1_000) < often {
            let long = u64::try_from(most.as_nanos()).expect("short");
            self.stalled = self.now.plus(Duration::from_nanos(self.chance.below(long)));
            if self.stalled > self.now {
                return;
            }
        }
        for answer in std::mem::take(&mut self.ring) {
            self.handle(Event::Answered(answer));
        }
        if self.protector.next_deadline().is_some_and(|due| due <= self.now) {
            self.handle(Event::Tick);
        }
    }

    fn happen(&mut self) {
        let Some(((at, _), due)) = self.due.pop_first() else { return };
        match due {
            Due::Reflect { path, receive, sequence } => {
                let reflected = self.reflected.entry(receive).or_default();
                *reflected += 1;
                let (of, reflected) = (Key::Path(receive), *reflected);
                // The far host's clock is far off.
                let wild = if self.wild_clocks { self.chance.below(100_000_000_000) } else { 0 };
                let there = at.0 + 7_000_000_000 + wild;
                let wild = if self.wild_clocks { self.chance.below(100_000_000_000) } else { wild };
                let answer = Answer {
                    of,
                    sequence,
                    reflected,
                    received: there,
                    answered: at.0 + 7_000_000_000 + wild + 5_000,
                    arrived: Timestamp(0),
                };
                let behaviour = self.behaviour(path);
                if !self.chance.happens(behaviour.loss.1) {
                    let arrived = at.plus(self.delay(behaviour)).plus(Duration::from_micros(5));
                    self.at(arrived, Due::Arrive(Answer { arrived, ..answer }));
                }
            }
            Due::Arrive(answer) => self.ring.push(answer),
        }
    }

    fn perform(&mut self, wish: Wish) {
        match wish {
            Wish::SendPath { path, session, sequence } => {
                self.sent += 1;
                let behaviour = self.behaviour(path);
                let hears = !self.silent.contains(&session.receive);
                if !self.chance.happens(behaviour.loss.0) && hears {
                    let arrives = self.now.plus(self.delay(behaviour));
                    self.at(arrives, Due::Reflect { path, receive: session.receive, sequence });
                }
            }
            Wish::SendLink { .. } => self.sent += 1,
            Wish::SendDefect { session, dead } => {
                self.defects.push((self.now.since(START), session, dead));
            }
            Wish::Took(_) => {}
            Wish::Look(group) => {
                let way = self.groups.get(&group).copied().unwrap_or_default();
                self.protector.handle(Event::Looked { group, way }, self.now);
            }
            Wish::Turn { group, to } => {
                self.groups.insert(group, to);
            }
            Wish::Sweep(kept) => self.groups.retain(|group, _| kept.contains(group)),
            Wish::Tell(Told::Turned { to, why, .. }) => {
                let at = self.now.since(START);
                self.moves.push(Move { at, to, why });
            }
            Wish::Tell(Told::Measured(_)) => {}
        }
    }

    fn behaviour(&self, path: PathId) -> Behaviour {
        self.natures[&path](self.now.since(START))
    }

    fn delay(&mut self, behaviour: Behaviour) -> Duration {
        let jitter = u64::try_from(behaviour.jitter.as_nanos()).expect("short");
        behaviour.delay + Duration::from_nanos(self.chance.below(jitter))
    }

    fn at(&mut self, at: Timestamp, due: Due) {
        self.number += 1;
        self.due.insert((at, self.number), due);
    }
}
