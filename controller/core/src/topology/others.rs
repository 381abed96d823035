//! What traffic that nobody reserved takes where nothing holds it back: admission leaves it so much.
use super::calendar::Window;
use super::spot::Spot;
use super::{Link, Topology};
use crate::forecast::LOAD_WITHIN;
use petgraph::stable_graph::NodeIndex;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Name};
use std::fmt;

/// How far ahead it is forecast, and how surely: the bound that `foreweave replay --kind load` scores.
const WITHIN: &str = "within 1 h (99 %)";

/// Of a link or an interface whose host does not queue what it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Now; none: it is not counted there, or what is reserved is guarded against it.
    pub seen: Option<Bandwidth>,
    /// By how much it will rise at most; none: forecasts say nothing of it.
    pub rise: Option<Bandwidth>,
}

impl Others {
    /// What it takes at most; nothing where nothing is known.
    pub fn most(self) -> Bandwidth {
        self.seen.map_or(Bandwidth::ZERO, |seen| seen.saturating_add(self.rise.unwrap_or_default()))
    }

    pub fn is_forecast(self) -> bool {
        self.rise.is_some_and(|rise| !rise.is_zero())
    }
}

/// `up to 50 Mbit/s expected of others within 1 h (99 %)`.
impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_forecast() {
            true => write!(f, "up to {} expected of others {WITHIN}", self.most()),
            false => write!(f, "{} taken by others now", self.most()),
        }
    }
}

impl Topology {
    /// What a link's load is not expected to exceed; none: forecasts say nothing of it.
    pub fn bound(&mut self, id: &LinkId, most: Option<Bandwidth>) {
        let Some(edge) = self.edges.get(id).copied() else { return };
        let link = &mut self.graph[edge];
        let rise = most.map(|most| most.saturating_sub(link.load));
        if std::mem::replace(&mut link.rise, rise) != rise {
            self.weigh(edge);
        }
    }

    /// An interface is in the loads of all its links; so it will not be used more than the least expected of those says that
    /// are as wide.
    pub fn bound_interfaces(&mut self) {
        let counted = self.graph.node_indices().flat_map(|at| {
            let place = &self.graph[at];
            let counted = place.gauges.iter().filter(|(_, gauge)| gauge.others().is_some());
            let known = counted.filter(|(network, _)| place.ports.contains_key(*network));
            known.map(move |(network, _)| (at, network.clone()))
        });
        for (at, network) in counted.collect::<Vec<_>>() {
            let rise = self.rise_at(at, &network);
            if let Some(port) = self.graph[at].ports.get_mut(&network) {
                port.rise = rise;
            }
            self.weigh_interface(at, &network);
        }
    }

    fn rise_at(&self, at: NodeIndex, network: &Name) -> Option<Bandwidth> {
        let port = self.graph[at].ports.get(network)?;
        let links =
            self.graph.edges(at).map(|edge| edge.weight()).filter(|link| link.id.network() == network);
        let most = |link: &Link| {
            let wider = link.capacity().filter(|capacity| *capacity >= port.speed)?;
            let most = link.load.saturating_add(link.rise?);
            Some(most.saturating_sub(wider.saturating_sub(port.speed)))
        };
        let used = self.graph[at].gauges.get(network)?.used_most()?;
        Some(links.filter_map(most).min()?.saturating_sub(used))
    }

    pub(super) fn set_others(&mut self, spot: Spot, others: Others) {
        let old = match others.most().is_zero() {
            true => self.others.remove(&spot),
            false => self.others.insert(spot.clone(), others),
        };
        if old.unwrap_or_default() != others {
            self.show_others(&spot);
        }
    }

    fn show_others(&mut self, spot: &Spot) {
        let others = self.others.get(spot).filter(|_| self.counts_others()).copied().unwrap_or_default();
        match spot {
            Spot::Link(link) => {
                let Some(at) = self.edges.get(link).copied() else { return };
                self.graph[at].others = others;
                self.mirror_free(at);
            }
            Spot::Port(node, network) => {
                let Some(at) = self.place(node) else { return };
                if let Some(port) = self.graph[at].ports.get_mut(network) {
                    port.others = others;
                }
                self.mirror_port(at, network);
            }
        }
    }

    /// Not while reservations alone are asked for, and not for a time of which the bound says nothing.
    fn counts_others(&self) -> bool {
        let soon = |window: Window| window.from <= self.now.plus(LOAD_WITHIN);
        !self.by_reservations && self.calendar.window().is_none_or(soon)
    }

    /// Something is left to others somewhere.
    pub fn leaves_to_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Has links and interfaces show what is free of them as if nobody but circuits sent anything.
    pub fn by_reservations(&mut self, alone: bool) {
        self.with_others(|topology| topology.by_reservations = alone);
    }

    /// Shows what is left to others as it is after a change of what is looked at.
    pub(super) fn with_others(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.counts_others();
        change(self);
        if before != self.counts_others() {
            let spots: Vec<Spot> = self.others.keys().cloned().collect();
            spots.iter().for_each(|spot| self.show_others(spot));
        }
    }
}
