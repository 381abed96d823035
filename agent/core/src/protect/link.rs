//! One link and what its probes show, for the controller: times, their variation, and losses, each way.
use super::Answer;
use super::flight::{Flight, Noted, Settled};
use super::limits::{LINK_TIMEOUT, REPORT_EVERY};
use super::voice::round_trip;
use proto_model::desired::Peer;
use proto_model::topology::Measured;
use proto_model::{Latency, Loss, Timestamp};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    flight: Flight,
    began: Timestamp,
    /// It has answered once; until then, and not for long, what is lost may be due to an end that is still being built.
    answers: bool,
    last: Option<Last>,
    seen: Seen,
}

/// The last answer whose times could be right.
#[derive(Clone, Copy, Debug)]
struct Last {
    sent: Timestamp,
    took: u64,
    answer: Answer,
}

/// Since the last report.
#[derive(Debug, Default)]
struct Seen {
    times: Sums,
    forward: Sums,
    backward: Sums,
    came_back: u32,
    lost_forward: u32,
    lost_backward: u32,
}

#[derive(Debug, Default)]
struct Sums {
    count: u32,
    sum: u64,
    least: Option<u64>,
    most: u64,
}

impl Sums {
    fn add(&mut self, nanos: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.least = Some(self.least.map_or(nanos, |least| least.min(nanos)));
        self.most = self.most.max(nanos);
    }

    fn extend(&mut self, nanos: Option<u64>) {
        nanos.into_iter().for_each(|nanos| self.add(nanos));
    }

    fn mean(&self) -> Latency {
        Latency::from_nanos(self.sum.checked_div(u64::from(self.count)).unwrap_or(0))
    }
}

impl Link {
    pub(super) fn new(peer: Peer, now: Timestamp) -> Self {
        let flight = Flight::default();
        Self { peer, flight, began: now, answers: false, last: None, seen: Seen::default() }
    }

    pub(super) fn send(&mut self, now: Timestamp, stalled: Duration) -> u32 {
        self.flight.send(now, stalled)
    }

    pub(super) fn sent(&mut self, sequence: u32, at: Timestamp) {
        self.flight.sent(sequence, at);
    }

    pub(super) fn not_sent(&mut self, sequence: u32) {
        self.flight.not_sent(sequence);
    }

    pub(super) fn answered(&mut self, answer: &Answer) {
        let sent = match self.flight.answered(answer.sequence, answer.reflected) {
            Noted::Strange | Noted::Late { .. } => return,
            Noted::InTime { sent } => sent,
        };
        if !std::mem::replace(&mut self.answers, true) {
            self.flight.drop_gap();
        }
        let took = round_trip(sent, answer);
        self.seen.times.extend(took);
        let now = took.map(|took| Last { sent, took, answer: *answer });
        if let (Some(last), Some(now)) = (std::mem::replace(&mut self.last, now), now)
            && answer.sequence.wrapping_sub(last.answer.sequence) == 1
        {
            self.vary(&last, &now);
        }
    }

    /// Each of the two delays was between nothing and the whole round trip. When they differ by more, somebody set the
    /// neighbour's clock between the two.
    fn vary(&mut self, last: &Last, now: &Last) {
        let most = last.took.max(now.took);
        let there = |one: &Last| (one.sent.0, one.answer.received);
        let back = |one: &Last| (one.answer.answered, one.answer.arrived.0);
        let (forward, backward) = (differs(there(last), there(now)), differs(back(last), back(now)));
        if forward <= most && backward <= most {
            self.seen.forward.add(forward);
            self.seen.backward.add(backward);
        }
    }

    /// Takes note of every probe whose fate is known by now.
    pub(super) fn settle(&mut self, now: Timestamp, stalled: Duration) {
        while let Some(settled) = self.flight.settle(now, stalled, LINK_TIMEOUT, true) {
            match settled {
                Settled::Lost { sent } if !self.answers && sent.since(self.began) < REPORT_EVERY => {
                    self.flight.drop_gap();
                }
                Settled::Lost { .. } => {}
                Settled::Answered { forward, backward } => {
                    self.seen.came_back += 1;
                    self.seen.lost_forward += forward;
                    self.seen.lost_backward += backward;
                }
            }
        }
    }

    /// What was seen since this was last asked; none: no probe's fate became known.
    pub(super) fn report(&mut self) -> Option<Measured> {
        let mut seen = std::mem::take(&mut self.seen);
        if seen.came_back == 0 {
            // No answer says where they were lost.
            seen.lost_forward += self.flight.drop_gap();
        }
        let probes = seen.came_back + seen.lost_forward + seen.lost_backward;
        (probes > 0).then(|| Measured {
            probes,
            rtt_min: Latency::from_nanos(seen.times.least.unwrap_or(0)),
            rtt_mean: seen.times.mean(),
            rtt_max: Latency::from_nanos(seen.times.most),
            variation_forward: seen.forward.mean(),
            variation_backward: seen.backward.mean(),
            loss_forward: share(seen.lost_forward, probes),
            loss_backward: share(seen.lost_backward, probes - seen.lost_forward),
        })
    }
}

