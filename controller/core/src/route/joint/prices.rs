//! Prices of what is scarce, and a bound of what can be admitted: the dual of the linear relaxation.
//!
//! For any prices `λ ≥ 0` of a bit per second on each link and interface, no placement admits more than
//! `Σ free·λ + Σ need·max(0, 1 − λ(cheapest path))`, over all paths on whose links the request fits whole, and also when it is
//! split over those (weak duality; the least of these is the optimum of the relaxation). Each link has a price for each of its
//! conditions (see [`super::cuts`]), and a request pays by how much it counts for there. Prices are sought by subgradients with
//! Polyak's steps (1969), whose target is what the best placement so far admits.
use super::Wanted;
use super::cuts::{CUTS, factor};
use super::improve::Board;
use super::rooms::{Rooms, Way};
use crate::route::field::{Field, Step, row};
use crate::route::{Ask, paths};
use crate::topology::Topology;
use proto_model::Bandwidth;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use std::collections::BTreeSet;

/// Steps over links that one search of prices takes; more requests and links have fewer rounds.
const WORK: usize = 60_000_000;
const ROUNDS: std::ops::RangeInclusive<usize> = 30..=1_500;
/// Rounds without a better bound after which steps are halved.
const PATIENCE: usize = 20;
/// Every so many rounds the cheapest paths are offered to the requests.
const OFFER: usize = 5;
/// Of each link, so that where all is free the shortest path is the cheapest.
const HAIR: f64 = 1e-9;

#[derive(Clone, Debug)]
pub(super) struct Prices {
    /// By row and condition, for each bit per second that counts there.
    rows: Vec<f64>,
    /// What the rows had when the prices were made.
    rooms: Rooms,
    bound: f64,
}

/// Requests with the same need, ends and conditions, which go the same ways.
struct Group {
    field: usize,
    /// Bits per second of each.
    size: u64,
    ends: [u32; 2],
    members: Vec<usize>,
    /// Of all.
    need: f64,
}

/// What a round of routing by the prices found.
struct Round {
    bound: f64,
    /// By row and condition.
    load: Vec<f64>,
    /// By group, the links of its cheapest path.
    trails: Vec<Vec<Step>>,
}

impl Prices {
    /// Also the best placement that was tried on the way.
    pub(super) fn seek(
        topology: &Topology,
        weights: &Weights,
        wanted: &[&Wanted],
        board: &mut Board,
    ) -> (Self, Option<Board>) {
        let rooms = board.rooms().clone();
        let (fields, groups) = groups(topology, weights, wanted, board);
        let steps: usize = groups.iter().map(|group| fields[group.field].len()).sum();
        let rounds = (WORK / steps.max(1)).clamp(*ROUNDS.start(), *ROUNDS.end());
        let mut rows = vec![0.0; rooms.len() * CUTS];
        let mut best = Self { rows: rows.clone(), rooms: rooms.clone(), bound: f64::INFINITY };
        let mut tried = None;
        // First by the sums alone, which bring most of it; from there by all conditions.
        let (mut pace, mut idle, mut target, mut cuts) = (1.0, 0, 0.0_f64, 1);
        for round in 0..rounds {
            let found = route(topology, &rooms, &fields, &groups, &rows);
            if round % OFFER == 0 {
                offer(topology, weights, wanted, (&groups, &found.trails), board);
            }
            idle += 1;
            if found.bound < best.bound {
                idle = if found.bound < best.bound * (1.0 - 1e-4) { 0 } else { idle };
                best = Self { rows: rows.clone(), bound: found.bound, ..best };
            }
            if round % 50 == 20 {
                let mut trial = board.clone();
                trial.improve(&best);
                if trial.placed() as f64 > target {
                    target = trial.placed() as f64;
                    tried = Some(trial);
                }
            }
            if best.bound <= target * 1.001 || (pace < 1e-3 && cuts == CUTS) {
                break;
            }
            if cuts < CUTS && (pace < 1e-3 || 2 * round >= rounds) {
                (idle, pace, cuts) = (0, 0.5, CUTS);
                rows.clone_from(&best.rows);
                continue;
            }
            if idle >= PATIENCE {
                (idle, pace) = (0, pace / 2.0);
                rows.clone_from(&best.rows);
                continue;
            }
            follow(&mut rows, (&rooms, cuts), &found, pace, target);
        }
        (best, tried)
    }

