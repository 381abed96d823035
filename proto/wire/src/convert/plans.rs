//! Decisions with their reasons, and discoveries.
use super::fields::{all_clipped, clipped, each, inner, list, name, needed, optional, sentence, sentences};
use super::resources::bounds;
use super::units::{bandwidth, finite, latency, loss, mtu, price};
use super::{Malformed, Result, limits};
use crate::v1;
use crate::v1::discover_resources_response as wire;
use proto_model::plan::{
    Candidate, Discovery, Feasible, Found, HostChange, LeftOut, Offer, Plan, Term, Weights,
};

impl TryFrom<v1::Weights> for Weights {
    type Error = Malformed;
    fn try_from(weights: v1::Weights) -> Result<Self> {
        Ok(Self {
            rtt: finite("rtt", weights.rtt)?,
            hop: finite("hop", weights.hop)?,
            load: finite("load", weights.load)?,
            loss: finite("loss", weights.loss)?,
            price: finite("price", weights.price)?,
            unknown: finite("unknown", weights.unknown)?,
        })
    }
}

impl From<Weights> for v1::Weights {
    fn from(weights: Weights) -> Self {
        let Weights { rtt, hop, load, loss, price, unknown } = weights;
        Self { rtt, hop, load, loss, price, unknown }
    }
}

impl TryFrom<v1::candidate::Term> for Term {
    type Error = Malformed;
    fn try_from(term: v1::candidate::Term) -> Result<Self> {
        Ok(Self {
            name: sentence("name", term.name)?,
            quantity: sentence("quantity", term.quantity)?,
            cost: finite("cost", term.cost)?,
        })
    }
}

impl From<Term> for v1::candidate::Term {
    fn from(term: Term) -> Self {
        Self { name: clipped(term.name), quantity: clipped(term.quantity), cost: term.cost }
    }
}

impl TryFrom<v1::Candidate> for Candidate {
    type Error = Malformed;
    fn try_from(candidate: v1::Candidate) -> Result<Self> {
        Ok(Self {
            path: needed("path", candidate.path)?,
            offer: Offer {
                rtt: candidate.rtt.map(|nanos| latency("rtt", nanos)).transpose()?,
                free: candidate.free.map(|bits| bandwidth("free", bits)).transpose()?,
                loss: loss("loss", candidate.loss)?,
                price: price("price", candidate.price)?,
                encrypted: candidate.encrypted,
                mtu: mtu("mtu", candidate.mtu, 0)?,
            },
            terms: list("terms", limits::SENTENCES, candidate.terms)?,
            cost: finite("cost", candidate.cost)?,
            rejected: sentences("rejected", candidate.rejected)?,
        })
    }
}

impl From<Candidate> for v1::Candidate {
    fn from(candidate: Candidate) -> Self {
        let offer = candidate.offer;
        Self {
            path: Some(candidate.path.into()),
            rtt: offer.rtt.map(|rtt| rtt.nanos()),
            free: offer.free.map(|free| free.bits_per_second()),
            loss: offer.loss.ppm(),
            price: offer.price.micro_dollars_per_gb(),
            encrypted: offer.encrypted,
            mtu: offer.mtu.into(),
            terms: each(candidate.terms),
            cost: candidate.cost,
            rejected: all_clipped(candidate.rejected),
        }
    }
}

impl TryFrom<v1::plan::Feasible> for Feasible {
    type Error = Malformed;
    fn try_from(feasible: v1::plan::Feasible) -> Result<Self> {
        Ok(Self {
            bandwidth: feasible.bandwidth.map(|bits| bandwidth("bandwidth", bits)).transpose()?,
            rtt: feasible.rtt.map(|nanos| latency("rtt", nanos)).transpose()?,
            price: feasible.price.map(|micros| price("price", micros)).transpose()?,
            sentences: sentences("sentences", feasible.sentences)?,
        })
    }
}

impl From<Feasible> for v1::plan::Feasible {
    fn from(feasible: Feasible) -> Self {
        Self {
            bandwidth: feasible.bandwidth.map(|bandwidth| bandwidth.bits_per_second()),
            rtt: feasible.rtt.map(|rtt| rtt.nanos()),
            price: feasible.price.map(|price| price.micro_dollars_per_gb()),
            sentences: all_clipped(feasible.sentences),
        }
    }
}

