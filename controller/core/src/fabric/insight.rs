//! Says what a plan leaves open: what would change it, and what is expected of its paths, as far as several horizons.
use super::Fabric;
use crate::record::Record;
use crate::route::{self, flips};
use crate::topology::{Link, Source};
use proto_model::circuit::Path;
use proto_model::insight::{Happened, Insight, LinkOutlook, Origin, Past, PathOutlook};
use proto_model::plan::Plan;
use proto_model::topology::{Forecast, LinkId, Quantity};
use proto_model::{CircuitId, Loss, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// How far it is looked ahead for people, beside the horizon that decisions go by.
const HORIZONS: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
];
/// Candidates of which it is said what is expected; the others are dearer.
const SHOWN: usize = 16;
const QUANTITIES: [Quantity; 2] = [Quantity::Rtt, Quantity::Loss];

/// What a link adds to a path.
enum Part {
    /// As configured, or as measured lately where there is no forecast.
    Fixed {
        value: u64,
        is_configured: bool,
    },
    Expected(Forecast),
}

impl Fabric {
    /// For whoever asked; `past` is empty for a dry run.
    pub(super) fn with_insight(&self, plan: Plan, past: Vec<Past>, now: Timestamp) -> Plan {
        let horizons = self.horizons();
        let shown = || plan.candidates.iter().take(SHOWN).enumerate();
        let path = |(candidate, shown): (usize, &proto_model::plan::Candidate)| {
            let forecasts = self.forecasts_of_path(&shown.path, &horizons);
            (!forecasts.is_empty()).then_some(PathOutlook { candidate, forecasts })
        };
        let paths = shown().filter_map(path).collect();
        let mut seen = BTreeSet::new();
        let links =
            shown().flat_map(|(_, candidate)| &candidate.path.links).filter(|link| seen.insert(*link));
        let links = links.filter_map(|link| self.outlook_of_link(link, &horizons)).collect();
        let insight = Insight { at: now, flips: flips::flips(&plan), paths, links, past };
        Plan { insight: Some(insight), ..plan }
    }

