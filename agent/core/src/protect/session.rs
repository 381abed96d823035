//! One path and what its probes show: alive or dead, how much is lost, how long the way there and back takes.
use super::cusum::{Cusum, borne};
use super::flight::{Noted, Settled, timeout};
use super::limits::{
    ALIVE_AFTER, DEAD_AFTER, DEAD_AFTER_MOST, DEFECT_REST, DOUBT_AFTER, DOUBT_ROOM, EVIDENCE, KNOWN_WEIGHT,
    RECENT, SLOWER, USUAL_KEPT, USUAL_SECONDS,
};
use super::voice::{Voice, round_trip};
use super::{Answer, Guard, Session};
use proto_model::{Latency, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// A path that groups use, and is probed while there is someone to probe it as.
#[derive(Debug)]
pub(super) struct Path {
    /// As whom it is probed. The first one speaks: losses are counted of its probes only.
    voices: Vec<Voice>,
    /// Whose turn it was last while nobody answers.
    turn: usize,
    health: Health,
    smoothed: Option<u64>,
    timeout: Duration,
    recent: VecDeque<u64>,
    usual: Usual,
    /// Fates of the last probes, the newest in the lowest bit; 1: lost on the way there.
    fates: u128,
    known: u32,
    /// The same for both ways together, and the share that was lost for longer.
    returns: u128,
    known_loss: f64,
    /// What groups allow, with how many of them do: loss in millionths, round-trip time in nanoseconds.
    losses: BTreeMap<u32, (u32, Cusum)>,
    times: BTreeMap<u64, u32>,
    pub(super) groups: BTreeSet<u32>,
    /// The largest allowed time that is broken.
    broken: Option<u64>,
    slow: bool,
    /// When the far end was last believed that it has no carrier.
    told_dead: Option<Timestamp>,
    /// Grows whenever a judgement about it changes.
    pub(super) version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Not answered yet; since when that is asked. None: nobody asks.
    Unknown {
        since: Option<Timestamp>,
    },
    Alive,
    Dead(Death),
}

/// Why a path is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Silent {
        probes: u32,
        time: Duration,
    },
    NoCarrier(IpAddr),
    /// Of the far end's interface, as it says.
    NoCarrierThere,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            voices: Vec::new(),
            turn: 0,
            health: Health::default(),
            smoothed: None,
            timeout: timeout(None, 0),
            recent: VecDeque::new(),
            usual: Usual::default(),
            fates: 0,
            known: 0,
            returns: 0,
            known_loss: 0.0,
            losses: BTreeMap::new(),
            times: BTreeMap::new(),
            groups: BTreeSet::new(),
            broken: None,
            slow: false,
            told_dead: None,
            version: 0,
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::Unknown { since: None }
    }
}

/// The least round-trip time of the last minute, as long as the path is not slow.
#[derive(Debug, Default)]
struct Usual {
    seconds: VecDeque<(u64, u64)>,
    slow_since: Option<Timestamp>,
    /// The largest of what the last answers took at least, slow or not.
    levels: VecDeque<(u64, u64)>,
}

