//! What a path offers and what it costs, term by term.
use crate::topology::{self, Link, Road, Source};
use proto_model::intent::Bounds;
use proto_model::plan::{Offer, Term, Weights};
use proto_model::{Bandwidth, Latency, Loss, Price, Timestamp, seal};

/// MTU of a circuit whose ends share a host: as on Ethernet. A larger one would shrink under running connections
/// when the resource gets a circuit through tunnels.
pub const LOCAL_MTU: u16 = 1500;

/// The links of a path so far, summed; each further link makes its cost larger or leaves it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    hops: u32,
    rtt: Latency,
    /// Links whose round-trip time is not known.
    unknown: u32,
    price: Price,
    loss: Loss,
    rtt_from: From,
    loss_from: From,
    /// Of the tightest link's capacity, after placement: reserved, or used as forecast or seen.
    share: f64,
    share_is_forecast: bool,
}

/// How many links' values come from where.
#[derive(Clone, Copy, Debug, Default)]
struct From {
    configured: u32,
    measured: u32,
    forecast: u32,
}

impl From {
    fn and(self, source: Source) -> Self {
        Self {
            configured: self.configured + u32::from(source == Source::Configured),
            measured: self.measured + u32::from(source == Source::Measured),
            forecast: self.forecast + u32::from(source == Source::Forecast),
        }
    }

    /// Behind a quantity.
    fn words(self) -> String {
        let all = [(self.configured, "configured"), (self.measured, "measured"), (self.forecast, "forecast")];
        let some: Vec<_> = all.into_iter().filter(|(links, _)| *links > 0).collect();
        match some.as_slice() {
            [] => String::new(),
            [(_, only)] => format!(" ({only})"),
            [(links, first), others @ ..] => {
                let others = others.iter().map(|(links, source)| format!(", {links} {source}"));
                format!(" ({links} links {first}{})", others.collect::<String>())
            }
        }
    }
}

impl Sum {
    /// With one more link, on which `demand` would be placed.
    #[must_use]
    pub fn and(self, link: &Link, demand: Bandwidth, now: Timestamp) -> Self {
        let (rtt, loss) = (link.rtt(now), link.loss(now));
        let (share, is_forecast) = share(link, demand);
        let is_tightest = share > self.share;
        Self {
            hops: self.hops + 1,
            rtt: self.rtt.saturating_add(rtt.value.unwrap_or_default()),
            unknown: self.unknown + u32::from(rtt.value.is_none()),
            price: self.price.saturating_add(link.values.price),
            loss: self.loss.then(loss.value),
            rtt_from: self.rtt_from.and(rtt.source),
            loss_from: self.loss_from.and(loss.source),
            share: self.share.max(share),
            share_is_forecast: if is_tightest { is_forecast } else { self.share_is_forecast },
        }
    }

    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// None: that of a link is not known.
    pub fn rtt(&self) -> Option<Latency> {
        (self.unknown == 0).then_some(self.rtt)
    }

    pub fn price(&self) -> Price {
        self.price
    }

    pub fn cost(&self, weights: &Weights) -> f64 {
        self.parts(weights).iter().map(|(_, _, cost)| cost).sum()
    }

    pub fn terms(&self, weights: &Weights) -> Vec<Term> {
        let parts = self.parts(weights);
        parts
            .into_iter()
            .filter(|(name, _, _)| *name != "unknown" || self.unknown > 0)
            .map(|(name, quantity, cost)| Term { name: name.into(), quantity: quantity.show(self), cost })
            .collect()
    }

