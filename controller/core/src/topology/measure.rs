//! Remembers what the probes of a link's two ends saw lately. Samples are never durable.
use super::{Link, Topology};
use crate::silence::Silence;
use proto_model::topology::{LinkId, Measured};
use proto_model::{Latency, Loss, NodeName, Timestamp};
use std::time::Duration;

/// A measurement that is older says nothing of the present; hosts measure every few seconds.
pub const FRESH: Duration = Duration::from_secs(30);
/// Weight of a new measurement in the moving average (EWMA), in per cent: a value three windows old has
/// a third of its weight left.
const WEIGHT: u64 = 30;

/// A link that used to answer is silent when it has not for so long: several reports of a host.
const SILENT: Duration = Duration::from_secs(5);
/// One that was never heard needs longer: the other end may have begun later.
const UNHEARD: Duration = Duration::from_secs(30);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Configured,
    Measured,
    /// Within the horizon.
    Forecast,
    /// Neither.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<T> {
    pub value: T,
    pub source: Source,
}

/// The last measurement of each end, in the order of the link's ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Samples {
    ends: [Option<Sample>; 2],
    /// When a probe of either end was answered last.
    heard: Option<Timestamp>,
    /// When the first end reported.
    begun: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    last: Measured,
    /// Smoothed; none: no probe was ever answered.
    rtt: Option<Latency>,
    /// Smoothed, of the worse direction.
    loss: Loss,
}

impl Samples {
    pub(super) fn take(&mut self, end: usize, measured: Measured, now: Timestamp) {
        let Some(slot) = self.ends.get_mut(end).filter(|_| measured.probes > 0) else { return };
        self.begun = self.begun.or(Some(now));
        if measured.rtt_mean != Latency::ZERO {
            self.heard = Some(now);
        }
        let old = slot.filter(|sample| now.since(sample.at) <= FRESH);
        let worse = measured.loss_forward.max(measured.loss_backward);
        let mean = Some(measured.rtt_mean).filter(|mean| *mean != Latency::ZERO);
        let known = old.and_then(|sample| sample.rtt);
        let rtt = match (known, mean) {
            (Some(old), Some(new)) => Some(Latency::from_nanos(smooth(old.nanos(), new.nanos()))),
            // An old value of a link that used to answer says at least that.
            (None, None) => slot.and_then(|sample| sample.rtt),
            (old, new) => new.or(old),
        };
        let loss = old.map_or(worse, |sample| {
            Loss::from_ppm(smooth(u64::from(sample.loss.ppm()), u64::from(worse.ppm())) as u32)
        });
        *slot = Some(Sample { at: now, last: measured, rtt, loss });
    }

    fn of(&self, now: Timestamp) -> impl Iterator<Item = &Sample> {
        self.ends.iter().flatten().filter(move |sample| now.since(sample.at) <= FRESH)
    }

    /// When one of those that count now will be too old; it does still count at that moment.
    pub(super) fn expires(&self, now: Timestamp) -> Option<Timestamp> {
        self.of(now).map(|sample| sample.at.plus(FRESH)).min()
    }

    /// The lesser of both ends: what one of them has beyond that is its own.
    pub(super) fn rtt(&self, now: Timestamp) -> Known<Option<Latency>> {
        match self.of(now).filter_map(|sample| sample.rtt).min() {
            Some(rtt) => Known { value: Some(rtt), source: Source::Measured },
            None => Known { value: None, source: Source::Unknown },
        }
    }

    /// Of the last report of each end, the lesser: sooner right than the smoothed one, and oftener wrong.
    pub(super) fn last_rtt(&self, now: Timestamp) -> Option<Latency> {
        self.of(now).map(|sample| sample.last.rtt_mean).filter(|rtt| *rtt != Latency::ZERO).min()
    }

    /// Of ends that were answered once: where a firewall keeps all probes from a neighbour, or nobody there knows of them,
    /// nothing is known of the packets of circuits.
    pub(super) fn loss(&self, now: Timestamp) -> Known<Loss> {
        match self.of(now).filter(|sample| sample.rtt.is_some()).map(|sample| sample.loss).min() {
            Some(loss) => Known { value: loss, source: Source::Measured },
            None => Known { value: Loss::NONE, source: Source::Unknown },
        }
    }

