//! How probable it is that a path breaks a bound within an intent's horizon, from what is forecast of its links.
use super::Judged;
use crate::forecast::{self, AHEAD, LEVELS, Spread};
use crate::settings::Reroute;
use crate::topology::{Link, Topology};
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::{Horizon, Latency, Loss, Risk, Timestamp};
use std::fmt;
use std::time::Duration;

/// A path is in less danger when that is less by so much, and this part of it at most: what forecasts do not tell apart is no
/// reason to move. Where a bound is surely broken anything that may keep it is better.
const MARGIN: f32 = 0.03;
const LESS: f32 = 0.85;

/// What is asked of a path, and how surely for how long.
#[derive(Clone, Copy, Debug)]
pub struct Promise<'a> {
    pub bounds: &'a Bounds,
    /// Probability with which a bound may be broken within the horizon.
    pub risk: f32,
    pub horizon: Duration,
}

impl fmt::Display for Breaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtt { most, bound } => {
                write!(f, "its round-trip time may reach {most}, {bound} is allowed")
            }
            Self::Loss { most, bound } => write!(f, "its loss may reach {most}, {bound} is allowed"),
        }
    }
}

impl<'a> Promise<'a> {
    pub fn of(bounds: &'a Bounds, settings: &Reroute) -> Self {
        let risk = bounds.risk.map_or(settings.risk, Risk::share);
        let horizon = bounds.horizon.map_or(settings.horizon, Horizon::span);
        Self { bounds, risk: risk as f32, horizon }
    }

    pub fn is_bound(&self) -> bool {
        self.bounds.max_rtt.is_some() || self.bounds.max_loss.is_some()
    }

    /// What may break on a path, as a sentence.
    pub fn doubt(&self, topology: &Topology, path: &Path) -> Option<String> {
        let what = Prospect::of(topology, path, self.horizon).first_broken(self)?;
        let (risk, horizon) = (self.risk * 100.0, self.horizon.as_secs());
        Some(format!("within {horizon} s, at a risk of {risk:.0} %, {what}"))
    }

    /// Of the paths that serve, the first that also does so at the risk comes before the others; these are told why.
    pub fn prefer_sure(&self, topology: &Topology, judged: &mut [Judged]) {
        let mut doubts = Vec::new();
        for one in judged.iter().take_while(|one| one.broken.is_empty()) {
            match self.doubt(topology, &one.candidate.path) {
                Some(doubt) => doubts.push(doubt),
                None => {
                    let sure = doubts.len();
                    judged.iter_mut().zip(doubts).for_each(|(one, doubt)| one.candidate.rejected.push(doubt));
                    return judged[..=sure].rotate_right(1);
                }
            }
        }
    }
}

/// A bound that may break, with what may come and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    Rtt { most: Latency, bound: Latency },
    Loss { most: Loss, bound: Loss },
}

/// A round-trip time and a loss that a path has.
#[derive(Clone, Copy, Debug)]
pub struct Values(pub Option<Latency>, pub Loss);

impl Values {
    fn breaks(&self, bounds: &Bounds) -> bool {
        bounds.max_rtt.is_some_and(|max| self.0.is_some_and(|rtt| rtt > max))
            || bounds.max_loss.is_some_and(|max| self.1 > max)
    }
}

/// What a path may be like after a span; a round-trip time that is not known is none.
#[derive(Clone, Copy, Debug)]
struct Moment {
    after: Duration,
    rtt: Option<Spread>,
    loss: Spread,
}

type Moments = [Option<Moment>; AHEAD.len()];

/// What is expected of a path up to a horizon.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// As measured lately.
    pub lately: Values,
    /// Round-trip time as of the last reports: what is now, if what comes is known too.
    last: Option<Latency>,
    /// After each span of [`AHEAD`] up to the horizon, and at the horizon; as far as anything is forecast.
    ahead: Moments,
}

impl Prospect {
    pub fn of(topology: &Topology, path: &Path, horizon: Duration) -> Self {
        let now = topology.now();
        let links: Vec<&Link> = path.links.iter().filter_map(|id| topology.link(id)).collect();
        let lately = links.iter().map(|link| link.lately(now));
        let lately =
            lately.fold(Values(Some(Latency::ZERO), Loss::NONE), |Values(sum, lost), (rtt, loss)| {
                Values(sum.zip(rtt).map(|(sum, rtt)| sum.saturating_add(rtt)), lost.then(loss))
            });
        let ahead = ahead(&links, now, horizon);
        let mut each = links.iter().map(|link| link.last_rtt(now));
        let last = each.try_fold(Latency::ZERO, |sum, rtt| Some(sum.saturating_add(rtt?)));
        Self { lately, last: last.filter(|_| ahead[0].is_some()), ahead }
    }