impl TryFrom<v1::plan::HostChange> for HostChange {
    type Error = Malformed;
    fn try_from(change: v1::plan::HostChange) -> Result<Self> {
        Ok(Self { node: name("node", &change.node)?, changes: sentences("changes", change.changes)? })
    }
}

impl From<HostChange> for v1::plan::HostChange {
    fn from(change: HostChange) -> Self {
        Self { node: change.node.to_string(), changes: all_clipped(change.changes) }
    }
}

impl TryFrom<v1::Plan> for Plan {
    type Error = Malformed;
    fn try_from(plan: v1::Plan) -> Result<Self> {
        let candidates: Vec<Candidate> = list("candidates", limits::CANDIDATES, plan.candidates)?;
        Ok(Self {
            bounds: bounds("bounds", plan.bounds)?,
            weights: needed("weights", plan.weights)?,
            chosen: plan.chosen.map(|index| chosen(index, candidates.len())).transpose()?,
            candidates,
            omitted: plan.omitted,
            refused: if plan.refused.is_empty() { None } else { Some(sentence("refused", plan.refused)?) },
            feasible: optional("feasible", plan.feasible)?,
            hosts: list("hosts", limits::OBJECTS, plan.hosts)?,
            backup: optional("backup", plan.backup)?,
            protection: sentence("protection", plan.protection)?,
            warnings: sentences("warnings", plan.warnings)?,
            choice: optional("choice", plan.choice)?,
            insight: optional("insight", plan.insight)?,
        })
    }
}

fn chosen(index: u32, candidates: usize) -> Result<usize> {
    let fault = || Malformed::new("chosen", format!("candidate {index} of {candidates} does not exist"));
    usize::try_from(index).ok().filter(|index| *index < candidates).ok_or_else(fault)
}

impl From<Plan> for v1::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            bounds: Some(plan.bounds.into()),
            weights: Some(plan.weights.into()),
            chosen: plan.chosen.and_then(|index| u32::try_from(index).ok()),
            candidates: each(plan.candidates),
            omitted: plan.omitted,
            refused: clipped(plan.refused.unwrap_or_default()),
            feasible: plan.feasible.map(v1::plan::Feasible::from),
            hosts: each(plan.hosts),
            backup: plan.backup.map(v1::Candidate::from),
            protection: clipped(plan.protection),
            warnings: all_clipped(plan.warnings),
            choice: plan.choice.map(v1::Choice::from),
            insight: plan.insight.map(v1::Insight::from),
        }
    }
}

impl TryFrom<wire::Found> for Found {
    type Error = Malformed;
    fn try_from(found: wire::Found) -> Result<Self> {
        Ok(Self { resource: needed("resource", found.resource)?, best: optional("best", found.best)? })
    }
}

impl From<Found> for wire::Found {
    fn from(found: Found) -> Self {
        Self { resource: Some(found.resource.into()), best: found.best.map(v1::Candidate::from) }
    }
}

impl TryFrom<wire::LeftOut> for LeftOut {
    type Error = Malformed;
    fn try_from(left_out: wire::LeftOut) -> Result<Self> {
        Ok(Self {
            resource: name("resource_id", &left_out.resource_id)?,
            why: sentence("why", left_out.why)?,
        })
    }
}

impl From<LeftOut> for wire::LeftOut {
    fn from(left_out: LeftOut) -> Self {
        Self { resource_id: left_out.resource.to_string(), why: clipped(left_out.why) }
    }
}

impl TryFrom<wire::Discovery> for Discovery {
    type Error = Malformed;
    fn try_from(discovery: wire::Discovery) -> Result<Self> {
        Ok(Self {
            intent: inner("intent", discovery.intent.unwrap_or_default())?,
            found: list("found", limits::OBJECTS, discovery.found)?,
            left_out: list("left_out", limits::OBJECTS, discovery.left_out)?,
        })
    }
}

impl From<Discovery> for wire::Discovery {
    fn from(discovery: Discovery) -> Self {
        Self {
            intent: Some(discovery.intent.into()),
            found: each(discovery.found),
            left_out: each(discovery.left_out),
        }
    }
}
