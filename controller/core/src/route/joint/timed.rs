//! Places requests that are wanted at different times, so that at no instant more is taken than there is.
use super::moves::Stand;
use super::rooms::Rooms;
use super::work::Work;
use super::{Answer, Class, Standing, WORK, Wanted, place_classes};
use crate::topology::{Topology, Window};
use proto_model::circuit::Path;
use proto_model::plan::Weights;
use proto_model::{Bandwidth, Timestamp};
use std::collections::BTreeMap;

/// A circuit that is wanted for a time.
#[derive(Clone, Debug)]
pub struct Timed {
    pub wanted: Wanted,
    pub window: Window,
}

/// What may be done yet, and for how many requests.
struct Effort {
    work: Work,
    left: usize,
}

type Time = (Timestamp, Option<Timestamp>);

/// Decides for all of them, and books what is placed in the topology. Strict classes; those of a class that are wanted for
/// the same time are placed together, the earlier times first.
pub fn place_all(topology: &mut Topology, weights: &Weights, all: &[Timed]) -> Answer {
    let mut answer = Answer::default();
    let mut classes: BTreeMap<u8, BTreeMap<Time, Vec<usize>>> = BTreeMap::new();
    for (index, Timed { wanted, window }) in all.iter().enumerate() {
        let times = classes.entry(wanted.priority).or_default();
        times.entry((window.from, window.to)).or_default().push(index);
    }
    // Where there are several times, each is also placed as if it were alone.
    let twice = |times: &BTreeMap<Time, Vec<usize>>| if times.len() > 1 { 2 } else { 1 };
    let members = |times: &BTreeMap<Time, Vec<usize>>| times.values().map(Vec::len).sum::<usize>();
    let mut effort = Effort {
        work: Work::new(WORK),
        left: classes.values().map(|times| twice(times) * members(times)).sum(),
    };
    for (priority, times) in classes.into_iter().rev() {
        let mut sums = [Bandwidth::ZERO; 3];
        // What each of several times could admit if the others were not there: together they cannot admit more.
        let alone: Vec<Bandwidth> = match times.len() {
            1 => Vec::new(),
            _ => times
                .values()
                .map(|members| bound(&place_some(topology, weights, all, members, &mut effort)))
                .collect(),
        };
        for members in times.values() {
            let found = place_some(topology, weights, all, members, &mut effort);
            if let Some(class) = found.classes.first() {
                let add = [class.wanted, class.placed, class.bound];
                sums.iter_mut().zip(add).for_each(|(sum, more)| *sum = sum.saturating_add(more));
            }
            for (at, path) in found.placed {
                let Timed { wanted, window } = &all[members[at]];
                book(topology, &path, wanted.bounds.bandwidth, *window);
                answer.placed.insert(members[at], path);
            }
            answer.refused.extend(found.refused.into_iter().map(|(at, refused)| (members[at], refused)));
        }
        let [wanted, placed, mut bound] = sums;
        if !alone.is_empty() {
            bound = alone.into_iter().fold(Bandwidth::ZERO, Bandwidth::saturating_add).max(placed);
        }
        answer.classes.push(Class { priority, wanted, placed, bound });
    }
    answer
}

fn bound(answer: &Answer) -> Bandwidth {
    answer.classes.first().map(|class| class.bound).unwrap_or_default()
}

/// Of one class and for one time.
fn place_some(
    topology: &mut Topology,
    weights: &Weights,
    all: &[Timed],
    members: &[usize],
    effort: &mut Effort,
) -> Answer {
    let wanted: Vec<Wanted> = members.iter().map(|index| all[*index].wanted.clone()).collect();
    topology.look(members.first().map(|index| all[*index].window));
    let mut part = effort.work.part(members.len(), effort.left);
    let found = place_classes(topology, weights, &wanted, &mut part).0;
    effort.work.join(part);
    effort.left -= members.len();
    topology.look(None);
    found
}

fn book(topology: &mut Topology, path: &Path, bandwidth: Bandwidth, window: Window) {
    if window.from > topology.now() {
        return topology.plan(path, bandwidth, window);
    }
    topology.reserve(path, bandwidth);
    topology.ends(path, bandwidth, window.to);
}

/// Says of those that are refused and wanted at once which of `standing` would have to move for them. What one has them
/// do, others count on.
pub fn seek_moves(
    topology: &mut Topology,
    weights: &Weights,
    all: &[Timed],
    standing: &[Standing],
    answer: &mut Answer,
) {
    let mut stand = Stand::new(topology, standing);
    let by_priority = |index: &usize| std::cmp::Reverse(all[*index].wanted.priority);
    let mut refused: Vec<usize> = answer.refused.keys().copied().collect();
    refused.sort_by_key(by_priority);
    for index in refused {
        let Timed { wanted, window } = &all[index];
        if window.from > topology.now() {
            continue;
        }
        topology.look(Some(*window));
        let found = stand.seek(topology, weights, wanted, &Rooms::new(topology));
        topology.look(None);
        for (at, moved) in &found {
            stand.forget(*at);
            topology.reserve(&moved.to, standing[*at].wanted.bounds.bandwidth);
        }
        if let Some(refused) = answer.refused.get_mut(&index) {
            refused.moves = found.into_iter().map(|(_, moved)| moved).collect();
        }
    }
}