    fn parts(&self, weights: &Weights) -> [(&'static str, Quantity, f64); 6] {
        [
            ("rtt", Quantity::Rtt, weights.rtt * self.rtt.as_millis_f64()),
            ("hop", Quantity::Hops, weights.hop * f64::from(self.hops)),
            ("load", Quantity::Share, weights.load * self.share * self.share),
            ("loss", Quantity::Loss, weights.loss * f64::from(self.loss.ppm()) / 1e4),
            ("price", Quantity::Price, weights.price * self.price.micro_dollars_per_gb() as f64 / 1e6),
            ("unknown", Quantity::Unknown, weights.unknown * f64::from(self.unknown)),
        ]
    }
}

#[derive(Clone, Copy, Debug)]
enum Quantity {
    Rtt,
    Hops,
    Share,
    Loss,
    Price,
    Unknown,
}

impl Quantity {
    fn show(self, sum: &Sum) -> String {
        match self {
            Self::Rtt => format!("{}{}", sum.rtt, sum.rtt_from.words()),
            Self::Hops => format!("{} hops", sum.hops),
            Self::Share => {
                let from = if sum.share_is_forecast { " (forecast)" } else { "" };
                format!("{:.1} % of the tightest link{from}", sum.share * 100.0)
            }
            Self::Loss => format!("{}{}", sum.loss, sum.loss_from.words()),
            Self::Price => sum.price.to_string(),
            Self::Unknown => format!("{} links without a known round-trip time", sum.unknown),
        }
    }
}

/// Share of the capacity in use after placement; 0 where the capacity is not known, 1 at most. True: as forecast.
fn share(link: &Link, demand: Bandwidth) -> (f64, bool) {
    let (used, taken) = (link.used(), link.taken());
    let is_forecast = used.source == Source::Forecast && used.value > taken;
    match link.capacity() {
        Some(capacity) if !capacity.is_zero() => {
            let used = taken.max(used.value).saturating_add(demand).bits_per_second() as f64;
            ((used / capacity.bits_per_second() as f64).min(1.0), is_forecast)
        }
        Some(_) => (1.0, false),
        None => (0.0, false),
    }
}

/// `−ln(1 − loss)` of a link that loses 2.5 %: of lossier ones, a bound from below counts no more.
const LOSSY: f64 = 0.025;

/// What a path of so many links at most costs by its loss, at least, for each unit of what adds up, up to [`LOSSY`] of each
/// link. A path loses `1 − e^−x`, where `x` adds up. Of `hops` links with [`LOSSY`] at most each, that is above the chord
/// from zero to `hops · LOSSY`; with more it is above the chord's end.
pub(super) fn least_by_loss(weights: &Weights, hops: u8) -> f64 {
    let most = LOSSY * f64::from(hops.max(1));
    weights.loss * 100.0 * -(-most).exp_m1() / most
}

/// A lower bound of what a link adds to the cost of a path, times what arrives there: what simply adds up, and its loss.
/// Rounded down.
pub(super) fn least_of(road: &Road, weights: &Weights, by_loss: f64) -> f32 {
    let rtt = if road.rtt.is_nan() { weights.unknown } else { weights.rtt * f64::from(road.rtt) };
    let price = weights.price * f64::from(road.price) / 1e6;
    let loss = by_loss * f64::from(road.lost).min(LOSSY);
    ((rtt + weights.hop + price + loss) as f32).next_down().max(0.0)
}

/// Bytes of an IP packet of a circuit with these bounds that fit through the links.
pub fn mtu(links: &[&Link], family: topology::Family, bounds: &Bounds) -> u16 {
    let Some(least) = links.iter().map(|link| link.mtu(family)).min() else { return LOCAL_MTU };
    least.saturating_sub(if bounds.encrypted { seal::OVERHEAD } else { 0 })
}

pub fn offer(links: &[&Link], bounds: &Bounds, now: Timestamp) -> Offer {
    let family = topology::family(links.iter().copied());
    Offer {
        rtt: links.iter().try_fold(Latency::ZERO, |sum, link| Some(sum.saturating_add(link.rtt(now).value?))),
        free: links.iter().try_fold(Bandwidth::MAX, |least, link| Some(least.min(link.free()?))),
        loss: links.iter().fold(Loss::NONE, |loss, link| loss.then(link.loss(now).value)),
        price: links.iter().fold(Price::FREE, |price, link| price.saturating_add(link.values.price)),
        encrypted: links.iter().all(|link| link.values.encrypted),
        mtu: match family {
            Ok(family) => mtu(links, family, bounds),
            Err(_) => 0,
        },
    }
}
