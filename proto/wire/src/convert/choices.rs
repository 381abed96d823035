//! How circuits choose among paths by cost.
use super::fields::{clipped, each, list, needed, optional, sentence};
use super::units::finite;
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::choice::{Choice, Expert, Flip, Way};
use std::time::Duration;

impl TryFrom<v1::Choice> for Choice {
    type Error = Malformed;
    fn try_from(choice: v1::Choice) -> Result<Self> {
        let ways: Vec<Way> = list("ways", limits::WAYS, choice.ways)?;
        let experts: Vec<Expert> = list("experts", limits::EXPERTS, choice.experts)?;
        for (at, expert) in experts.iter().enumerate() {
            index(&format!("experts[{at}].advises"), expert.advises as u32, ways.len())?;
        }
        let flip: Option<Flip> = optional("flip", choice.flip)?;
        if let Some(flip) = flip {
            index("flip.way", flip.way as u32, ways.len())?;
        }
        Ok(Self {
            here: index("here", choice.here, ways.len())?,
            wanted: index("wanted", choice.wanted, ways.len())?,
            chosen: index("chosen", choice.chosen, ways.len())?,
            ways,
            expert: sentence("expert", choice.expert)?,
            by: sentence("by", choice.by)?,
            margin: finite("margin", choice.margin)?,
            experts,
            flip,
            step: Duration::from_nanos(choice.step),
            held: sentence("held", choice.held)?,
        })
    }
}

fn index(field: &str, index: u32, ways: usize) -> Result<usize> {
    let fault = || Malformed::new(field, format!("way {index} of {ways} does not exist"));
    usize::try_from(index).ok().filter(|index| *index < ways).ok_or_else(fault)
}

impl From<Choice> for v1::Choice {
    fn from(choice: Choice) -> Self {
        Self {
            ways: each(choice.ways),
            here: choice.here as u32,
            wanted: choice.wanted as u32,
            chosen: choice.chosen as u32,
            expert: clipped(choice.expert),
            by: clipped(choice.by),
            margin: choice.margin,
            experts: each(choice.experts),
            flip: choice.flip.map(v1::choice::Flip::from),
            step: choice.step.as_nanos() as u64,
            held: clipped(choice.held),
        }
    }
}

impl TryFrom<v1::choice::Way> for Way {
    type Error = Malformed;
    fn try_from(way: v1::choice::Way) -> Result<Self> {
        let known = |field, cost: Option<f64>| cost.map(|cost| finite(field, cost)).transpose();
        Ok(Self {
            path: needed("path", way.path)?,
            beside: finite("beside", way.beside)?,
            agile: known("agile", way.agile)?,
            steady: known("steady", way.steady)?,
            shrunk: known("shrunk", way.shrunk)?,
            usable: way.usable,
        })
    }
}

impl From<Way> for v1::choice::Way {
    fn from(way: Way) -> Self {
        let Way { path, beside, agile, steady, shrunk, usable } = way;
        Self { path: Some(path.into()), beside, agile, steady, shrunk, usable }
    }
}

impl TryFrom<v1::choice::Expert> for Expert {
    type Error = Malformed;
    fn try_from(expert: v1::choice::Expert) -> Result<Self> {
        Ok(Self {
            name: sentence("name", expert.name)?,
            advises: expert.advises as usize,
            own: finite("own", expert.own)?,
            all: finite("all", expert.all)?,
            evidence: finite("evidence", expert.evidence)?,
            prior: finite("prior", expert.prior)?,
            score: finite("score", expert.score)?,
        })
    }
}

impl From<Expert> for v1::choice::Expert {
    fn from(expert: Expert) -> Self {
        let Expert { name, advises, own, all, evidence, prior, score } = expert;
        Self { name: clipped(name), advises: advises as u32, own, all, evidence, prior, score }
    }
}

impl TryFrom<v1::choice::Flip> for Flip {
    type Error = Malformed;
    fn try_from(flip: v1::choice::Flip) -> Result<Self> {
        Ok(Self {
            way: flip.way as usize,
            below: finite("below", flip.below)?,
            now: finite("now", flip.now)?,
        })
    }
}

impl From<Flip> for v1::choice::Flip {
    fn from(flip: Flip) -> Self {
        Self { way: flip.way as u32, below: flip.below, now: flip.now }
    }
}
