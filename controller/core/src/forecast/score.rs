//! Runs forecasters over recorded series and says how good they were: what `foreweave replay` prints.
//!
//! Only samples up to a step are used for its forecasts; nothing is fitted on the part that is scored.
use super::bank::{Bank, Spec};
use super::mesh::{Config, FAR, Mesh};
use super::outlook::Outlook;
use super::slots::{self, Slot};
use std::time::Duration;

/// One value per link; NaN: not measured.
pub type Row = Vec<f32>;

/// Recorded samples, and what is taken for the truth: the same, or with short gaps filled.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub samples: &'a [Row],
    pub truth: &'a [Row],
    /// Forecasts *of* this step and later ones are scored; the steps before it scale MASE.
    pub scored_from: usize,
}

/// How good the forecasts at one horizon were.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Steps.
    pub ahead: usize,
    /// Mean absolute error of the median over the mean move from one step to the next in the part that is not scored
    /// (Hyndman and Koehler, 2006); per link, then the mean over the links. NaN: no link moved.
    pub mase: f64,
    /// The same error, not scaled, over all forecasts; unit of the samples.
    pub error: f64,
    /// Share of the truth within the bands that shall hold 98, 90 and 50 %.
    pub coverage: [f64; 3],
    /// Mean width of the 90 % band.
    pub width: f64,
    pub forecasts: u64,
}

/// How the upper bound of the load held.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundScore {
    /// Share of (step, link) at which the maximum of the next 12 steps was above the bound.
    pub violations: f64,
    /// Share of the headroom that there was (capacity less that maximum) that the bound would have let be used, where
    /// there was any: over all, and as the mean over (step, link).
    pub headroom: [f64; 2],
}

/// Bands of [`Score::coverage`]: positions of their ends in [`super::LEVELS`].
const BANDS: [(usize, usize); 3] = [(0, 6), (1, 5), (2, 4)];

/// What of one link's forecasts at one horizon was seen.
#[derive(Clone, Copy, Default)]
struct Sums {
    error: f64,
    hits: [u64; 3],
    width: f64,
    count: u64,
}

struct Judge<'a> {
    table: Table<'a>,
    aheads: &'a [usize],
    /// By horizon, then link.
    sums: Vec<Vec<Sums>>,
}

impl<'a> Judge<'a> {
    fn new(table: Table<'a>, aheads: &'a [usize]) -> Self {
        let links = table.samples.first().map_or(0, Vec::len);
        Self { table, aheads, sums: vec![vec![Sums::default(); links]; aheads.len()] }
    }

    /// Judges the forecasts made at step `now`.
    fn see(&mut self, now: usize, outlook: impl Fn(usize, usize) -> Option<Outlook>) {
        for (ahead, sums) in self.aheads.iter().zip(&mut self.sums) {
            let Some(row) = self.table.truth.get(now + ahead) else { continue };
            if now + ahead < self.table.scored_from {
                continue;
            }
            for (link, truth) in row.iter().enumerate() {
                let outlook = measured(*truth).and_then(|_| outlook(link, *ahead));
                outlook.iter().for_each(|outlook| sums[link].add(*truth, outlook));
            }
        }
    }

    fn scores(&self) -> Vec<Score> {
        let moves: Vec<Option<f64>> =
            (0..self.sums.first().map_or(0, Vec::len)).map(|link| self.mean_move(link)).collect();
        self.aheads.iter().zip(&self.sums).map(|(ahead, sums)| score(*ahead, sums, &moves)).collect()
    }

    fn mean_move(&self, link: usize) -> Option<f64> {
        let before = &self.table.truth[..self.table.scored_from.min(self.table.truth.len())];
        let moves = before.windows(2).filter_map(|pair| measured(pair[1][link] - pair[0][link]));
        let moves = moves.map(|step| f64::from(step.abs()));
        let (sum, count) = moves.fold((0.0, 0.0), |(sum, count), step| (sum + step, count + 1.0));
        Some(sum / count).filter(|mean| *mean > 0.0)
    }
}

