//! Probes under way, and what became of them, in the order in which they were sent.
use super::limits::{TIMEOUT_MOST, WAITING};
use proto_model::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Of one path or link.
#[derive(Debug, Default)]
pub(super) struct Flight {
    next: u32,
    waiting: VecDeque<Waiting>,
    /// Sequence number less the reflector's own, of the last answer: grows with each probe that did not reach it.
    deficit: Option<u32>,
    /// Lost since the last answer; on which way, the next answer will tell.
    gap: u32,
    /// Taken for lost, and when they were sent; may still come.
    gone: VecDeque<(u32, Timestamp)>,
}

/// Late answers are recognised for so many lost probes.
const GONE: usize = 128;

#[derive(Debug)]
struct Waiting {
    sequence: u32,
    sent: Timestamp,
    /// How long the protector had been stalled in all by then.
    stalled: Duration,
    fate: Fate,
}

impl Waiting {
    /// When it is lost: what the protector was stalled since then does not count.
    fn due(&self, stalled: Duration, timeout: Duration) -> Timestamp {
        self.sent.plus(timeout.saturating_add(stalled.saturating_sub(self.stalled)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Answered { reflected: u32 },
    NotSent,
}

/// What an answer is, and when its probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    InTime {
        sent: Timestamp,
    },
    /// Its probe had been taken for lost; and if `counted`, it has been told already that it was lost on its way there.
    Late {
        sent: Timestamp,
        counted: bool,
    },
    /// A duplicate, or to no probe of this one's.
    Strange,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Lost {
        sent: Timestamp,
    },
    /// And of the lost ones before it, so many were lost on the way there and on the way back.
    Answered {
        forward: u32,
        backward: u32,
    },
}

impl Flight {
    /// The number of the probe that is sent now. `stalled`: for how long the protector has been in all.
    pub(super) fn send(&mut self, now: Timestamp, stalled: Duration) -> u32 {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        let full = self.waiting.len() >= WAITING;
        if let Some(first) = self.waiting.front_mut().filter(|first| full && first.fate == Fate::Open) {
            first.fate = Fate::NotSent;
        }
        self.waiting.push_back(Waiting { sequence, sent: now, stalled, fate: Fate::Open });
        sequence
    }

    /// It was sent a little later.
    pub(super) fn sent(&mut self, sequence: u32, at: Timestamp) {
        if let Some(waiting) = self.find(sequence) {
            waiting.sent = at;
        }
    }

    pub(super) fn not_sent(&mut self, sequence: u32) {
        if let Some(waiting) = self.find(sequence).filter(|waiting| waiting.fate == Fate::Open) {
            waiting.fate = Fate::NotSent;
        }
    }

    pub(super) fn answered(&mut self, sequence: u32, reflected: u32) -> Noted {
        if let Some(waiting) = self.find(sequence) {
            if waiting.fate != Fate::Open {
                return Noted::Strange;
            }
            waiting.fate = Fate::Answered { reflected };
            return Noted::InTime { sent: waiting.sent };
        }
        let at = self.gone.iter().position(|(gone, _)| *gone == sequence);
        let Some((_, sent)) = at.and_then(|at| self.gone.remove(at)) else { return Noted::Strange };
        let counted = self.gap == 0;
        self.gap = self.gap.saturating_sub(1);
        Noted::Late { sent, counted }
    }

    /// The next probe whose fate is known. Its answer was in time, or none came within `timeout`, not counting the time for
    /// which the protector was stalled. Before a look at the answers that wait, `judge` is false: nothing is lost.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        stalled: Duration,
        timeout: Duration,
        judge: bool,
    ) -> Option<Settled> {
        let first = self.waiting.front()?;
        let settled = match first.fate {
            Fate::Answered { reflected } => self.attribute(first.sequence, reflected),
            Fate::Open if !judge || first.due(stalled, timeout) > now => return None,
            Fate::Open | Fate::NotSent => {
                let (sequence, sent) = (first.sequence, first.sent);
                self.gap += 1;
                self.gone.push_back((sequence, sent));
                if self.gone.len() > GONE {
                    self.gone.pop_front();
                }
                Settled::Lost { sent }
            }
        };
        self.waiting.pop_front();
        Some(settled)
    }

    /// When the next one would be lost.
    pub(super) fn due(&self, stalled: Duration, timeout: Duration) -> Option<Timestamp> {
        let first = self.waiting.front()?;
        match first.fate {
            Fate::Open => Some(first.due(stalled, timeout)),
            Fate::Answered { .. } | Fate::NotSent => Some(first.sent),
        }
    }

    /// For how long the first probe without an answer is under way, not counting the time of stalls.
    pub(super) fn waits_for(&self, now: Timestamp, stalled: Duration) -> Option<Duration> {
        let first = self.waiting.iter().find(|waiting| waiting.fate == Fate::Open)?;
        Some(now.since(first.sent).saturating_sub(stalled.saturating_sub(first.stalled)))
    }

    /// What was lost is not asked about any more. How much that was.
    pub(super) fn drop_gap(&mut self) -> u32 {
        self.deficit = None;
        std::mem::take(&mut self.gap)
    }

    /// What is under way does not count any more, nor do answers to it.
    pub(super) fn begin_anew(&mut self) {
        self.waiting.clear();
        self.gone.clear();
        self.drop_gap();
    }