    /// What is broken as measured lately, or may be broken within the horizon with more than the risk.
    pub fn first_broken(&self, promise: &Promise<'_>) -> Option<Breaks> {
        let Values(rtt, loss) = self.most(promise.risk);
        let rtt = promise.bounds.max_rtt.zip(rtt).filter(|(bound, most)| most > bound);
        let loss = promise.bounds.max_loss.map(|bound| (bound, loss)).filter(|(bound, most)| most > bound);
        let rtt = rtt.map(|(bound, most)| Breaks::Rtt { most, bound });
        rtt.or_else(|| loss.map(|(bound, most)| Breaks::Loss { most, bound }))
    }

    /// Whether a bound is broken as measured lately.
    pub fn is_broken(&self, bounds: &Bounds) -> bool {
        self.lately.breaks(bounds)
    }

    /// Exceeded at none of the spans with more than the risk, nor lately. The spans share it (Bonferroni), as far as forecasts know
    /// of so rare things.
    pub fn most(&self, risk: f32) -> Values {
        let known = || self.ahead.iter().flatten();
        let level = 1.0 - risk / known().count().max(1) as f32;
        let high = |spread: &Spread| forecast::quantile(&spread.quantiles, level).max(spread.mean);
        let rtt = known().filter_map(|then| then.rtt.as_ref().map(high)).fold(0.0, f32::max);
        let loss = known().map(|then| high(&then.loss)).fold(0.0, f32::max);
        Values(
            self.lately
                .0
                .max(self.last)
                .map(|now| now.max(Latency::from_nanos((f64::from(rtt) * 1e6) as u64))),
            self.lately.1.max(Loss::from_ppm((f64::from(loss) * 1e6) as u32)),
        )
    }

    /// Share of the time until the horizon in which a bound is probably broken; the present is one span of it.
    pub fn danger(&self, bounds: &Bounds) -> f32 {
        let Values(lately, loss) = self.lately;
        let now = f32::from(u8::from(Values(self.last.or(lately), loss).breaks(bounds)));
        let chances = self.ahead.iter().flatten().map(|then| then.chance(bounds));
        let (sum, count) = chances.fold((now, 1.0), |(sum, count), chance| (sum + chance, count + 1.0));
        sum / count
    }

    pub fn is_in_less_danger(&self, other: &Self, bounds: &Bounds) -> bool {
        self.danger(bounds) + MARGIN < LESS * other.danger(bounds)
    }
}

impl Moment {
    /// Probability that a bound is broken.
    fn chance(&self, bounds: &Bounds) -> f32 {
        let late =
            |max: Latency| Some(forecast::chance_above(&self.rtt?.quantiles, max.as_millis_f64() as f32));
        let lossy = |max: Loss| forecast::chance_above(&self.loss.quantiles, max.ppm() as f32 / 1e6);
        let late = bounds.max_rtt.and_then(late).unwrap_or(0.0);
        1.0 - (1.0 - late) * (1.0 - bounds.max_loss.map_or(0.0, lossy))
    }

    /// On the way from here to a later one, by logarithms of time, as errors grow.
    fn towards(self, far: Self, at: Duration) -> Self {
        let ln = |span: Duration| span.as_secs_f32().ln();
        let share = (ln(at) - ln(self.after)) / (ln(far.after) - ln(self.after));
        let mix = |a: f32, b: f32| a + share * (b - a);
        let spread = |a: Spread, b: Spread| Spread {
            mean: mix(a.mean, b.mean),
            quantiles: std::array::from_fn(|level| mix(a.quantiles[level], b.quantiles[level])),
        };
        let rtt = self.rtt.zip(far.rtt).map(|(a, b)| spread(a, b));
        Self { after: at, rtt, loss: spread(self.loss, far.loss) }
    }
}

fn ahead(links: &[&Link], now: Timestamp, horizon: Duration) -> Moments {
    let mut all = [None; AHEAD.len()];
    let mut near: Option<Moment> = None;
    for (span, after) in AHEAD.into_iter().enumerate() {
        let Some((rtt, loss)) = of_path(links, now, span) else { break };
        let then = Moment { after, rtt, loss };
        if after >= horizon {
            all[span] = Some(near.map_or(then, |near| near.towards(then, horizon)));
            break;
        }
        all[span] = Some(then);
        near = Some(then);
    }
    all
}