impl Sums {
    fn add(&mut self, truth: f32, outlook: &Outlook) {
        let q = &outlook.quantiles;
        self.error += f64::from((truth - q[3]).abs());
        self.width += f64::from(q[5] - q[1]);
        self.count += 1;
        for (hits, (low, high)) in self.hits.iter_mut().zip(BANDS) {
            *hits += u64::from((q[low]..=q[high]).contains(&truth));
        }
    }
}

fn score(ahead: usize, sums: &[Sums], moves: &[Option<f64>]) -> Score {
    let all = |of: &dyn Fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
    let count = all(&|link| link.count as f64);
    let scaled = sums.iter().zip(moves).filter(|(link, _)| link.count > 0);
    let scaled: Vec<f64> =
        scaled.filter_map(|(link, step)| Some(link.error / link.count as f64 / (*step)?)).collect();
    Score {
        ahead,
        mase: scaled.iter().sum::<f64>() / scaled.len() as f64,
        error: all(&|link| link.error) / count,
        coverage: std::array::from_fn(|band| all(&|link| link.hits[band] as f64) / count),
        width: all(&|link| link.width) / count,
        forecasts: count as u64,
    }
}

fn measured(value: f32) -> Option<f32> {
    slots::measured(Some(value))
}

fn samples(row: &[f32]) -> Vec<Option<f32>> {
    row.iter().map(|value| measured(*value)).collect()
}

/// One quantity of many links, at these numbers of steps ahead.
pub fn bank(table: Table<'_>, spec: Spec, aheads: &[usize]) -> Vec<Score> {
    let mut bank = Bank::new(spec);
    let links = table.samples.first().map_or(0, Vec::len);
    let slots: Vec<Slot> = (0..links).map(|_| bank.join()).collect();
    let mut judge = Judge::new(table, aheads);
    for (now, row) in table.samples.iter().enumerate() {
        bank.step(&samples(row));
        judge.see(now, |link, ahead| bank.outlook(slots[link], ahead as f32));
    }
    judge.scores()
}

/// The loads of a network's links, Mbit/s, at these numbers of steps ahead (1 to 12); `capacities` per link, Mbit/s.
pub fn mesh(
    table: Table<'_>,
    period: Duration,
    aheads: &[usize],
    capacities: &[f32],
) -> (Vec<Score>, BoundScore) {
    let mut mesh = Mesh::new(Config::default(), period);
    let slots: Vec<Slot> = capacities.iter().map(|_| mesh.join()).collect();
    let mut judge = Judge::new(table, aheads);
    let mut ceiling = Ceiling::default();
    for (now, row) in table.samples.iter().enumerate() {
        mesh.step(&samples(row));
        judge.see(now, |link, ahead| mesh.outlook(slots[link], ahead as f32));
        if now >= table.scored_from && now + FAR < table.truth.len() {
            let next = &table.truth[now + 1..=now + FAR];
            slots.iter().zip(capacities).enumerate().for_each(|(link, (slot, capacity))| {
                let highest = next.iter().filter_map(|row| measured(row[link])).reduce(f32::max);
                if let (Some(highest), Some(bound)) = (highest, mesh.bound(*slot)) {
                    ceiling.add(highest, bound, *capacity);
                }
            });
        }
    }
    (judge.scores(), ceiling.score())
}

/// Gathers how a bound held, also one of another kind.
#[derive(Default)]
pub(crate) struct Ceiling {
    judged: f64,
    violated: f64,
    /// With headroom: used, there was, their quotients, how many.
    used: f64,
    free: f64,
    shares: f64,
    with_room: f64,
}

impl Ceiling {
    pub(crate) fn add(&mut self, highest: f32, bound: f32, capacity: f32) {
        self.judged += 1.0;
        self.violated += f64::from(u8::from(highest > bound));
        let free = capacity - highest;
        if free <= 0.01 * capacity {
            return;
        }
        // A bound below the truth is a violation, and lets no more be used than there was.
        let used = (capacity - bound).clamp(0.0, free);
        self.used += f64::from(used);
        self.free += f64::from(free);
        self.shares += f64::from(used / free);
        self.with_room += 1.0;
    }

    pub(crate) fn score(&self) -> BoundScore {
        BoundScore {
            violations: self.violated / self.judged,
            headroom: [self.used / self.free, self.shares / self.with_room],
        }
    }
}
