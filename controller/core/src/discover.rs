//! Finds who satisfies an intent, best first, and says why each other one does not.
use crate::registry::resources::Member;
use crate::route::{self, Ask};
use crate::topology::Topology;
use proto_model::intent::{Bounds, Intent};
use proto_model::plan::{Candidate, Discovery, Found, LeftOut, Weights};
use proto_model::resource::{Liveness, Status};
use proto_model::{NodeName, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// Links that the searches for one request look at, about: so that no question keeps the fabric for long.
const MAX_LINKS_LOOKED_AT: usize = 1_000_000;

/// Who asks, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Seeker<'a> {
    pub topology: &'a Topology,
    pub weights: &'a Weights,
    pub source: Option<(&'a ResourceId, &'a NodeName)>,
    pub limit: usize,
}

/// A resource that offers the service, with what is known of it.
#[derive(Clone, Debug)]
pub struct Offering<'a> {
    pub member: &'a Member,
    pub liveness: Liveness,
    /// Seconds without contact to its host.
    pub lost_for: Option<u64>,
}

/// Searches for paths that one request may still cause.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    allowed: usize,
    left: usize,
}

impl Patience {
    pub fn new(topology: &Topology) -> Self {
        let allowed = (MAX_LINKS_LOOKED_AT / (topology.graph().edge_count() + 1)).clamp(16, 1024);
        Self { allowed, left: allowed }
    }

    fn spend(&mut self) -> Result<(), String> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(format!(
                "not looked at: paths to {} hosts were sought for this question already, which is the bound",
                self.allowed
            ));
        };
        self.left = left;
        Ok(())
    }
}

pub fn find<'a>(
    seeker: &Seeker<'_>,
    patience: &mut Patience,
    intent: &Intent,
    offering: impl Iterator<Item = Offering<'a>>,
) -> Discovery {
    let mut paths = BTreeMap::new();
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for one in offering {
        let id = one.member.resource.id.clone();
        match judge(seeker, patience, &intent.bounds, &one, &mut paths) {
            Ok(best) => found.push(Found { resource: one.member.resource.clone(), best }),
            Err(why) => left_out.push(LeftOut { resource: id, why }),
        }
    }
    found.sort_by(|a, b| {
        let cost = |found: &Found| found.best.as_ref().map_or(0.0, |best| best.cost);
        let rank = |found: &Found| found.resource.status != Status::Up;
        rank(a)
            .cmp(&rank(b))
            .then(cost(a).total_cmp(&cost(b)))
            .then_with(|| a.resource.id.cmp(&b.resource.id))
    });
    Discovery { intent: intent.clone(), found, left_out }
}

type Paths = BTreeMap<NodeName, Result<Candidate, String>>;

fn judge(
    seeker: &Seeker<'_>,
    patience: &mut Patience,
    bounds: &Bounds,
    one: &Offering<'_>,
    paths: &mut Paths,
) -> Result<Option<Candidate>, String> {
    let resource = &one.member.resource;
    match one.liveness {
        Liveness::Alive => {}
        Liveness::Expired => {
            let lease = resource.lease.unwrap_or_default().as_secs();
            return Err(format!("its lease of {lease} s has run out"));
        }
        Liveness::NodeLost => {
            let lost = one.lost_for.map_or(String::new(), |seconds| format!(" for {seconds} s"));
            return Err(format!("its host {} has been lost{lost}", resource.metadata.node));
        }
    }
    match resource.status {
        Status::Up | Status::Degraded => {}
        Status::Draining => return Err("it is draining: it takes no new circuits".into()),
        Status::Down => return Err("it is down".into()),
    }
    let Some((id, from)) = seeker.source else { return Ok(None) };
    if *id == resource.id {
        return Err("it is the one that asks".into());
    }
    let to = &resource.metadata.node;
    if !paths.contains_key(to) {
        patience.spend()?;
        paths.insert(to.clone(), best(seeker, bounds, from, to));
    }
    paths[to].clone().map(Some)
}

fn best(seeker: &Seeker<'_>, bounds: &Bounds, from: &NodeName, to: &NodeName) -> Result<Candidate, String> {
    let shun = BTreeSet::new();
    let ask = Ask { from, to, bounds, pinned: None, shun: &shun, limit: seeker.limit };
    let weights = seeker.weights.with(&bounds.weights);
    let decision = route::decide(seeker.topology, &weights, &ask);
    match decision.chosen() {
        Some(chosen) => Ok(chosen.clone()),
        None => {
            let refusal = decision.refusal(&ask);
            Err(if refusal.hint.starts_with("feasible") { refusal_text(&refusal) } else { refusal.what })
        }
    }
}

fn refusal_text(refusal: &proto_model::Refusal) -> String {
    format!("{} ({})", refusal.what, refusal.hint)
}
