//! Who is told that paths have no carrier here: their far ends, by each other way that groups have beside them.
use super::Wish;
use super::group::Group;
use super::limits::{DEFECTS_MOST, VOICES};
use super::session::{Health, Path};
use proto_model::PathId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// As each circuit as which the other way is probed. Each other way gets one before any gets a second.
pub(super) fn told(
    dead: impl Iterator<Item = PathId>,
    paths: &BTreeMap<PathId, Path>,
    groups: &BTreeMap<u32, Group>,
    down: &BTreeSet<IpAddr>,
) -> Vec<Wish> {
    let mut pairs: BTreeSet<(PathId, PathId)> = BTreeSet::new();
    for id in dead {
        let guarded = paths.get(&id).into_iter().flat_map(|path| &path.groups);
        let others = guarded.filter_map(|number| groups.get(number)?.other(id));
        pairs.extend(others.map(|other| (id, other)));
    }
    let lives = |other: &PathId| paths.get(other).filter(|path| !matches!(path.health(), Health::Dead(_)));
    let pairs: Vec<_> = pairs.iter().filter_map(|(dead, other)| Some((*dead, lives(other)?))).collect();
    let nth = |voice: usize| {
        pairs.iter().filter_map(move |(dead, other)| Some((*dead, other.sessions().nth(voice)?)))
    };
    let sessions = (0..VOICES).flat_map(nth).filter(|(_, session)| !down.contains(&session.local));
    sessions.take(DEFECTS_MOST).map(|(dead, session)| Wish::SendDefect { session, dead }).collect()
}