/// RFC 3393: the difference of two one-way delays, in which the clocks' difference cancels out.
fn differs(one: (u64, u64), other: (u64, u64)) -> u64 {
    let delay = |(from, to): (u64, u64)| i128::from(to) - i128::from(from);
    u64::try_from((delay(one) - delay(other)).unsigned_abs()).unwrap_or(u64::MAX)
}

fn share(part: u32, whole: u32) -> Loss {
    let ppm = (u64::from(part) * 1_000_000).checked_div(u64::from(whole)).unwrap_or(0);
    Loss::from_ppm(u32::try_from(ppm).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::Key;

    const START: Timestamp = Timestamp(1_000_000_000);
    const MILLI: u64 = 1_000_000;

    fn link() -> Link {
        let name = |text: &str| text.parse().expect("a name");
        let link = proto_model::topology::LinkId::new(
            "a".parse().expect("a name"),
            "b".parse().expect("a name"),
            name("n"),
        );
        let ip = std::net::IpAddr::from([192, 0, 2, 1]);
        let peer = Peer { link: link.expect("two ends"), local: ip, remote: ip, session: 1, capacity: None };
        Link::new(peer, START)
    }

    /// 5 ms there and 7 ms back, 1 ms more on the way there for every other probe; 2 ms at the reflector, whose clock
    /// is an hour ahead.
    fn answer(sequence: u32, reflected: u32, sent: Timestamp) -> Answer {
        let received = sent.0 + 3_600_000 * MILLI + 5 * MILLI + u64::from(sequence % 2) * MILLI;
        let answered = received + 2 * MILLI;
        let arrived = Timestamp(answered - 3_600_000 * MILLI + 7 * MILLI);
        let of = Key::Link(std::net::IpAddr::from([192, 0, 2, 1]), 1);
        Answer { of, sequence, reflected, received, answered, arrived }
    }

    /// Probes every 100 ms, of which the reflector sees those that `arrives` says, and answers that `returns` says.
    fn measured(
        count: u32,
        arrives: impl Fn(u32) -> bool,
        returns: impl Fn(u32) -> bool,
    ) -> Option<Measured> {
        let mut link = link();
        let (mut now, mut reflected) = (START, 0);
        for n in 0..count {
            let sequence = link.send(now, Duration::ZERO);
            if arrives(n) {
                if returns(n) {
                    link.answered(&answer(sequence, reflected, now));
                }
                reflected += 1;
            }
            now = now.plus(Duration::from_millis(100));
            link.settle(now, Duration::ZERO);
        }
        link.settle(now.plus(LINK_TIMEOUT), Duration::ZERO);
        link.report()
    }

    #[test]
    fn times_are_without_the_reflectors_own_and_without_its_clock() {
        let seen = measured(20, |_| true, |_| true).expect("answers");
        let millis = Latency::from_millis;
        assert_eq!((seen.probes, seen.rtt_min, seen.rtt_max), (20, millis(12), millis(13)));
        assert_eq!(seen.rtt_mean, Latency::from_micros(12_500));
        assert_eq!((seen.variation_forward, seen.variation_backward), (millis(1), Latency::ZERO));
        assert_eq!((seen.loss_forward, seen.loss_backward), (Loss::NONE, Loss::NONE));
    }

    #[test]
    fn a_neighbours_clock_that_is_set_changes_no_time_and_no_variation() {
        for step in [-5_000i64, 5_000] {
            let (mut link, mut now) = (link(), START);
            for n in 0..40 {
                let sequence = link.send(now, Duration::ZERO);
                let mut answer = answer(sequence, n, now);
                let ahead = |at: u64| at.saturating_add_signed(step * 1_000_000);
                // It is set while probe 20 is there.
                if n >= 20 {
                    answer.answered = ahead(answer.answered);
                }
                if n > 20 {
                    answer.received = ahead(answer.received);
                }
                link.answered(&answer);
                now = now.plus(Duration::from_millis(100));
                link.settle(now, Duration::ZERO);
            }
            let seen = link.report().expect("answers");
            let millis = Latency::from_millis;
            assert_eq!((seen.probes, seen.rtt_min, seen.rtt_max), (40, millis(12), millis(13)), "{step} ms");
            assert_eq!((seen.variation_forward, seen.variation_backward), (millis(1), Latency::ZERO));
        }
    }

    #[test]
    fn losses_are_told_by_direction() {
        let seen = measured(101, |n| n % 10 != 5, |n| n % 10 != 7).expect("answers");
        assert_eq!(seen.probes, 101);
        assert_eq!(seen.loss_forward, Loss::from_ppm(10_000_000 / 101));
        assert_eq!(seen.loss_backward, Loss::from_ppm(10_000_000 / 91));
    }

    #[test]
    fn a_neighbour_that_never_answers_is_reported_after_its_time_to_start() {
        assert_eq!(measured(10, |_| false, |_| false), None);
        let seen = measured(60, |_| false, |_| false).expect("fates are known");
        assert_eq!((seen.loss_forward, seen.rtt_max), (Loss::ALL, Latency::ZERO));
    }
}