    /// The most that any placement admits, in bits per second.
    pub(super) fn bound(&self) -> f64 {
        self.bound
    }

    /// Of a bit per second over this path, of a request that needs so much.
    pub(super) fn of(&self, way: &Way, need: u64) -> f64 {
        let price = |row| price(&self.rooms, &self.rows, row, need);
        way.rows.iter().map(|(row, times)| price(*row) * f64::from(*times)).sum()
    }
}

/// Against the gradient, in units of what each row has, by so many conditions of each.
fn follow(rows: &mut [f64], (rooms, cuts): (&Rooms, usize), found: &Round, pace: f64, target: f64) {
    let free = |row: usize| rooms.free((row / CUTS) as u32) as f64;
    let gradient = |row: usize| if free(row) > 0.0 { 1.0 - found.load[row] / free(row) } else { 0.0 };
    let pushes = |row: &usize| row % CUTS < cuts && (rows[*row] > 0.0 || gradient(*row) < 0.0);
    let square: f64 = (0..rows.len()).filter(pushes).map(|row| gradient(row).powi(2)).sum();
    if square <= 0.0 {
        return;
    }
    let step = pace * (found.bound - target).max(found.bound * 1e-3) / square;
    let push = |row: usize| if row % CUTS < cuts { gradient(row) / free(row).max(1.0) } else { 0.0 };
    let pushes: Vec<f64> = (0..rows.len()).map(push).collect();
    for (price, push) in rows.iter_mut().zip(pushes) {
        *price = (*price - step * push).max(0.0);
    }
}

fn groups(
    topology: &Topology,
    weights: &Weights,
    wanted: &[&Wanted],
    board: &Board,
) -> (Vec<Field>, Vec<Group>) {
    let (mut fields, mut known): (Vec<Field>, Vec<Bounds>) = (Vec::new(), Vec::new());
    let mut groups: Vec<Group> = Vec::new();
    for (at, request) in wanted.iter().enumerate() {
        let (Some(from), Some(to)) = (topology.place(&request.from), topology.place(&request.to)) else {
            continue;
        };
        // All links that it may use; what they have left is looked at later.
        let conditions = Bounds {
            bandwidth: Bandwidth::ZERO,
            max_rtt: None,
            max_loss: None,
            max_price: None,
            via: BTreeSet::new(),
            ..request.bounds.clone()
        };
        let field = known.iter().position(|bounds| *bounds == conditions).unwrap_or_else(|| {
            let ask = Ask {
                from: &request.from,
                to: &request.to,
                bounds: &conditions,
                pinned: None,
                shun: &BTreeSet::new(),
                limit: 1,
            };
            let query = paths::Query {
                topology,
                weights,
                ask: &ask,
                from,
                to,
                pinned: None,
                strict: true,
                beside: None,
            };
            fields.push(Field::new(&query, 1));
            known.push(conditions);
            fields.len() - 1
        });
        let (ends, need) = ([row(from), row(to)], board.need(at) as f64);
        let size = board.need(at);
        let same = |group: &&mut Group| (group.field, group.size, group.ends) == (field, size, ends);
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.members.push(at);
                group.need += need;
            }
            None => groups.push(Group { field, size, ends, members: vec![at], need }),
        }
    }
    groups.sort_by_key(|group| (group.size, group.field, group.ends[1]));
    (fields, groups)
}

