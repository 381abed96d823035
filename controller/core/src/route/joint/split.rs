//! Requests split over the paths that are known for them, as admits most: the relaxation as a linear programme.
//!
//! Its rows are the requests and those conditions of links and interfaces (see [`super::cuts`]) that the paths so far could
//! break; its columns are paths, which join while they are worth more than they cost (column generation; Ford, Fulkerson 1958).
use super::cuts::{CUTS, factor};
use super::improve::Board;
use super::rooms::{Rooms, Way};
use super::simplex::Simplex;
use super::work::Work;
use std::collections::BTreeMap;

/// A path has to gain so much of the largest request to join.
const GAIN: f64 = 1e-7;

pub(super) struct Split {
    rooms: Rooms,
    simplex: Simplex,
    /// Bits per second that count for 1.
    unit: f64,
    /// Those that were not placed.
    requests: Vec<Request>,
    /// By row of what is free and condition.
    conditions: BTreeMap<usize, Condition>,
}

struct Request {
    /// Of the board.
    at: usize,
    need: u64,
    /// In the programme.
    row: usize,
    /// Ways that have joined, with their columns.
    columns: Vec<(usize, usize)>,
}

/// What a link or an interface does not let be broken.
#[derive(Default)]
struct Condition {
    /// In the programme; none: no shares can break it so far.
    row: Option<usize>,
    /// The most that each request can take of it.
    most: BTreeMap<usize, f64>,
    /// The sum of these.
    sum: f64,
    /// Columns that take of it, and how much.
    entries: Vec<(usize, f64)>,
}

impl Split {
    /// Of the requests that are not placed, beside those that are.
    pub(super) fn new(board: &Board) -> Self {
        let mut simplex = Simplex::default();
        let request =
            |at| Request { at, need: board.need(at), row: simplex.add_row(&[]), columns: Vec::new() };
        let requests: Vec<Request> = board.open().into_iter().map(request).collect();
        let unit = requests.iter().map(|request| request.need).max().unwrap_or_default().max(1) as f64;
        Self { rooms: board.rooms().clone(), simplex, unit, requests, conditions: BTreeMap::new() }
    }

    /// As good as it gets with the paths that the board knows. False: the work was at its end before.
    pub(super) fn solve(&mut self, board: &Board, work: &mut Work) -> bool {
        while self.grow(board, work) {
            if !self.simplex.solve(work) {
                return false;
            }
        }
        !work.is_spent()
    }

    /// Of each request the path that gains most joins. False: none gains.
    fn grow(&mut self, board: &Board, work: &mut Work) -> bool {
        let mut grown = false;
        for place in 0..self.requests.len() {
            let Request { at, need, .. } = self.requests[place];
            let ways = board.ways(at).iter().enumerate();
            let looks = ways.clone().map(|(_, way)| way.rows.len() * CUTS).sum();
            if !work.spend(looks) {
                return false;
            }
            let fit = ways.filter(|(_, way)| self.rooms.fits(way, need));
            let gains = fit.map(|(index, way)| (self.gain(place, way), index));
            let best = gains.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let Some((_, index)) = best.filter(|(gain, _)| *gain > GAIN) else { continue };
            if self.requests[place].columns.iter().all(|(known, _)| *known != index) {
                self.join(place, index, &board.ways(at)[index]);
                grown = true;
            }
        }
        grown
    }

    fn gain(&self, place: usize, way: &Way) -> f64 {
        let Request { need, row, .. } = self.requests[place];
        let costs = self.takes(way, need).filter_map(|(condition, takes)| {
            let row = self.conditions.get(&condition)?.row?;
            Some(self.simplex.price(row) * takes)
        });
        need as f64 / self.unit - self.simplex.price(row) - costs.sum::<f64>()
    }

    /// The conditions in which a path counts, and how much.
    fn takes<'a>(&'a self, way: &'a Way, need: u64) -> impl Iterator<Item = (usize, f64)> + 'a {
        let takes = move |(row, times): &(u32, u32)| {
            let (row, free) = (*row, self.rooms.free(*row));
            let share = need as f64 / free.max(1) as f64 * f64::from(*times);
            (0..CUTS).map(move |cut| (row as usize * CUTS + cut, share * factor(need, free, cut)))
        };
        way.rows.iter().flat_map(takes).filter(|(_, takes)| *takes > 0.0)
    }

    fn join(&mut self, place: usize, index: usize, way: &Way) {
        let Request { need, row, .. } = self.requests[place];
        let takes: Vec<(usize, f64)> = self.takes(way, need).collect();
        let mut entries = vec![(row, 1.0)];
        for (condition, its) in &takes {
            let condition = self.conditions.entry(*condition).or_default();
            condition.count(place, *its);
            if condition.row.is_none() && condition.sum > 1.0 {
                condition.row = Some(self.simplex.add_row(&condition.entries));
            }
            entries.extend(condition.row.map(|row| (row, *its)));
        }
        let column = self.simplex.add_column(need as f64 / self.unit, entries);
        for (condition, its) in takes {
            if let Some(condition) = self.conditions.get_mut(&condition).filter(|known| known.row.is_none()) {
                condition.entries.push((column, its));
            }
        }
        self.requests[place].columns.push((index, column));
    }

    /// By row of what is free and condition, for each bit per second that counts there.
    pub(super) fn prices(&self) -> Vec<f64> {
        let mut prices = vec![0.0; self.rooms.len() * CUTS];
        for (at, condition) in &self.conditions {
            let free = self.rooms.free((at / CUTS) as u32).max(1) as f64;
            prices[*at] = condition.row.map_or(0.0, |row| self.simplex.price(row) * self.unit / free);
        }
        prices
    }

    /// Request, path and share, of all that have one.
    pub(super) fn shares(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        self.requests.iter().flat_map(|request| {
            let share = |(way, column): &(usize, usize)| (request.at, *way, self.simplex.share(*column));
            request.columns.iter().map(share).filter(|(.., share)| *share > 0.0)
        })
    }
}

impl Condition {
    fn count(&mut self, request: usize, takes: f64) {
        let most = self.most.entry(request).or_default();
        self.sum += (takes - *most).max(0.0);
        *most = most.max(takes);
    }
}
