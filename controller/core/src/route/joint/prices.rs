//! Prices of what is scarce, and a bound of what can be admitted: the dual of the linear relaxation.
//!
//! For any prices `λ ≥ 0` of a bit per second on each link and interface, no placement admits more than
//! `Σ free·λ + Σ need·max(0, 1 − λ(cheapest path))`, over all paths on whose links the request fits whole, and also when it is
//! split over those (weak duality; the least of these is the optimum of the relaxation). So the bound is one whenever the search
//! ends. Each link has a price for each of its conditions (see [`super::cuts`]), and a request pays by how much it counts for
//! there. Prices are those of the best split over the paths that are known (see [`super::split`]); the cheapest paths by them,
//! over all links, join these until none is new.
use super::Wanted;
use super::cuts::{CUTS, factor};
use super::improve::Board;
use super::rooms::{Rooms, Way};
use super::split::Split;
use super::work::Work;
use crate::route::field::{Field, Step, row};
use crate::route::{Ask, paths};
use crate::topology::Topology;
use proto_model::Bandwidth;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use std::collections::BTreeSet;

/// Looks that a step of a search over links is worth.
const LOOKS: usize = 4;
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
    /// By group, the links of its cheapest path.
    trails: Vec<Vec<Step>>,
}

impl Prices {
    /// Also the split that they come from. Ends when no path is cheaper than it is worth by them, or with the work.
    pub(super) fn seek(
        topology: &Topology,
        weights: &Weights,
        wanted: &[&Wanted],
        board: &mut Board,
        work: &mut Work,
    ) -> (Self, Split) {
        let rooms = board.rooms().clone();
        let (fields, groups) = groups(topology, weights, wanted, board);
        let looks = looks(&fields, &groups, &rooms);
        let mut split = Split::new(board);
        let mut best = Self { rows: vec![0.0; rooms.len() * CUTS], rooms, bound: f64::INFINITY };
        loop {
            let solved = split.solve(board, work);
            if !work.spend(looks) {
                return (best, split);
            }
            let rows = split.prices();
            let found = route(topology, &best.rooms, &fields, &groups, &rows);
            if found.bound < best.bound {
                best = Self { rows, bound: found.bound, ..best };
            }
            let offered = offer(topology, weights, wanted, (&groups, &found.trails), board);
            if !solved || !offered {
                return (best, split);
            }
        }
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

/// That one round of [`route`] takes.
fn looks(fields: &[Field], groups: &[Group], rooms: &Rooms) -> usize {
    let all = groups.iter().zip(groups.iter().skip(1));
    let sizes = 1 + all.clone().filter(|(a, b)| a.size != b.size).count();
    let tree = |group: &Group| (group.field, group.size, group.ends[1]);
    let trees = all.filter(|(a, b)| tree(a) != tree(b)).map(|(_, group)| group).chain(groups.first());
    sizes * rooms.len() + trees.map(|group| fields[group.field].len() * LOOKS).sum::<usize>()
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
        bound += need * worth.max(0.0);
        trails.push(if worth > 0.0 { fields[*field].way(*from, least, price) } else { Vec::new() });
    }
    Round { bound, trails }
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

/// Paths that are cheap by the prices, as far as they keep the requests' bounds. True: some of them are new.
fn offer(
    topology: &Topology,
    weights: &Weights,
    wanted: &[&Wanted],
    (groups, trails): (&[Group], &[Vec<Step>]),
    board: &mut Board,
) -> bool {
    let mut new = false;
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
                new |= way.is_some_and(|way| board.add_way(*at, way));
            }
        }
    }
    new
}