/// Everybody goes by the cheapest path, if that costs less than it is worth.
fn route(topology: &Topology, rooms: &Rooms, fields: &[Field], groups: &[Group], rows: &[f64]) -> Round {
    let mut load = vec![0.0; rows.len()];
    let mut bound: f64 = (0..rows.len()).map(|row| rows[row] * rooms.free((row / CUTS) as u32) as f64).sum();
    let mut trails = Vec::with_capacity(groups.len());
    let mut tree: Option<((usize, u64, u32), Vec<f64>)> = None;
    let mut priced: Option<(u64, Vec<f64>)> = None;
    for Group { field, size, ends: [from, to], need, .. } in groups {
        if priced.as_ref().is_none_or(|(known, _)| known != size) {
            let all = 0..rooms.len() as u32;
            priced = Some((*size, all.map(|row| price(rooms, rows, row, *size)).collect()));
        }
        let Some((_, prices)) = &priced else { continue };
        let price = |step: &Step| HAIR + along(topology, rooms, prices, step);
        if tree.as_ref().is_none_or(|(known, _)| *known != (*field, *size, *to)) {
            tree = Some(((*field, *size, *to), fields[*field].least(*to, f64::INFINITY, price)));
        }
        let Some((_, least)) = &tree else { continue };
        // Without the hairs, of which no path has more than there are hosts.
        let hairs = HAIR * fields[*field].hosts() as f64;
        let worth = 1.0 - (least[*from as usize] - hairs).max(0.0);
        let trail = if worth > 0.0 { fields[*field].way(*from, least, price) } else { Vec::new() };
        if worth > 0.0 {
            bound += need * worth;
            for step in &trail {
                each_row(topology, rooms, step, |row| {
                    let load = &mut load[row as usize * CUTS..][..CUTS];
                    let free = rooms.free(row);
                    let counts = load.iter_mut().enumerate();
                    counts.for_each(|(cut, load)| *load += need * factor(*size, free, cut));
                });
            }
        }
        trails.push(trail);
    }
    Round { bound, load, trails }
}

/// Of a bit per second of a request that needs so much. Infinite where there is no room for all of it: none is split.
fn price(rooms: &Rooms, rows: &[f64], row: u32, need: u64) -> f64 {
    let free = rooms.free(row);
    if free < need {
        return f64::INFINITY;
    }
    let prices = rows[row as usize * CUTS..][..CUTS].iter().enumerate();
    prices.filter(|(_, price)| **price > 0.0).map(|(cut, price)| price * factor(need, free, cut)).sum()
}

fn along(topology: &Topology, rooms: &Rooms, prices: &[f64], step: &Step) -> f64 {
    let mut sum = 0.0;
    each_row(topology, rooms, step, |row| sum += prices[row as usize]);
    sum
}

fn each_row(topology: &Topology, rooms: &Rooms, step: &Step, mut with: impl FnMut(u32)) {
    let Some(road) = topology.roads().get(step.link()) else { return };
    with(Rooms::row_of_link(step.link()));
    road.ports.into_iter().flatten().for_each(|port| with(rooms.row_of_port(port)));
}

/// Paths that are cheap by the prices, as far as they keep the requests' bounds.
fn offer(
    topology: &Topology,
    weights: &Weights,
    wanted: &[&Wanted],
    (groups, trails): (&[Group], &[Vec<Step>]),
    board: &mut Board,
) {
    for (group, trail) in groups.iter().zip(trails).filter(|(_, trail)| !trail.is_empty()) {
        let Some(trail) = paths::Trail::of(group.ends[0], trail) else { continue };
        for at in &group.members {
            let request = wanted[*at];
            if request.pinned.is_some() {
                continue;
            }
            let ask = Ask {
                from: &request.from,
                to: &request.to,
                bounds: &request.bounds,
                pinned: None,
                shun: &BTreeSet::new(),
                limit: 1,
            };
            let judged = crate::route::judge_one(topology, weights, &ask, &trail);
            if judged.broken.is_empty() {
                let way = board.rooms().way(topology, judged.candidate.path);
                way.into_iter().for_each(|way| board.add_way(*at, way));
            }
        }
    }
}
