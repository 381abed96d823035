//! What links and interfaces have left, in rows.
use crate::topology::{PortAt, Topology};
use petgraph::stable_graph::EdgeIndex;
use proto_model::circuit::Path;

/// What is left, in bits per second, by row: first the links, then the interfaces.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    free: Vec<u64>,
    links: usize,
}

/// A path with the rows that it takes bandwidth of, and how many times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way {
    pub(super) path: Path,
    pub(super) rows: Vec<(u32, u32)>,
}

impl Rooms {
    pub(super) fn new(topology: &Topology) -> Self {
        let roads = topology.roads();
        let links = roads.iter().map(|(edge, _)| edge.index() + 1).max().unwrap_or_default();
        let ports = roads.iter().flat_map(|(_, road)| road.ports).flatten();
        let mut free = vec![0; links + ports.map(|port| port.row() + 1).max().unwrap_or_default()];
        for (edge, road) in roads.iter() {
            // Nothing can be booked where nobody knows what there is.
            free[edge.index()] = road.free.unwrap_or_default().bits_per_second();
            for port in road.ports.into_iter().flatten() {
                free[links + port.row()] = roads.free_of(port).bits_per_second();
            }
        }
        Self { free, links }
    }

    pub(super) fn len(&self) -> usize {
        self.free.len()
    }

    pub(super) fn free(&self, row: u32) -> u64 {
        self.free[row as usize]
    }

    pub(super) fn row_of_link(edge: EdgeIndex) -> u32 {
        edge.index() as u32
    }

    pub(super) fn row_of_port(&self, port: PortAt) -> u32 {
        (self.links + port.row()) as u32
    }

    /// None: a link of it is not there.
    pub(super) fn way(&self, topology: &Topology, path: Path) -> Option<Way> {
        let mut rows: Vec<(u32, u32)> = Vec::new();
        let mut take = |row: u32| match rows.iter_mut().find(|(known, _)| *known == row) {
            Some((_, times)) => *times += 1,
            None => rows.push((row, 1)),
        };
        for link in &path.links {
            let edge = topology.edge(link)?;
            take(Self::row_of_link(edge));
            let road = topology.roads().get(edge)?;
            road.ports.into_iter().flatten().for_each(|port| take(self.row_of_port(port)));
        }
        Some(Way { path, rows })
    }

    pub(super) fn fits(&self, way: &Way, need: u64) -> bool {
        way.rows.iter().all(|(row, times)| self.free(*row) / u64::from(*times) >= need)
    }

    /// What the tightest row leaves for each time.
    pub(super) fn least(&self, way: &Way) -> u64 {
        way.rows.iter().map(|(row, times)| self.free(*row) / u64::from(*times)).min().unwrap_or(u64::MAX)
    }

    /// The caller has seen that it fits.
    pub(super) fn take(&mut self, way: &Way, need: u64) {
        for (row, times) in &way.rows {
            let free = &mut self.free[*row as usize];
            *free = free.saturating_sub(need.saturating_mul(u64::from(*times)));
        }
    }

    pub(super) fn give_back(&mut self, way: &Way, need: u64) {
        for (row, times) in &way.rows {
            let free = &mut self.free[*row as usize];
            *free = free.saturating_add(need.saturating_mul(u64::from(*times)));
        }
    }
}