    fn horizons(&self) -> Vec<Duration> {
        let all = HORIZONS.into_iter().chain([self.settings.reroute.horizon]);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn outlook_of_link(&self, id: &LinkId, horizons: &[Duration]) -> Option<LinkOutlook> {
        let link = self.topology.link(id)?;
        let (rtt, loss) = (link.rtt(self.topology.now()), link.loss(self.topology.now()));
        let each = QUANTITIES.into_iter().flat_map(|quantity| horizons.iter().map(move |at| (quantity, *at)));
        let forecasts =
            each.filter_map(|(quantity, horizon)| self.forecast_of(id, quantity, horizon)).collect();
        Some(LinkOutlook {
            link: id.clone(),
            rtt: rtt.value,
            rtt_from: origin(rtt.source),
            loss: loss.value,
            loss_from: origin(loss.source),
            forecasts,
        })
    }

    fn forecasts_of_path(&self, path: &Path, horizons: &[Duration]) -> Vec<Forecast> {
        let each = QUANTITIES.into_iter().flat_map(|quantity| horizons.iter().map(move |at| (quantity, *at)));
        each.filter_map(|(quantity, horizon)| self.forecast_of_path(path, quantity, horizon)).collect()
    }

    /// None: something of it is not known, or nothing of it is forecast.
    pub(super) fn forecast_of_path(
        &self,
        path: &Path,
        quantity: Quantity,
        horizon: Duration,
    ) -> Option<Forecast> {
        let parts: Vec<Part> =
            path.links.iter().map(|id| self.part(id, quantity, horizon)).collect::<Option<_>>()?;
        combined(&parts, quantity, horizon)
    }

    fn part(&self, id: &LinkId, quantity: Quantity, horizon: Duration) -> Option<Part> {
        let present = self.topology.link(id).and_then(|link| self.present(link, quantity));
        if let Some((value, Origin::Configured)) = present {
            return Some(Part::Fixed { value, is_configured: true });
        }
        let forecast = self.forecast_of(id, quantity, horizon).map(Part::Expected);
        forecast.or_else(|| present.map(|(value, _)| Part::Fixed { value, is_configured: false }))
    }

    /// What decisions go by now; none: it is not known.
    pub(super) fn present(&self, link: &Link, quantity: Quantity) -> Option<(u64, Origin)> {
        let now = self.topology.now();
        match quantity {
            Quantity::Rtt => {
                let rtt = link.rtt(now);
                rtt.value.map(|value| (value.nanos(), origin(rtt.source)))
            }
            Quantity::Loss => {
                let loss = link.loss(now);
                Some((loss.value.ppm().into(), origin(loss.source)))
            }
            Quantity::Load => {
                let used = link.used();
                Some((used.value.bits_per_second(), origin(used.source)))
            }
        }
    }

    /// As far ahead as decisions look; of round-trip time, then loss.
    pub(super) fn expected_of(&self, path: &Path) -> Vec<Forecast> {
        self.forecasts_of_path(path, &[self.settings.reroute.horizon])
    }

    /// Keeps it in the circuit's past.
    pub(super) fn note_past(
        &mut self,
        id: CircuitId,
        what: Happened,
        ways: [Option<Path>; 2],
        why: String,
        now: Timestamp,
    ) {
        let [from, to] = ways;
        let expected =
            |path: &Option<Path>| path.as_ref().map(|path| self.expected_of(path)).unwrap_or_default();
        let (of_from, of_to) = (expected(&from), expected(&to));
        self.keep(id, Past { at: now, what, from, to, why, of_from, of_to });
    }

    pub(super) fn note_placed(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let Some(path) = circuit.phase.route().map(|route| route.path.clone()) else { return };
        let why = match (&circuit.spec.pinned_path, &circuit.decision) {
            (Some(_), _) => "the caller fixed the path".to_owned(),
            (None, Some(plan)) => why_chosen(plan),
            (None, None) => String::new(),
        };
        self.note_past(id, Happened::Placed, [None, Some(path)], why, now);
    }

    /// So that the explanation names the path that it is on.
    pub(super) fn note_promotion(&mut self, id: CircuitId, path: &Path) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let Some(plan) = circuit.decision.as_mut() else { return };
        let at = plan.candidates.iter().position(|candidate| candidate.path == *path);
        let at = at.or_else(|| {
            // One that was too dear to be kept.
            let weights = plan.weights;
            let candidate = route::examine(&self.topology, &weights, &circuit.spec.bounds, path)?;
            plan.candidates.truncate(self.settings.limits.kept_candidates.saturating_sub(1));
            plan.candidates.push(candidate);
            Some(plan.candidates.len() - 1)
        });
        if at.is_some() {
            plan.chosen = at;
            self.step.put(Record::Decision(id, plan.as_ref().clone()));
        }
    }

    pub(super) fn keep(&mut self, id: CircuitId, past: Past) {
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.past.add(past);
        }
    }
}

/// `it costs 12.50, the least of 3 paths that serve; the next, a → y → b, 15.20`.
fn why_chosen(plan: &Plan) -> String {
    let Some(chosen) = plan.chosen.and_then(|index| plan.candidates.get(index)) else { return String::new() };
    let serving = || plan.candidates.iter().filter(|candidate| candidate.rejected.is_empty());
    let others = serving().filter(|other| other.path != chosen.path);
    match others.min_by(|a, b| a.cost.total_cmp(&b.cost)) {
        None => format!("it costs {:.2}; no other path serves", chosen.cost),
        Some(next) => {
            let (cost, count) = (chosen.cost, serving().count());
            format!(
                "it costs {cost:.2}, {count} paths serve; the next, {}, costs {:.2}",
                next.path, next.cost
            )
        }
    }
}

pub(super) fn origin(source: Source) -> Origin {
    match source {
        Source::Configured => Origin::Configured,
        Source::Measured => Origin::Measured,
        Source::Forecast => Origin::Forecast,
        Source::Unknown => Origin::Unknown,
    }
}