    fn find(&mut self, sequence: u32) -> Option<&mut Waiting> {
        let first = self.waiting.front()?.sequence;
        self.waiting.get_mut(usize::try_from(sequence.wrapping_sub(first)).ok()?)
    }

    /// A reflector that does not count, or began anew, tells nothing: then all were lost on the way there.
    fn attribute(&mut self, sequence: u32, reflected: u32) -> Settled {
        let deficit = sequence.wrapping_sub(reflected);
        let gap = std::mem::take(&mut self.gap);
        let grown = self.deficit.replace(deficit).map_or(gap, |before| deficit.wrapping_sub(before));
        let shrunk = grown > u32::MAX / 2;
        let forward = if shrunk { 0 } else { grown.min(gap) };
        Settled::Answered { forward, backward: gap - forward }
    }
}

/// `level`: the longest round-trip time that the path lately had for a while. The most before the first answer.
pub(super) fn timeout(smoothed: Option<u64>, level: u64) -> Duration {
    use super::limits::{TIMEOUT_LEAST, TIMEOUT_ROOM};
    let Some(smoothed) = smoothed else { return TIMEOUT_MOST };
    let expected = smoothed.saturating_mul(2).max(level.saturating_add(level / 4));
    Duration::from_nanos(expected).saturating_add(TIMEOUT_ROOM).clamp(TIMEOUT_LEAST, TIMEOUT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000_000);
    const LONG: Duration = Duration::from_millis(30);
    /// Not stalled yet.
    const NEVER: Duration = Duration::ZERO;
    const IN_TIME: Noted = Noted::InTime { sent: START };

    fn all(flight: &mut Flight, now: Timestamp) -> Vec<Settled> {
        std::iter::from_fn(|| flight.settle(now, NEVER, LONG, true)).collect()
    }

    #[test]
    fn losses_of_the_two_directions_are_told_apart() {
        let mut flight = Flight::default();
        assert_eq!((0..6).map(|_| flight.send(START, NEVER)).last(), Some(5));
        // 1 did not arrive, 3's answer did not.
        for (sequence, reflected) in [(0, 0), (2, 1), (4, 3), (5, 4)] {
            assert_eq!(flight.answered(sequence, reflected), IN_TIME);
        }
        let none = Settled::Answered { forward: 0, backward: 0 };
        let lost = Settled::Lost { sent: START };
        let settled = all(&mut flight, START.plus(LONG));
        let forward = Settled::Answered { forward: 1, backward: 0 };
        let backward = Settled::Answered { forward: 0, backward: 1 };
        assert_eq!(settled, [none, lost, forward, lost, backward, none]);
    }

    #[test]
    fn what_is_overtaken_is_not_lost() {
        let mut flight = Flight::default();
        assert_eq!((0..3).map(|_| flight.send(START, NEVER)).last(), Some(2));
        flight.answered(0, 0);
        flight.answered(2, 1);
        assert_eq!(all(&mut flight, START).len(), 1);
        flight.answered(1, 2);
        assert_eq!(all(&mut flight, START), [Settled::Answered { forward: 0, backward: 0 }; 2]);
    }

    #[test]
    fn time_in_which_the_protector_was_stalled_does_not_count() {
        let mut flight = Flight::default();
        let millis = Duration::from_millis;
        flight.send(START, millis(70));
        let resumed = START.plus(millis(500));
        assert_eq!(flight.settle(resumed, millis(560), LONG, true), None);
        assert_eq!(flight.due(millis(560), LONG), Some(START.plus(millis(520))));
        assert_eq!(flight.answered(0, 0), IN_TIME);
    }

    #[test]
    fn stalls_again_and_again_do_not_keep_a_lost_probe_for_ever() {
        let mut flight = Flight::default();
        flight.send(START, NEVER);
        // Ten milliseconds pass between stalls of 25.
        let (mut now, mut stalled) = (START, NEVER);
        let mut stalls = 0;
        while flight.settle(now, stalled, LONG, true).is_none() {
            stalled += Duration::from_millis(25);
            now = now.plus(Duration::from_millis(35));
            stalls += 1;
        }
        assert_eq!(stalls, 3);
    }

    #[test]
    fn what_waits_has_a_bound() {
        let mut flight = Flight::default();
        for n in 0..10_000 {
            let now = START.plus(Duration::from_millis(n));
            // Stalled all the time: no time ever passes for it.
            let stalled = Duration::from_millis(n);
            while flight.settle(now, stalled, LONG, true).is_some() {}
            flight.send(now, stalled);
            assert!(flight.waiting.len() <= WAITING + 1);
        }
    }

    #[test]
    fn a_late_answer_is_recognised_once() {
        let mut flight = Flight::default();
        flight.send(START, NEVER);
        flight.sent(0, START);
        assert_eq!(all(&mut flight, START.plus(LONG)), [Settled::Lost { sent: START }]);
        assert_eq!(flight.answered(0, 0), Noted::Late { sent: START, counted: false });
        assert_eq!(flight.answered(0, 0), Noted::Strange);
    }

    #[test]
    fn numbers_wrap() {
        let mut flight = Flight { next: u32::MAX, ..Flight::default() };
        let (a, b) = (flight.send(START, NEVER), flight.send(START, NEVER));
        assert_eq!((a, b), (u32::MAX, 0));
        assert_eq!((flight.answered(b, 8), flight.answered(a, 7)), (IN_TIME, IN_TIME));
        assert_eq!(all(&mut flight, START).len(), 2);
    }
}
