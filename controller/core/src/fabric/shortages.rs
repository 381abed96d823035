//! Looks for links that are about to be asked for more than they hold, so that more can be had before it is short.
use super::Fabric;
use crate::forecast::Quantity;
use crate::topology::Link;
use proto_model::request::Response;
use proto_model::shortage::{Line, Share, Shortage};
use proto_model::{Loss, Refusal};
use std::time::Duration;

/// Minutes ahead.
const HORIZONS: [u64; 8] = [10, 20, 40, 60, 2 * 60, 4 * 60, 8 * 60, 24 * 60];
/// A forecast with fewer errors behind it is a guess.
const ENOUGH: u32 = 3;

impl Fabric {
    /// Those that are short first, then the likelier ones.
    pub(super) fn shortages(&self, line: &Line) -> Result<Response, Refusal> {
        check(line)?;
        let links = self.topology.graph().edge_weights();
        let mut found: Vec<Shortage> = links.filter_map(|link| self.shortage(link, line)).collect();
        found.sort_by_key(|short| (short.forecast.horizon, std::cmp::Reverse(short.chance)));
        Ok(Response::Shortages(found))
    }

    fn shortage(&self, link: &Link, line: &Line) -> Option<Shortage> {
        let capacity = link.capacity()?;
        let most = capacity.bits_per_second() as f64 * share(line.share) / 1e6;
        let horizons = HORIZONS.map(|minutes| Duration::from_secs(minutes * 60));
        let chances = horizons.into_iter().filter(|horizon| *horizon <= line.within).filter_map(|horizon| {
            let outlook = self.forecasts.outlook(&link.id, Quantity::Load, horizon)?;
            let known = outlook.samples >= ENOUGH && outlook.stale.is_none();
            known.then(|| (horizon, f64::from(outlook.chance_above(most as f32))))
        });
        let (horizon, chance) = chances.into_iter().find(|(_, chance)| *chance >= share(line.chance))?;
        Some(Shortage {
            link: link.id.clone(),
            capacity,
            reserved: link.taken(),
            load: link.load,
            forecast: self.forecast_of(&link.id, proto_model::topology::Quantity::Load, horizon)?,
            chance: Loss::from_ppm((chance * 1e6) as u32),
        })
    }
}

fn share(of: Share) -> f64 {
    f64::from(of.ppm()) / 1e6
}

fn check(line: &Line) -> Result<(), Refusal> {
    if !Line::WITHIN.contains(&line.within) {
        let what = format!("{} s; it can be looked from 10 minutes to 24 hours ahead", line.within.as_secs());
        return Err(Refusal::invalid("within", what));
    }
    let within = |field: &str, value: Share, range: std::ops::RangeInclusive<u32>| {
        let percent = |ppm: u32| f64::from(ppm) / 1e4;
        let what = || {
            format!("{value}; from {} % to {} % is accepted", percent(*range.start()), percent(*range.end()))
        };
        if range.contains(&value.ppm()) { Ok(()) } else { Err(Refusal::invalid(field, what())) }
    };
    within("share", line.share, Line::SHARE)?;
    within("chance", line.chance, Line::CHANCE)
}