/// Means add up. What links err by is their own, so that squares of it add up, for each quantile by itself.
fn combined(parts: &[Part], quantity: Quantity, horizon: Duration) -> Option<Forecast> {
    let expected = || {
        parts.iter().filter_map(|part| match part {
            Part::Expected(forecast) => Some(forecast),
            Part::Fixed { .. } => None,
        })
    };
    let widest = expected().max_by_key(|forecast| forecast.quantiles[5] - forecast.quantiles[1])?;
    let mean = together(parts.iter().map(Part::mean), quantity);
    let most = if quantity == Quantity::Loss { f64::from(Loss::ALL.ppm()) } else { f64::MAX };
    let quantile = |index: usize| {
        let squares: f64 = expected()
            .map(|forecast| {
                let off = forecast.quantiles[index] as f64 - forecast.mean as f64;
                off * off.abs()
            })
            .sum();
        (mean as f64 + squares.signum() * squares.abs().sqrt()).clamp(0.0, most) as u64
    };
    let error = expected().map(|forecast| (forecast.error as f64).powi(2)).sum::<f64>().sqrt();
    Some(Forecast {
        quantity,
        horizon,
        mean,
        quantiles: std::array::from_fn(quantile),
        error: error as u64,
        model: widest.model.clone(),
        samples: expected().map(|forecast| forecast.samples).min().unwrap_or(0),
        counts: parts.iter().all(Part::counts),
    })
}

impl Part {
    fn mean(&self) -> u64 {
        match self {
            Self::Fixed { value, .. } => *value,
            Self::Expected(forecast) => forecast.mean,
        }
    }

    fn counts(&self) -> bool {
        match self {
            Self::Fixed { is_configured, .. } => *is_configured,
            Self::Expected(forecast) => forecast.counts,
        }
    }
}

/// Of the links of a path.
pub(super) fn together(values: impl Iterator<Item = u64>, quantity: Quantity) -> u64 {
    match quantity {
        Quantity::Rtt => values.fold(0, u64::saturating_add),
        Quantity::Loss => {
            let loss = |ppm: u64| Loss::from_ppm(u32::try_from(ppm).unwrap_or(u32::MAX));
            values.fold(Loss::NONE, |all, next| all.then(loss(next))).ppm().into()
        }
        Quantity::Load => values.max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(quantiles: [u64; 7]) -> Forecast {
        let mean = quantiles[3];
        let (quantity, horizon) = (Quantity::Rtt, Duration::from_secs(60));
        let model = format!("m{}", quantiles[6]);
        Forecast { quantity, horizon, mean, quantiles, error: 3, model, samples: 9, counts: true }
    }

    #[test]
    fn spreads_of_a_path_add_up_as_squares_and_what_is_configured_has_none() {
        let one = forecast([60, 70, 90, 100, 110, 130, 140]);
        let other = forecast([160, 160, 190, 200, 210, 240, 260]);
        let fixed = Part::Fixed { value: 50, is_configured: true };
        let parts = [Part::Expected(one), fixed, Part::Expected(other)];
        let path = combined(&parts, Quantity::Rtt, Duration::from_secs(60)).expect("a forecast");
        assert_eq!(path.mean, 350);
        assert_eq!(path.quantiles, [293, 300, 335, 350, 364, 400, 422]);
        assert!(path.quantiles.is_sorted());
        assert_eq!((path.error, path.model.as_str(), path.counts), (4, "m260", true));
    }

    #[test]
    fn a_path_of_which_nothing_is_forecast_has_no_forecast() {
        let fixed = || Part::Fixed { value: 50, is_configured: true };
        assert_eq!(combined(&[fixed(), fixed()], Quantity::Rtt, Duration::from_secs(60)), None);
    }

    #[test]
    fn losses_of_links_come_one_after_the_other() {
        assert_eq!(together([500_000, 500_000].into_iter(), Quantity::Loss), 750_000);
        assert_eq!(together([5, 7].into_iter(), Quantity::Rtt), 12);
    }
}