    /// Every end that measured lately got nothing back, and one of them used to.
    pub(super) fn is_silent(&self, now: Timestamp) -> bool {
        self.of(now).any(|sample| sample.rtt.is_some()) && self.of(now).all(Sample::is_silent)
    }

    /// Every end that measured lately got nothing back, whether it ever did or not.
    pub(super) fn is_unanswered(&self, now: Timestamp) -> bool {
        self.of(now).next().is_some() && self.of(now).all(Sample::is_silent)
    }

    /// Since when nobody hears anything over it, if that is long enough to be no accident. Without a fresh measurement that
    /// is not known.
    pub(super) fn silence(&self, now: Timestamp) -> Option<Silence> {
        let (silence, since, lasts) = match (self.heard, self.begun) {
            (Some(at), _) => (Silence::Since(at), at, SILENT),
            (None, Some(at)) => (Silence::Ever(at), at, UNHEARD),
            (None, None) => return None,
        };
        let unanswered = self.newest(now).next().is_some() && self.newest(now).all(Sample::is_silent);
        (unanswered && now.since(since) >= lasts).then_some(silence)
    }

    /// Without an end that has stopped to report while the other one goes on.
    fn newest(&self, now: Timestamp) -> impl Iterator<Item = &Sample> {
        let last = self.of(now).map(|sample| sample.at).max();
        self.of(now).filter(move |sample| Some(sample.at) == last || now.since(sample.at) <= SILENT)
    }

    /// Whether a circuit that could not be placed by what was known `before` might be now.
    pub(super) fn is_better(&self, before: &Self, now: Timestamp) -> bool {
        let (old, new) = (before.rtt(now).value, self.rtt(now).value);
        let spoke = before.is_silent(now) && !self.is_silent(now);
        spoke || (new.is_some() && old.is_none())
    }

    pub(super) fn fresh(&self, ends: (&NodeName, &NodeName), now: Timestamp) -> Vec<(NodeName, Measured)> {
        let ends = [ends.0, ends.1].into_iter().zip(self.ends);
        let lately = |sample: &Sample| now.since(sample.at) <= FRESH;
        ends.filter_map(|(end, sample)| Some((end.clone(), sample.filter(lately)?.last))).collect()
    }
}

impl Sample {
    fn is_silent(&self) -> bool {
        self.last.rtt_mean == Latency::ZERO
    }
}

impl Link {
    /// A disabled one is not measured. True: something else is known now than before.
    pub(super) fn listen(&mut self, now: Timestamp) -> bool {
        let silence = self.samples.silence(now).filter(|_| !self.values.disabled);
        std::mem::replace(&mut self.silence, silence) != silence
    }
}

impl Topology {
    /// Whether something else is known now of the link's silence.
    pub fn listen(&mut self, id: &LinkId) -> bool {
        let Some(at) = self.edges.get(id) else { return false };
        self.graph[*at].listen(self.now)
    }
}

