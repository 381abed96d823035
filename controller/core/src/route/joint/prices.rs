//! Prices of what is scarce, and a bound of what can be admitted: the dual of the linear relaxation.
//!
//! For any prices `λ ≥ 0` of a bit per second on each link and interface, no placement admits more than
//! `Σ free·λ + Σ need·max(0, 1 − λ(cheapest path))`, over all paths and also when requests are split (weak duality; the
//! least of these is the optimum of the relaxation). Prices are sought by subgradients with Polyak's steps (1969), whose
//! target is what the best placement so far admits.
use super::Wanted;
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
    /// By row, for each bit per second.
    rows: Vec<f64>,
    bound: f64,
}

/// Requests with the same ends and conditions, which go the same ways.
struct Group {
    field: usize,
    ends: [u32; 2],
    members: Vec<usize>,
    need: f64,
}

/// What a round of routing by the prices found.
struct Round {
    bound: f64,
    load: Vec<f64>,
    /// By group, the links of its cheapest path.
    trails: Vec<Vec<Step>>,
}

impl Prices {
    pub(super) fn seek(
        topology: &Topology,
        weights: &Weights,
        wanted: &[&Wanted],
        board: &mut Board,
    ) -> Self {
        let rooms = board.rooms().clone();
        let (fields, groups) = groups(topology, weights, wanted, board);
        let steps: usize = groups.iter().map(|group| fields[group.field].len()).sum();
        let rounds = (WORK / steps.max(1)).clamp(*ROUNDS.start(), *ROUNDS.end());
        let mut rows = vec![0.0; rooms.len()];
        let mut best = Self { rows: rows.clone(), bound: f64::INFINITY };
        let (mut pace, mut idle, mut target) = (1.0, 0, 0.0_f64);
        for round in 0..rounds {
            let found = route(topology, &rooms, &fields, &groups, &rows);
            if round % OFFER == 0 {
                offer(topology, weights, wanted, (&groups, &found.trails), board);
            }
            idle += 1;
            if found.bound < best.bound {
                idle = if found.bound < best.bound * (1.0 - 1e-4) { 0 } else { idle };
                best = Self { rows: rows.clone(), bound: found.bound };
            }
            if round % 50 == 20 {
                let mut trial = board.clone();
                trial.improve(&best);
                target = target.max(trial.placed() as f64);
            }
            if best.bound <= target * 1.001 || pace < 1e-3 {
                break;
            }
            if idle >= PATIENCE {
                (idle, pace) = (0, pace / 2.0);
                rows.clone_from(&best.rows);
                continue;
            }
            follow(&mut rows, &rooms, &found, pace, target);
        }
        best
    }

    /// The most that any placement admits, in bits per second.
    pub(super) fn bound(&self) -> f64 {
        self.bound
    }

    /// Of a bit per second over this path.
    pub(super) fn of(&self, way: &Way) -> f64 {
        way.rows.iter().map(|(row, times)| self.rows[*row as usize] * f64::from(*times)).sum()
    }
}

/// Against the gradient, in units of what each row has.
fn follow(rows: &mut [f64], rooms: &Rooms, found: &Round, pace: f64, target: f64) {
    let free = |row: usize| rooms.free(row as u32) as f64;
    let gradient = |row: usize| if free(row) > 0.0 { 1.0 - found.load[row] / free(row) } else { 0.0 };
    let pushes = |row: &usize| rows[*row] > 0.0 || gradient(*row) < 0.0;
    let square: f64 = (0..rows.len()).filter(pushes).map(|row| gradient(row).powi(2)).sum();
    if square <= 0.0 {
        return;
    }
    let step = pace * (found.bound - target).max(found.bound * 1e-3) / square;
    let pushes: Vec<f64> = (0..rows.len()).map(|row| gradient(row) / free(row).max(1.0)).collect();
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
        // All links that it may use, whatever they have free: the bound is of the whole relaxation.
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
        match groups.iter_mut().find(|group| group.field == field && group.ends == ends) {
            Some(group) => {
                group.members.push(at);
                group.need += need;
            }
            None => groups.push(Group { field, ends, members: vec![at], need }),
        }
    }
    groups.sort_by_key(|group| (group.field, group.ends[1]));
    (fields, groups)
}

/// Everybody goes by the cheapest path, if that costs less than it is worth.
fn route(topology: &Topology, rooms: &Rooms, fields: &[Field], groups: &[Group], rows: &[f64]) -> Round {
    let price = |step: &Step| HAIR + price(topology, rooms, rows, step);
    let mut load = vec![0.0; rows.len()];
    let mut bound: f64 = (0..rows.len()).map(|row| rows[row] * rooms.free(row as u32) as f64).sum();
    let mut trails = Vec::with_capacity(groups.len());
    let mut tree: Option<(usize, u32, Vec<f64>)> = None;
    for Group { field, ends: [from, to], need, .. } in groups {
        if tree.as_ref().is_none_or(|(known, goal, _)| (known, goal) != (field, to)) {
            tree = Some((*field, *to, fields[*field].least(*to, f64::INFINITY, price)));
        }
        let Some((_, _, least)) = &tree else { continue };
        // Without the hairs, of which no path has more than there are hosts.
        let hairs = HAIR * fields[*field].hosts() as f64;
        let worth = 1.0 - (least[*from as usize] - hairs).max(0.0);
        let trail = if worth > 0.0 { fields[*field].way(*from, least, price) } else { Vec::new() };
        if worth > 0.0 {
            bound += need * worth;
            for step in &trail {
                each_row(topology, rooms, step, |row| load[row as usize] += need);
            }
        }
        trails.push(trail);
    }
    Round { bound, load, trails }
}

fn price(topology: &Topology, rooms: &Rooms, rows: &[f64], step: &Step) -> f64 {
    let mut sum = 0.0;
    each_row(topology, rooms, step, |row| sum += rows[row as usize]);
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
