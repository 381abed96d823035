//! Makes a placement of a split: what it places whole is placed so, the rest is split anew, and so on.
use super::improve::Board;
use super::split::Split;
use super::work::Work;

/// From here on a share is all.
const WHOLE: f64 = 1.0 - 1e-6;

/// `split`: solved, of the requests that are not placed.
pub(super) fn dive(board: &mut Board, mut split: Split, work: &mut Work) {
    loop {
        let (whole, mut parts): (Vec<_>, Vec<_>) = split.shares().partition(|(.., share)| *share >= WHOLE);
        let mut placed = 0;
        for (at, way, _) in whole {
            placed += usize::from(board.put_if_it_fits(at, way));
        }
        if placed == 0 {
            // The one that is nearest to whole.
            parts.sort_by(|a, b| b.2.total_cmp(&a.2));
            if !parts.into_iter().any(|(at, way, _)| board.put_if_it_fits(at, way)) {
                return;
            }
        }
        split = Split::new(board);
        split.solve(board, work);
        if work.is_spent() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::joint::rooms::Rooms;
    use crate::route::paths::tests::{node, topology};
    use proto_model::circuit::Path;

    #[test]
    fn the_only_placement_of_all_is_found_though_each_would_rather_be_elsewhere() {
        const LINKS: usize = 8;
        let links: Vec<_> = (0..LINKS).map(|at| (0, 1, 1 + at as u64, 10)).collect();
        let topology = topology(2, &links);
        let rooms = Rooms::new(&topology);
        let ids: Vec<_> = topology.views().into_iter().map(|view| view.id).collect();
        let way = |at: &usize| {
            let path = Path { nodes: vec![node(0), node(1)], links: vec![ids[*at].clone()] };
            rooms.way(&topology, path)
        };
        let mut board = Board::new(rooms.clone());
        // Each fits on the next link too, which it is offered first; the last one only on its own.
        for at in 0..LINKS {
            let may = [at + 1, at].into_iter().filter(|link| *link < LINKS);
            board.add(10_000_000, may.collect::<Vec<_>>().iter().filter_map(way).collect());
        }
        let mut work = Work::new(10_000_000);
        let mut split = Split::new(&board);
        assert!(split.solve(&board, &mut work));
        dive(&mut board, split, &mut work);
        assert_eq!(board.placed(), LINKS as u64 * 10_000_000);
    }
}