impl Path {
    pub(super) fn is_idle(&self) -> bool {
        self.voices.is_empty() && self.groups.is_empty()
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = Session> {
        self.voices.iter().map(|voice| voice.session)
    }

    /// Probes go out as these circuits from now on. What is known of the path stands; but when another one speaks than
    /// before, that it answers has to be seen anew: the former answers were another circuit's.
    pub(super) fn measure(&mut self, sessions: &[Session], now: Timestamp) {
        let spoke = self.sessions().next();
        self.voices.retain(|voice| sessions.contains(&voice.session));
        for session in sessions {
            if !self.sessions().any(|known| known == *session) {
                self.voices.push(Voice::new(*session));
            }
        }
        if self.sessions().next() == spoke {
            return;
        }
        self.turn = self.voices.len().saturating_sub(1);
        match self.health {
            Health::Unknown { .. } | Health::Alive | Health::Dead(Death::NoCarrier(_)) => {
                self.turn_to(Health::Unknown { since: Some(now) });
            }
            Health::Dead(Death::Silent { .. } | Death::NoCarrierThere) => {}
        }
    }

    pub(super) fn forget(&mut self) {
        let kept = (std::mem::take(&mut self.losses), std::mem::take(&mut self.times));
        let (groups, version) = (std::mem::take(&mut self.groups), self.version + 1);
        let anew = |(allowed, (users, _))| (allowed, (users, Cusum::new(allowed)));
        let losses = kept.0.into_iter().map(anew).collect();
        *self = Self { losses, times: kept.1, groups, version, ..Self::default() };
    }

    pub(super) fn watch(&mut self, number: u32, guard: &Guard) {
        self.groups.insert(number);
        let allowed = borne(guard.max_loss);
        self.losses.entry(allowed).or_insert_with(|| (0, Cusum::new(allowed))).0 += 1;
        if let Some(most) = guard.max_rtt {
            *self.times.entry(most.nanos()).or_default() += 1;
        }
    }

    pub(super) fn unwatch(&mut self, number: u32, guard: &Guard) {
        self.groups.remove(&number);
        let allowed = borne(guard.max_loss);
        if let Some((users, _)) = self.losses.get_mut(&allowed) {
            *users -= 1;
            if *users == 0 {
                self.losses.remove(&allowed);
            }
        }
        if let Some(users) = guard.max_rtt.and_then(|most| self.times.get_mut(&most.nanos())) {
            *users -= 1;
            self.times.retain(|_, users| *users > 0);
        }
    }

    pub(super) fn carrier(&mut self, local: IpAddr, up: bool) {
        match (up, self.health) {
            // Answers to what was sent before may still come, and say nothing.
            (false, _) => {
                self.voices.iter_mut().for_each(Voice::begin_anew);
                self.turn_to(Health::Dead(Death::NoCarrier(local)));
            }
            // Not more is known than that probes can go out again.
            (true, Health::Dead(Death::NoCarrier(_))) => {
                self.turn_to(Health::Dead(Death::Silent { probes: 0, time: Duration::ZERO }));
            }
            (true, Health::Unknown { .. } | Health::Alive | Health::Dead(_)) => {}
        }
    }

    /// The far end has no carrier, as it says. What is not probed could not be seen to live again.
    pub(super) fn no_carrier_there(&mut self, now: Timestamp) {
        let rested = self.told_dead.is_none_or(|told| now.since(told) >= DEFECT_REST);
        match self.health {
            Health::Unknown { .. } | Health::Alive if rested && !self.voices.is_empty() => {
                self.told_dead = Some(now);
                self.voices.iter_mut().for_each(Voice::begin_anew);
                self.turn_to(Health::Dead(Death::NoCarrierThere));
            }
            Health::Unknown { .. } | Health::Alive | Health::Dead(_) => {}
        }
    }

    /// Which probes are sent now, with their numbers: as the one that speaks; when that has fallen silent, as the others
    /// too; while nobody answers, as one after the other.
    pub(super) fn send(&mut self, now: Timestamp, stalled: Duration, mut tell: impl FnMut(Session, u32)) {
        let silent = self.voices.first().map_or(0, |voice| voice.lost_in_row);
        let asked = match self.health {
            Health::Alive if silent >= DOUBT_AFTER => 0..self.voices.len(),
            Health::Alive => 0..self.voices.len().min(1),
            Health::Unknown { .. } | Health::Dead(_) => {
                self.turn = (self.turn + 1).checked_rem(self.voices.len()).unwrap_or(0);
                self.turn..self.voices.len().min(self.turn + 1)
            }
        };
        for voice in self.voices.get_mut(asked).into_iter().flatten() {
            tell(voice.session, voice.flight.send(now, stalled));
        }
    }

    pub(super) fn sent(&mut self, receive: u32, sequence: u32, at: Timestamp) {
        if let Some(voice) = self.voice(receive) {
            voice.flight.sent(sequence, at);
        }
    }

    pub(super) fn not_sent(&mut self, receive: u32, sequence: u32) {
        if let Some(voice) = self.voice(receive) {
            voice.flight.not_sent(sequence);
        }
    }

    fn voice(&mut self, receive: u32) -> Option<&mut Voice> {
        self.voices.iter_mut().find(|voice| voice.session.receive == receive)
    }

    /// What came under this label; how long the way there and back took, if that can be told.
    pub(super) fn answered(
        &mut self,
        receive: u32,
        answer: &Answer,
        now: Timestamp,
        stalled: Duration,
    ) -> Option<Latency> {
        let voice = self.voice(receive)?;
        let (sent, forgiven) = match voice.flight.answered(answer.sequence, answer.reflected) {
            Noted::Strange => return None,
            Noted::InTime { sent } => (sent, false),
            Noted::Late { sent, counted } => {
                voice.lost_in_row = 0;
                (sent, counted)
            }
        };
        voice.heard = voice.heard.max(Some(sent));
        let speaks = self.sessions().next().is_some_and(|session| session.receive == receive);
        if forgiven && speaks && self.losses.values_mut().any(|(_, cusum)| cusum.forgive()) {
            self.version += 1;
        }
        let took = round_trip(sent, answer);
        if let Some(nanos) = took {
            self.time(nanos, now);
        }
        self.settle(now, stalled, false);
        took.map(Latency::from_nanos)
    }

    /// Takes note of every probe whose fate is known by now; lost is only what is judged after a look at the answers.
    pub(super) fn settle(&mut self, now: Timestamp, stalled: Duration, judge: bool) {
        let timeout = self.timeout;
        let next = |voices: &mut Vec<Voice>| {
            let one = |(at, voice): (usize, &mut Voice)| {
                Some((at, voice.flight.settle(now, stalled, timeout, judge)?))
            };
            voices.iter_mut().enumerate().find_map(one)
        };
        while let Some((at, settled)) = next(&mut self.voices) {
            match settled {
                Settled::Lost { sent } => self.lost(at, sent, now, stalled),
                Settled::Answered { forward, backward } => self.came_back(at, forward, backward),
            }
        }
    }

    /// When a probe would be lost next.
    pub(super) fn due(&self, stalled: Duration) -> Option<Timestamp> {
        self.voices.iter().filter_map(|voice| voice.flight.due(stalled, self.timeout)).min()
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn has_no_carrier(&self, local: IpAddr) -> bool {
        self.health == Health::Dead(Death::NoCarrier(local))
    }

    pub(super) fn is_lossy(&self, guard: &Guard) -> bool {
        self.losses.get(&borne(guard.max_loss)).is_some_and(|(_, cusum)| cusum.is_lossy())
    }

    /// What is broken by the round-trip time: the promised or the usual one.
    pub(super) fn slow(&self, guard: &Guard) -> Option<Latency> {
        match guard.max_rtt {
            Some(most) => (self.is_seen() && self.least()? > most.nanos()).then_some(most),
            None => self.slow.then(|| self.usual.least()).flatten().map(Latency::from_nanos),
        }
    }

    /// Least of the last answers.
    pub(super) fn round_trip(&self) -> Option<Latency> {
        self.least().map(Latency::from_nanos)
    }

    /// Lost on the way there, of how many, at most 100.
    pub(super) fn fates(&self) -> (u32, u32) {
        ((self.fates & LAST_100).count_ones(), self.known)
    }

    fn is_seen(&self) -> bool {
        self.recent.len() >= RECENT
    }

    fn least(&self) -> Option<u64> {
        self.recent.iter().min().copied()
    }

    fn turn_to(&mut self, health: Health) {
        self.version += u64::from(self.health != health);
        self.health = health;
    }

    fn lost(&mut self, at: usize, sent: Timestamp, now: Timestamp, stalled: Duration) {
        let Some(voice) = self.voices.get_mut(at) else { return };
        voice.lost(sent);
        let in_row = voice.lost_in_row;
        match self.health {
            Health::Alive if at == 0 => {
                if in_row >= self.dead_after() {
                    self.fell_silent(now, stalled);
                }
            }
            // Not asked how much it loses, only whether it answers at all.
            Health::Alive | Health::Unknown { .. } | Health::Dead(_) => {
                voice.flight.drop_gap();
            }
        }
    }

    /// The one that speaks. If another one was answered since, it was not the path; only if all are silent it was.
    fn fell_silent(&mut self, now: Timestamp, stalled: Duration) {
        let Some((speaks, others)) = self.voices.split_first() else { return };
        let (probes, since) = (speaks.lost_in_row, speaks.first_lost);
        let wait =
            self.smoothed.map_or(self.timeout, |nanos| Duration::from_nanos(nanos / 4 * 5) + DOUBT_ROOM);
        let heard = others.iter().enumerate().max_by_key(|(_, voice)| voice.heard);
        if let Some((at, _)) = heard.filter(|(_, voice)| voice.heard >= Some(since)) {
            self.let_speak(at + 1);
        } else if others.iter().all(|voice| voice.is_silent(since, now, stalled, wait.min(self.timeout))) {
            self.voices.iter_mut().for_each(|voice| _ = voice.flight.drop_gap());
            self.turn_to(Health::Dead(Death::Silent { probes, time: now.since(since) }));
        }
    }

    fn let_speak(&mut self, at: usize) {
        if at > 0 && at < self.voices.len() {
            let mut voice = self.voices.remove(at);
            voice.flight.drop_gap();
            self.voices.insert(0, voice);
        }
    }

    /// So many losses in a row are no chance on a path that is known to lose what this one does.
    fn dead_after(&self) -> u32 {
        let lost = f64::from((self.returns & LAST_100).count_ones()) / f64::from(self.known.max(1));
        let share = lost.max(self.known_loss).clamp(0.000_001, 0.99);
        let rare = (-EVIDENCE / share.ln()).ceil().min(f64::from(DEAD_AFTER_MOST));
        (DEAD_AFTER..DEAD_AFTER_MOST).find(|n| f64::from(*n) >= rare).unwrap_or(DEAD_AFTER_MOST)
    }

    fn came_back(&mut self, at: usize, forward: u32, backward: u32) {
        let Some(voice) = self.voices.get_mut(at) else { return };
        voice.came_back();
        let in_row = voice.answered_in_row;
        match self.health {
            Health::Dead(_) if in_row < ALIVE_AFTER => {}
            Health::Unknown { .. } | Health::Dead(_) => {
                self.let_speak(at);
                self.turn_to(Health::Alive);
            }
            Health::Alive => {}
        }
        if at == 0 {
            self.count(forward, backward);
        }
    }

    /// One came back, and so many were lost before it on either way.
    fn count(&mut self, forward: u32, backward: u32) {
        for (_, cusum) in self.losses.values_mut() {
            self.version += u64::from(cusum.note(forward, backward + 1));
        }
        let both = forward + backward;
        self.fates = pushed(self.fates, forward, backward + 1);
        self.returns = pushed(self.returns, both, 1);
        self.known = self.known.saturating_add(both + 1).min(100);
        for _ in 0..both.min(100) {
            self.known_loss += (1.0 - self.known_loss) * KNOWN_WEIGHT;
        }
        self.known_loss -= self.known_loss * KNOWN_WEIGHT;
    }

    fn time(&mut self, nanos: u64, now: Timestamp) {
        self.smoothed = Some(self.smoothed.map_or(nanos, |before| before - before / 8 + nanos / 8));
        self.recent.push_back(nanos);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.timeout = timeout(self.smoothed, 0);
        if !self.is_seen() {
            return;
        }
        let least = self.least().unwrap_or(nanos);
        let slow = self.usual.judge(least, nanos, now);
        self.timeout = timeout(self.smoothed, self.usual.level());
        let broken = self.times.range(..least).next_back().map(|(most, _)| *most);
        self.version += u64::from((slow, broken) != (self.slow, self.broken));
        (self.slow, self.broken) = (slow, broken);
    }
}

const LAST_100: u128 = (1 << 100) - 1;

/// So many lost ones, then so many that were not.
fn pushed(fates: u128, lost: u32, kept: u32) -> u128 {
    let ones = 1u128.checked_shl(lost).unwrap_or(0).wrapping_sub(1);
    let with_lost = fates.checked_shl(lost).unwrap_or(0) | ones;
    with_lost.checked_shl(kept).unwrap_or(0)
}

impl Usual {
    fn level(&self) -> u64 {
        self.levels.iter().map(|(_, level)| *level).max().unwrap_or(0)
    }

    fn least(&self) -> Option<u64> {
        self.seconds.iter().map(|(_, least)| *least).min()
    }

    /// Whether `least` of the last answers is unusual. What is unusual does not become usual by going on, for a while.
    fn judge(&mut self, least: u64, newest: u64, now: Timestamp) -> bool {
        let second = now.0 / 1_000_000_000;
        by_second(&mut self.levels, second, least, u64::max);
        let usual = self.least();
        let slow = usual.is_some_and(|usual| least > usual.saturating_add(slower(usual)));
        let since = *self.slow_since.get_or_insert(now);
        if !slow {
            self.slow_since = None;
        } else if now.since(since) < USUAL_KEPT {
            return true;
        } else {
            self.slow_since = None;
            self.seconds.clear();
        }
        by_second(&mut self.seconds, second, newest, u64::min);
        false
    }
}

/// One value for each second of the last minute.
fn by_second(seconds: &mut VecDeque<(u64, u64)>, second: u64, new: u64, pick: fn(u64, u64) -> u64) {
    match seconds.back_mut() {
        Some((of, value)) if *of == second => *value = pick(*value, new),
        Some(_) | None => seconds.push_back((second, new)),
    }
    while seconds.front().is_some_and(|(of, _)| of + USUAL_SECONDS < second) {
        seconds.pop_front();
    }
}

/// How much more than usual is slow.
pub(super) fn slower(usual: u64) -> u64 {
    usual.max(u64::try_from(SLOWER.as_nanos()).unwrap_or(u64::MAX))
}
