//! What joint admission promises.
use super::*;
use crate::route::paths::tests::{links, node, topology};
use proptest::prelude::*;

fn wanted(from: usize, to: usize, mbit: u64, priority: u8) -> Wanted {
    let bounds = Bounds { bandwidth: Bandwidth::mbit(mbit), ..Bounds::default() };
    Wanted { from: node(from), to: node(to), bounds, priority, pinned: None }
}

fn admit(topology: &Topology, wanted: &[Wanted]) -> Answer {
    place(topology, &Weights::default(), wanted, &[])
}

#[test]
fn two_requests_share_what_one_after_the_other_would_waste() {
    // The first one's cheapest path is the second one's only one.
    let topology = topology(4, &[(0, 1, 1, 10), (1, 3, 1, 10), (0, 2, 5, 10), (2, 3, 5, 10)]);
    let answer = admit(&topology, &[wanted(0, 3, 10, 0), wanted(1, 3, 10, 0)]);
    assert_eq!(answer.refused, BTreeMap::new());
    assert!(answer.placed[&0].nodes.contains(&node(2)), "{}", answer.placed[&0]);
    assert_eq!(answer.classes[0].gap(), 0.0);
}

#[test]
fn a_higher_priority_takes_all_it_needs_though_less_is_admitted() {
    let topology = topology(3, &[(0, 1, 1, 10), (1, 2, 1, 10)]);
    // One over both links, or one on each.
    let low = [wanted(0, 1, 9, 1), wanted(1, 2, 9, 1)];
    let all = [wanted(0, 2, 8, 2), low[0].clone(), low[1].clone()];
    let answer = admit(&topology, &all);
    assert_eq!(answer.placed.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(answer.classes.iter().map(|class| class.priority).collect::<Vec<_>>(), [2, 1]);
    let equal = [wanted(0, 2, 8, 1), low[0].clone(), low[1].clone()];
    let answer = admit(&topology, &equal);
    assert_eq!(answer.placed.keys().collect::<Vec<_>>(), [&1, &2]);
    assert!(answer.refused[&0].why.contains("8 Mbit/s from n0 to n2 do not fit"), "{:?}", answer.refused);
}

#[test]
fn a_request_is_placed_whole_or_refused_with_the_reason() {
    let topology = topology(2, &[(0, 1, 1, 10), (0, 1, 2, 10)]);
    let answer =
        admit(&topology, &[wanted(0, 1, 15, 0), wanted(0, 1, 6, 0), wanted(0, 1, 6, 0), wanted(0, 1, 6, 0)]);
    assert_eq!(answer.placed.keys().collect::<Vec<_>>(), [&1, &2]);
    assert!(answer.refused[&0].why.contains("15 Mbit/s is asked"), "{}", answer.refused[&0].why);
    assert!(answer.refused[&3].why.contains("with 4 Mbit/s left"), "{}", answer.refused[&3].why);
    // Split, the third one would fit; of those that need more than half, one fits on each.
    let (placed, bound) = (answer.classes[0].placed, answer.classes[0].bound);
    assert_eq!(placed, Bandwidth::mbit(12));
    assert!((12_000_000..12_100_000).contains(&bound.bits_per_second()), "{bound}");
}

#[test]
fn a_refusal_names_the_circuit_that_would_have_to_move() {
    let mut topology = topology(4, &[(0, 1, 1, 10), (1, 3, 1, 10), (0, 2, 5, 10), (2, 3, 5, 10)]);
    let stands = wanted(0, 3, 8, 0);
    let path = admit(&topology, std::slice::from_ref(&stands)).placed[&0].clone();
    topology.reserve(&path, stands.bounds.bandwidth);
    let standing = [Standing { circuit: CircuitId(7), wanted: stands, path: path.clone() }];
    let answer = place(&topology, &Weights::default(), &[wanted(1, 3, 10, 0)], &standing);
    let moves = &answer.refused[&0].moves;
    assert_eq!(moves.len(), 1);
    assert_eq!((moves[0].circuit, &moves[0].from), (CircuitId(7), &path));
    assert!(moves[0].to.nodes.contains(&node(2)));
    assert!(moves[0].to_string().starts_with("needs moving circuit c7 from n0 "), "{}", moves[0]);
    let full = place(&topology, &Weights::default(), &[wanted(1, 3, 11, 0)], &standing);
    assert_eq!(full.refused[&0].moves, [], "no move makes a link wider");
}

/// The most that can be admitted, by trying everything.
fn most(rooms: &Rooms, requests: &[(u64, Vec<Way>)]) -> u64 {
    let Some(((need, ways), others)) = requests.split_first() else { return 0 };
    let with = ways.iter().filter(|way| rooms.fits(way, *need)).map(|way| {
        let mut rooms = rooms.clone();
        rooms.take(way, *need);
        need + most(&rooms, others)
    });
    with.max().unwrap_or(0).max(most(rooms, others))
}

fn best(topology: &Topology, wanted: &[Wanted]) -> u64 {
    let rooms = Rooms::new(topology);
    let request = |one: &Wanted| {
        let ways = ways(topology, &Weights::default(), one, &rooms).ok()?;
        Some((one.bounds.bandwidth.bits_per_second(), ways))
    };
    most(&rooms, &wanted.iter().filter_map(request).collect::<Vec<_>>())
}

#[test]
fn little_is_lost_against_trying_everything() {
    let mut state = 1_u64;
    let mut draw = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let (mut placed, mut possible) = (0, 0);
    for _ in 0..60 {
        let pair = |draw: &mut dyn FnMut(u64) -> u64| {
            let from = draw(6);
            (from as usize, ((from + 1 + draw(5)) % 6) as usize)
        };
        let links: Vec<_> = (0..9)
            .map(|_| {
                let (a, b) = pair(&mut draw);
                (a, b, 1 + draw(19), 1 + draw(9))
            })
            .collect();
        let asked: Vec<_> = (0..7)
            .map(|_| {
                let (from, to) = pair(&mut draw);
                wanted(from, to, 1 + draw(6), 0)
            })
            .collect();
        let topology = topology(6, &links);
        possible += best(&topology, &asked);
        placed += admit(&topology, &asked).classes[0].placed.bits_per_second();
    }
    assert!(placed * 100 >= possible * 97, "{placed} of {possible}");
}

/// Requests of which some are large beside what links have and most are small, over a ring with chords.
fn crowd(seed: u64) -> (Topology, Vec<Wanted>) {
    let mut state = seed;
    let mut draw = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let ring = (0..12).map(|at| (at, (at + 1) % 12));
    let chords = [(0, 5), (2, 9), (3, 7), (4, 11)];
    let links: Vec<_> = ring.chain(chords).map(|(a, b)| (a, b, 1 + draw(9), 100)).collect();
    let pairs = (0..12).flat_map(|from| (from + 1..12).map(move |to| (from, to)));
    let asked = pairs.map(|(from, to)| {
        let mbit = if draw(6) == 0 { 20 + draw(40) } else { 1 + draw(18) };
        wanted(from, to, mbit, (from % 3) as u8)
    });
    (topology(12, &links), asked.collect())
}

#[test]
fn little_work_makes_a_placement_too_and_its_bound_holds() {
    for seed in 0..2 {
        let (topology, asked) = crowd(seed);
        let with = |looks| place_classes(&topology, &Weights::default(), &asked, &mut Work::new(looks)).0;
        let full = with(WORK);
        for looks in [0, 10_000, 100_000] {
            let answer = with(looks);
            assert_eq!(answer.placed.len() + answer.refused.len(), asked.len());
            // The first class has all links in both, so that their bounds are of the same thing.
            let (little, full) = (answer.classes[0], full.classes[0]);
            assert!(
                little.bound >= full.placed,
                "{} are said to be the most of {}",
                little.bound,
                full.placed
            );
            assert!(little.placed.bits_per_second() * 2 > full.placed.bits_per_second(), "{}", little.placed);
            let mut booked = topology.clone();
            answer.placed.iter().for_each(|(at, path)| booked.reserve(path, asked[*at].bounds.bandwidth));
            assert!(booked.views().iter().all(|view| view.capacity >= Some(view.reserved)));
        }
    }
}

#[test]
fn what_fits_nowhere_is_wanted_all_the_same() {
    let topology = topology(2, &[(0, 1, 1, 10)]);
    let class = admit(&topology, &[wanted(0, 1, 15, 3)]).classes[0];
    assert_eq!(
        [class.wanted, class.placed, class.bound],
        [Bandwidth::mbit(15), Bandwidth::ZERO, Bandwidth::ZERO]
    );
    let class = admit(&topology, &[wanted(0, 1, 15, 3), wanted(0, 1, 4, 3)]).classes[0];
    assert_eq!([class.wanted, class.placed, class.bound], [19, 4, 4].map(Bandwidth::mbit));
}

proptest! {
    #[test]
    fn nothing_is_overbooked_and_the_bound_is_one(
        links in links(),
        asked in proptest::collection::vec((0..6usize, 0..6usize, 1..9u64), 1..6),
    ) {
        let topology = topology(6, &links);
        let asked: Vec<_> = asked.into_iter().filter(|(from, to, _)| from != to).collect();
        let all: Vec<Wanted> = asked.iter().map(|(from, to, mbit)| wanted(*from, *to, *mbit, 0)).collect();
        let answer = admit(&topology, &all);
        prop_assert_eq!(answer.placed.len() + answer.refused.len(), all.len());
        let mut booked = topology.clone();
        for (index, path) in &answer.placed {
            booked.reserve(path, all[*index].bounds.bandwidth);
        }
        for view in booked.views() {
            prop_assert!(view.capacity.is_none_or(|capacity| view.reserved <= capacity));
        }
        let best = best(&topology, &all);
        let class = answer.classes.first().map(|class| [class.placed, class.bound]);
        let [placed, bound] = class.unwrap_or_default().map(|sum| sum.bits_per_second());
        prop_assert!(best <= bound, "{} can be admitted, at most {} is said", best, bound);
        prop_assert!(placed <= best, "{} of {}", placed, best);
    }
}

#[test]
fn the_bound_counts_a_link_only_for_requests_that_fit_on_it_whole() {
    let topology = topology(2, &[(0, 1, 1, 10), (0, 1, 2, 4)]);
    let class = admit(&topology, &[wanted(0, 1, 8, 0), wanted(0, 1, 5, 0)]).classes[0];
    assert_eq!(class.placed, Bandwidth::mbit(8));
    // Split over both links all 13 would fit, and on the wide one alone 10.
    let bound = class.bound.bits_per_second();
    assert!((8_000_000..9_100_000).contains(&bound), "{bound}");
}

#[test]
fn requests_for_other_times_do_not_compete_and_those_for_the_same_do() {
    use crate::topology::Window;
    use proto_model::Timestamp;
    let mut topology = topology(2, &[(0, 1, 1, 10)]);
    let hour = |at: u64| Timestamp(at * 3_600_000_000_000);
    topology.advance(hour(1));
    let timed = |mbit, from, to| Timed {
        wanted: wanted(0, 1, mbit, 0),
        window: Window { from: hour(from), to: Some(hour(to)) },
    };
    let all = [timed(7, 1, 3), timed(6, 3, 5), timed(3, 2, 4), timed(5, 4, 6)];
    let answer = place_all(&mut topology, &Weights::default(), &all);
    assert_eq!(answer.placed.keys().collect::<Vec<_>>(), [&0, &1, &2]);
    assert_eq!(answer.classes[0].placed, Bandwidth::mbit(16));
    assert!(answer.classes[0].bound >= answer.classes[0].placed);
    assert!(answer.refused[&3].why.contains("5 Mbit/s"), "{}", answer.refused[&3].why);
}
