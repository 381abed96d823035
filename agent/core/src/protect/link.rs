//! One link and what its probes show, for the controller: times, their variation, and losses, each way.
use super::Answer;
use super::flight::{Flight, Noted, Settled};
use super::limits::{LINK_TIMEOUT, REPORT_EVERY};
use super::session::round_trip;
use proto_model::desired::Peer;
use proto_model::topology::Measured;
use proto_model::{Latency, Loss, Timestamp};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    flight: Flight,
    began: Timestamp,
    /// It has answered once; until then, and not for long, what is lost may be due to an end that is still being built.
    answers: bool,
    last: Option<Answer>,
    seen: Seen,
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

    fn mean(&self) -> Latency {
        Latency::from_nanos(self.sum.checked_div(u64::from(self.count)).unwrap_or(0))
    }
}

impl Link {
    pub(super) fn new(peer: Peer, now: Timestamp) -> Self {
        let flight = Flight::default();
        Self { peer, flight, began: now, answers: false, last: None, seen: Seen::default() }
    }

    pub(super) fn send(&mut self, now: Timestamp) -> u32 {
        self.flight.send(now)
    }

    pub(super) fn not_sent(&mut self, sequence: u32) {
        self.flight.not_sent(sequence);
    }

    pub(super) fn answered(&mut self, answer: &Answer) {
        match self.flight.answered(answer.sequence, answer.reflected) {
            Noted::Strange | Noted::Late { .. } => return,
            Noted::InTime => {}
        }
        if !std::mem::replace(&mut self.answers, true) {
            self.flight.drop_gap();
        }
        self.seen.times.add(round_trip(answer));
        if let Some(last) = self.last.replace(*answer)
            && answer.sequence.wrapping_sub(last.sequence) == 1
        {
            self.seen.forward.add(differs((last.sent, last.received), (answer.sent, answer.received)));
            self.seen.backward.add(differs((last.answered, last.arrived), (answer.answered, answer.arrived)));
        }
    }

    /// Takes note of every probe whose fate is known by now.
    pub(super) fn settle(&mut self, now: Timestamp, resumed: Timestamp) {
        while let Some(settled) = self.flight.settle(now, resumed, LINK_TIMEOUT, true) {
            match settled {
                Settled::Lost { .. } if !self.answers && now.since(self.began) < REPORT_EVERY => {
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
