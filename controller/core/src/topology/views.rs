//! Shows links as the API does.
use super::{Spot, Topology};
use proto_model::Bandwidth;
use proto_model::request::LinkView;
use proto_model::topology::LinkId;
use std::collections::BTreeSet;

impl Topology {
    pub fn view(&self, id: &LinkId) -> LinkView {
        if let Some(link) = self.link(id) {
            let why = self.why_unusable(link);
            return LinkView {
                id: id.clone(),
                values: link.values.clone(),
                capacity: link.capacity(),
                reserved: link.taken(),
                usable: why.is_none(),
                why: why.unwrap_or_default(),
                measured: link.samples.fresh(link.id.ends(), self.now),
                forecasts: Vec::new(),
                load: link.loads,
                available: link.available(),
                others: link.others.most(),
                others_expected: link.others.is_forecast(),
            };
        }
        let values = self.configured.get(id).cloned().unwrap_or_default();
        let (a, b) = id.ends();
        let spot = Spot::Link(id.clone());
        LinkView {
            id: id.clone(),
            capacity: values.capacity,
            values,
            reserved: self.reserved(&spot).saturating_add(self.shared.of(&spot)),
            usable: false,
            why: format!("{a} and {b} have not both announced an interface in {}", id.network()),
            measured: Vec::new(),
            forecasts: Vec::new(),
            load: [None; 2],
            available: None,
            others: Bandwidth::ZERO,
            others_expected: false,
        }
    }

    pub fn views(&self) -> Vec<LinkView> {
        let ids: BTreeSet<_> = self.edges.keys().chain(self.configured.keys()).collect();
        ids.into_iter().map(|id| self.view(id)).collect()
    }
}