fn smooth(old: u64, new: u64) -> u64 {
    (u128::from(old) * u128::from(100 - WEIGHT) / 100 + u128::from(new) * u128::from(WEIGHT) / 100) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(second))
    }

    fn answered(millis: u64, loss: u32) -> Measured {
        let rtt = Latency::from_millis(millis);
        let loss = Loss::from_ppm(loss);
        Measured {
            probes: 50,
            rtt_min: rtt,
            rtt_mean: rtt,
            rtt_max: rtt,
            loss_backward: loss,
            ..Measured::default()
        }
    }

    fn nothing() -> Measured {
        Measured { probes: 50, loss_forward: Loss::ALL, loss_backward: Loss::ALL, ..Measured::default() }
    }

    #[test]
    fn the_lesser_of_both_ends_counts_smoothed() {
        let mut samples = Samples::default();
        samples.take(0, answered(10, 0), at(0));
        samples.take(1, answered(30, 100), at(0));
        assert_eq!(samples.rtt(at(1)).value, Some(Latency::from_millis(10)));
        samples.take(0, answered(20, 0), at(1));
        assert_eq!(samples.rtt(at(1)).value, Some(Latency::from_millis(13)));
        assert_eq!(samples.loss(at(1)).value, Loss::NONE);
    }

    #[test]
    fn an_old_measurement_is_none() {
        let mut samples = Samples::default();
        samples.take(0, answered(10, 0), at(0));
        assert_eq!(samples.rtt(at(30)).source, Source::Measured);
        assert_eq!(samples.rtt(at(31)), Known { value: None, source: Source::Unknown });
        samples.take(0, answered(50, 0), at(60));
        assert_eq!(samples.rtt(at(60)).value, Some(Latency::from_millis(50)));
    }

    #[test]
    fn only_a_link_that_used_to_answer_is_silent() {
        let mut samples = Samples::default();
        samples.take(0, nothing(), at(0));
        assert!(!samples.is_silent(at(0)), "a firewall may have kept the probes from the first");
        samples.take(0, answered(10, 0), at(1));
        samples.take(0, nothing(), at(2));
        assert!(samples.is_silent(at(2)));
        samples.take(1, answered(10, 0), at(2));
        assert!(!samples.is_silent(at(2)), "the other end hears it");
    }

    #[test]
    fn silence_is_said_when_it_lasts_and_ends_with_an_answer() {
        let mut samples = Samples::default();
        samples.take(0, answered(10, 0), at(1));
        samples.take(0, nothing(), at(3));
        assert_eq!(samples.silence(at(3)), None);
        samples.take(0, nothing(), at(6));
        assert_eq!(samples.silence(at(6)), Some(Silence::Since(at(1))));
        samples.take(1, answered(10, 0), at(7));
        assert_eq!(samples.silence(at(7)), None);
        let mut unheard = Samples::default();
        unheard.take(1, nothing(), at(0));
        unheard.take(1, nothing(), at(29));
        assert_eq!(unheard.silence(at(29)), None);
        unheard.take(1, nothing(), at(30));
        assert_eq!(unheard.silence(at(30)), Some(Silence::Ever(at(0))));
    }

    #[test]
    fn silence_is_said_in_time_when_one_end_stops_to_report() {
        let mut samples = Samples::default();
        samples.take(0, answered(10, 0), at(1));
        samples.take(1, nothing(), at(3));
        assert_eq!(samples.silence(at(6)), None, "the other end heard it not long ago");
        samples.take(1, nothing(), at(7));
        assert_eq!(samples.silence(at(7)), Some(Silence::Since(at(1))), "though this end never heard it");
        assert_eq!(samples.silence(at(37)), Some(Silence::Since(at(1))));
        assert_eq!(samples.silence(at(38)), None, "nobody has measured it lately");
    }

    #[test]
    fn an_end_that_was_never_answered_says_nothing_of_loss() {
        let mut samples = Samples::default();
        samples.take(0, nothing(), at(0));
        assert_eq!(samples.loss(at(0)), Known { value: Loss::NONE, source: Source::Unknown });
        assert!(samples.is_unanswered(at(0)) && !samples.is_unanswered(at(60)));
        samples.take(1, answered(10, 100_000), at(0));
        assert_eq!(samples.loss(at(0)).value, Loss::from_ppm(100_000), "the other end is heard");
        let mut silent = samples;
        silent.take(1, nothing(), at(1));
        assert!(
            silent.loss(at(1)).value > Loss::from_ppm(100_000),
            "who used to answer has lost what is not answered"
        );
    }

    #[test]
    fn what_becomes_known_or_speaks_again_is_better() {
        let unknown = Samples::default();
        let mut known = unknown;
        known.take(0, answered(10, 0), at(0));
        assert!(known.is_better(&unknown, at(0)));
        let mut same = known;
        same.take(0, answered(10, 0), at(1));
        assert!(!same.is_better(&known, at(1)));
        let mut silent = same;
        silent.take(0, nothing(), at(2));
        assert!(!silent.is_better(&same, at(2)));
        let mut back = silent;
        back.take(0, answered(10, 0), at(3));
        assert!(back.is_better(&silent, at(3)));
        let mut late = back;
        late.take(0, answered(10, 0), at(90));
        assert!(late.is_better(&back, at(90)), "what is too old is not known");
    }

    #[test]
    fn a_window_without_probes_says_nothing() {
        let mut samples = Samples::default();
        samples.take(0, Measured::default(), at(0));
        assert_eq!(samples.loss(at(0)).source, Source::Unknown);
    }
}
