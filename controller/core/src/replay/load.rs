//! How well the loads of a network's links are forecast, and how much may be admitted on such a forecast.
//!
//! The first half of the series is for learning, the second half is scored. MASE is the mean absolute error over the mean
//! step of the first half, per link, then the mean over the links (Hyndman and Koehler 2006).
use super::loads::Loads;
use super::seven;
use crate::forecast::score::{self, Ceiling, Table};
use std::time::Duration;

/// Steps ahead that are forecast.
const AHEAD: [usize; 2] = [1, FAR];
/// Steps over which a bound must hold.
const FAR: usize = 12;
/// Capacity of a link over its highest load: recorded networks are often so wide that any bound would do.
pub const CAPACITY_OVER_PEAK: f32 = 2.0;
/// Steps are compared with the same time yesterday.
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LoadReport {
    /// Directed ones that carry something.
    pub links: usize,
    pub steps: usize,
    #[serde(serialize_with = "super::table::as_seconds")]
    pub step: Duration,
    /// The first step that is scored.
    pub scored_from: usize,
    pub forecasts: Vec<Ahead>,
    pub bounds: Vec<Bound>,
}

/// MASE at one horizon; lower is better.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Ahead {
    pub steps: usize,
    pub last: f64,
    pub seven: f64,
    pub ours: f64,
    /// Share of the truth within our bands of 98, 90 and 50 %, in per cent.
    pub coverage: [f64; 3],
}

/// An upper bound of the highest load within the next twelve steps, as it held; per cent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Bound {
    pub title: &'static str,
    pub violations: f64,
    /// Of the capacity that stayed free, what the bound would have let be used: of all, and as the mean over links and steps.
    pub used: f64,
    pub used_mean: f64,
}

/// # Errors
/// Why there is nothing to score, with the numbers.
pub fn compare(loads: &Loads, step: Duration) -> Result<LoadReport, String> {
    let (links, steps) = (loads.links.len(), loads.frames.len());
    if links == 0 || steps < 4 * FAR {
        return Err(format!(
            "{links} links carry something in {steps} steps; at least 1 in {} are needed",
            4 * FAR
        ));
    }
    let scored_from = steps / 2;
    let table = Table { samples: &loads.frames, truth: &loads.frames, scored_from };
    let capacities: Vec<f32> = loads.peaks().iter().map(|peak| CAPACITY_OVER_PEAK * peak).collect();
    let (scores, ours) = score::mesh(table, step, &AHEAD, &capacities);
    let day = (DAY.as_secs_f64() / step.as_secs_f64()).round().max(1.0) as usize;
    let series = series(loads);
    let forecasts = scores.iter().map(|score| Ahead {
        steps: score.ahead,
        last: mean_mase(&series, score.ahead, |one| seven::last(one, score.ahead)),
        seven: mean_mase(&series, score.ahead, |one| seven::mix(one, score.ahead, day)),
        ours: score.mase,
        coverage: score.coverage.map(|share| 100.0 * share),
    });
    let simple = Simple::ALL.into_iter().map(|kind| bound(kind.title(), &kind.score(loads, &capacities)));
    Ok(LoadReport {
        links,
        steps,
        step,
        scored_from,
        forecasts: forecasts.collect(),
        bounds: std::iter::once(bound("ours", &ours)).chain(simple).collect(),
    })
}

fn bound(title: &'static str, score: &score::BoundScore) -> Bound {
    let [used, used_mean] = score.headroom.map(|share| 100.0 * share);
    Bound { title, violations: 100.0 * score.violations, used, used_mean }
}

fn series(loads: &Loads) -> Vec<Vec<f64>> {
    let one = |link: usize| loads.frames.iter().map(|frame| f64::from(frame[link])).collect();
    (0..loads.links.len()).map(one).collect()
}