/// Of the links of a path together. Links err by themselves, so that the spread of a path is less than the sum of its links'
/// spreads: squares add up. None: nothing is forecast so far ahead.
fn of_path(links: &[&Link], now: Timestamp, span: usize) -> Option<(Option<Spread>, Spread)> {
    let mut is_foreseen = false;
    let (mut rtt, mut loss) = (Some(Sum::default()), Sum::default());
    for link in links {
        is_foreseen |= link.is_foreseen(span);
        rtt = rtt.zip(link.rtt_after(span, now)).map(|(sum, rtt)| sum.and(&rtt));
        loss = loss.and(&link.loss_after(span, now));
    }
    is_foreseen.then(|| (rtt.map(Sum::spread), loss.spread()))
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    mean: f32,
    squares: [f32; LEVELS.len()],
}

impl Sum {
    fn and(mut self, spread: &Spread) -> Self {
        self.mean += spread.mean;
        for (sum, value) in self.squares.iter_mut().zip(spread.quantiles) {
            let off = value - spread.mean;
            *sum += off * off.abs();
        }
        self
    }

    fn spread(self) -> Spread {
        let quantiles = self.squares.map(|sum| self.mean + sum.signum() * sum.abs().sqrt());
        Spread { mean: self.mean, quantiles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(mean: f32, off: [f32; 7]) -> Spread {
        Spread { mean, quantiles: off.map(|off| mean + off) }
    }

    fn moment(after: Duration, millis: f32) -> Moment {
        Moment { after, rtt: Some(Spread::certain(millis)), loss: Spread::certain(0.0) }
    }

    #[test]
    fn spreads_of_links_add_up_as_squares_on_either_side() {
        let one = spread(10.0, [-3.0, -3.0, -1.0, 0.0, 1.0, 3.0, 3.0]);
        let other = spread(20.0, [-4.0, -4.0, -1.0, 0.0, 1.0, 4.0, 8.0]);
        let sum = Sum::default().and(&one).and(&other).spread();
        assert_eq!(sum.mean, 30.0);
        assert_eq!((sum.quantiles[0], sum.quantiles[3], sum.quantiles[5]), (25.0, 30.0, 35.0));
        assert!(sum.quantiles.is_sorted());
    }

    #[test]
    fn between_two_spans_it_is_between_their_distributions() {
        let at = |seconds: u64, mean: f32| moment(Duration::from_secs(seconds), mean);
        let between = at(1, 10.0).towards(at(100, 30.0), Duration::from_secs(10));
        assert_eq!(between.after, Duration::from_secs(10));
        assert!(between.rtt.is_some_and(|rtt| (rtt.mean - 20.0).abs() < 1e-4), "half the way in logarithms");
    }

    #[test]
    fn danger_is_the_share_of_moments_in_which_a_bound_is_probably_broken() {
        let bounds = Bounds { max_rtt: Some(Latency::from_millis(20)), ..Bounds::default() };
        let with = |now: u64, ahead: [f32; 2]| {
            let mut prospect = Prospect {
                lately: Values(Some(Latency::from_millis(now)), Loss::NONE),
                last: None,
                ahead: [None; AHEAD.len()],
            };
            for (slot, (after, millis)) in prospect.ahead.iter_mut().zip(AHEAD.into_iter().zip(ahead)) {
                *slot = Some(moment(after, millis));
            }
            prospect
        };
        let near = |danger: f32, share: f32| (danger - share).abs() < 0.01;
        assert!(near(with(10, [10.0, 10.0]).danger(&bounds), 0.0));
        assert!(near(with(10, [10.0, 30.0]).danger(&bounds), 1.0 / 3.0));
        assert!(near(with(30, [30.0, 30.0]).danger(&bounds), 1.0));
        let (falling, stuck) = (with(30, [25.0, 10.0]), with(30, [30.0, 30.0]));
        assert!(falling.is_in_less_danger(&stuck, &bounds) && !stuck.is_in_less_danger(&falling, &bounds));
        let promise = Promise { bounds: &bounds, risk: 0.05, horizon: AHEAD[1] };
        assert_eq!(with(10, [10.0, 10.0]).first_broken(&promise), None);
        let most = Latency::from_millis(30);
        let bound = Latency::from_millis(20);
        assert_eq!(with(10, [10.0, 30.0]).first_broken(&promise), Some(Breaks::Rtt { most, bound }));
    }
}