fn mean_mase(series: &[Vec<f64>], ahead: usize, forecast: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    let scores: Vec<f64> = series.iter().filter_map(|one| seven::mase(one, &forecast(one), ahead)).collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// Bounds that need no model.
#[derive(Clone, Copy, Debug)]
enum Simple {
    /// The last load and a fifth.
    LastAndFifth,
    /// The highest of the last twelve steps, and 99 % of what that was exceeded by so far.
    HighestAndMisses,
    /// The same as a factor.
    HighestTimesMisses,
}

impl Simple {
    const ALL: [Self; 3] = [Self::LastAndFifth, Self::HighestAndMisses, Self::HighestTimesMisses];

    fn title(self) -> &'static str {
        match self {
            Self::LastAndFifth => "last × 1.2",
            Self::HighestAndMisses => "highest of 12 + 99 % of its misses",
            Self::HighestTimesMisses => "highest of 12 × (1 + 99 % of its misses)",
        }
    }

    fn score(self, loads: &Loads, capacities: &[f32]) -> score::BoundScore {
        let mut ceiling = Ceiling::default();
        for (link, capacity) in capacities.iter().enumerate() {
            let one: Vec<f32> = loads.frames.iter().map(|frame| frame[link]).collect();
            let mut misses = Vec::new();
            for now in FAR..one.len() - FAR {
                let (before, then) = (highest(&one[now + 1 - FAR..=now]), now - FAR);
                let base = highest(&one[(then + 1).saturating_sub(FAR)..=then]);
                let miss = self.miss(base, before);
                misses.insert(misses.partition_point(|other| *other < miss), miss);
                let next = highest(&one[now + 1..=now + FAR]);
                if now >= one.len() / 2 && !next.is_nan() && !before.is_nan() {
                    ceiling.add(next, self.bound(one[now], before, most(&misses)), *capacity);
                }
            }
        }
        ceiling.score()
    }

    fn miss(self, base: f32, highest: f32) -> f32 {
        match self {
            Self::LastAndFifth => 0.0,
            Self::HighestAndMisses => highest - base,
            Self::HighestTimesMisses => highest / base.max(1e-9) - 1.0,
        }
    }

    fn bound(self, last: f32, highest: f32, miss: f32) -> f32 {
        match self {
            Self::LastAndFifth => 1.2 * last,
            Self::HighestAndMisses => highest + miss,
            Self::HighestTimesMisses => highest * (1.0 + miss),
        }
    }
}

fn highest(loads: &[f32]) -> f32 {
    loads.iter().copied().fold(f32::NAN, f32::max)
}

/// The 99 % quantile of sorted values.
fn most(sorted: &[f32]) -> f32 {
    let at = (0.99 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::Chance;

    /// Days of 96 steps, noisy.
    fn days(links: usize, steps: usize) -> Loads {
        let mut chance = Chance(4);
        let mut frame = |step: usize| {
            let sun = (step as f32 * std::f32::consts::TAU / 96.0).sin();
            (0..links).map(|link| (10.0 + link as f32) * (2.0 + sun + 0.2 * chance.unit())).collect()
        };
        Loads {
            links: (0..links).map(|link| format!("l{link}")).collect(),
            frames: (0..steps).map(&mut frame).collect(),
        }
    }

    #[test]
    fn on_days_that_are_alike_ours_beats_the_last_value_and_its_bound_holds() {
        let report = compare(&days(6, 96 * 8), Duration::from_secs(900)).expect("a report");
        assert_eq!((report.links, report.steps, report.scored_from), (6, 768, 384));
        let far = &report.forecasts[1];
        assert_eq!(far.steps, 12);
        assert!(far.ours < 0.5 * far.last, "{far:?}");
        assert!(far.coverage[1] > 80.0 && far.coverage[0] >= far.coverage[1], "{far:?}");
        let [ours, last, ..] = &report.bounds[..] else { panic!("{report:?}") };
        assert!(ours.violations < 3.0 && ours.used > 80.0, "{ours:?}");
        assert!(last.violations > 10.0, "{last:?}");
    }

    #[test]
    fn the_quantile_is_that_of_what_was_missed() {
        let hundred: Vec<f32> = (1..=100_u8).map(f32::from).collect();
        assert_eq!((most(&hundred), most(&[7.0]), most(&[])), (99.0, 7.0, 0.0));
    }

    #[test]
    fn too_short_a_series_is_refused_with_the_numbers() {
        let why = compare(&days(2, 20), Duration::from_secs(900)).expect_err("too short");
        assert_eq!(why, "2 links carry something in 20 steps; at least 1 in 48 are needed");
    }
}
