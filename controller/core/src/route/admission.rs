//! Whether a path keeps the bounds; and if none does, what would be feasible.
use super::{Ask, DEFAULT_HOPS, Judged};
use crate::topology::{self, Link};
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::{Feasible, Offer};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price, Timestamp};

/// Bytes of an inner packet that a circuit must carry: what an underlay of 1280 bytes, the least of IPv6 (RFC 8200 §5), has
/// left under the outer headers of VXLAN in IPv6 and of encryption. Where it is less than 1280, the workloads' routes say so
/// to their kernels, which cut and size their packets as sources may.
pub const MIN_MTU: u16 = 1130;

/// A bound that a path breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{link} has {free} free, {need} is asked")]
    Bandwidth { link: LinkId, free: Bandwidth, capacity: Bandwidth, need: Bandwidth },
    #[error("capacity of {link} is not known, {need} is asked")]
    CapacityUnknown { link: LinkId, need: Bandwidth },
    #[error("{rtt} round trip, at most {max} is asked")]
    Rtt { rtt: Latency, max: Latency },
    #[error("round-trip time of {link} is not known, at most {max} is asked")]
    RttUnknown { link: LinkId, max: Latency },
    #[error("{loss} loss, at most {max} is asked")]
    Loss { loss: Loss, max: Loss },
    #[error("{price}, at most {max} is asked")]
    Price { price: Price, max: Price },
    #[error("{hops} hops, at most {max} are asked")]
    Hops { hops: usize, max: u8 },
    #[error("{link} is not encrypted")]
    NotEncrypted { link: LinkId },
    #[error("{link} takes only circuits that are encrypted end to end")]
    InTheClear { link: LinkId },
    #[error("{link} lacks the tag {tag}")]
    TagMissing { link: LinkId, tag: Name },
    #[error("{link} has the tag {tag}, which is to be avoided")]
    TagAvoided { link: LinkId, tag: Name },
    #[error("it does not cross {node}")]
    NotVia { node: NodeName },
    #[error("it crosses {node}, which is to be avoided")]
    Avoided { node: NodeName },
    #[error("it crosses {node}, which failed to build it")]
    Shunned { node: NodeName },
    #[error("{0}")]
    Families(String),
    #[error("packets of {mtu} bytes fit, at least {MIN_MTU} are needed")]
    Mtu { mtu: u16 },
}

impl Broken {
    pub fn is_bandwidth(&self) -> bool {
        matches!(self, Self::Bandwidth { .. })
    }
    fn is_rtt(&self) -> bool {
        matches!(self, Self::Rtt { .. })
    }
    fn is_loss(&self) -> bool {
        matches!(self, Self::Loss { .. })
    }
    fn is_price(&self) -> bool {
        matches!(self, Self::Price { .. })
    }
    fn is_hops(&self) -> bool {
        matches!(self, Self::Hops { .. })
    }
    fn is_encryption(&self) -> bool {
        matches!(self, Self::NotEncrypted { .. })
    }
    fn is_clearness(&self) -> bool {
        matches!(self, Self::InTheClear { .. })
    }
}

/// Every bound that the path breaks; of a kind that several links break, the worst link.
pub fn broken(path: &Path, links: &[&Link], offer: &Offer, ask: &Ask<'_>, now: Timestamp) -> Vec<Broken> {
    let bounds = ask.bounds;
    let mut broken = Vec::new();
    broken.extend(bandwidth(links, bounds.bandwidth));
    broken.extend(bounds.max_rtt.and_then(|max| rtt(links, offer, max, now)));
    broken.extend(
        bounds.max_loss.filter(|max| offer.loss > *max).map(|max| Broken::Loss { loss: offer.loss, max }),
    );
    broken.extend(
        bounds
            .max_price
            .filter(|max| offer.price > *max)
            .map(|max| Broken::Price { price: offer.price, max }),
    );
    let max = bounds.max_hops.unwrap_or(DEFAULT_HOPS);
    if path.hops() > usize::from(max) {
        broken.push(Broken::Hops { hops: path.hops(), max });
    }
    broken.extend(security(links, bounds));
    broken.extend(hosts(path, ask));
    match topology::family(links.iter().copied()) {
        Err(why) => broken.push(Broken::Families(why)),
        Ok(_) if offer.mtu < MIN_MTU => broken.push(Broken::Mtu { mtu: offer.mtu }),
        Ok(_) => {}
    }
    broken
}

fn bandwidth(links: &[&Link], need: Bandwidth) -> Option<Broken> {
    if need.is_zero() {
        return None;
    }
    if let Some(link) = links.iter().find(|link| link.capacity().is_none()) {
        return Some(Broken::CapacityUnknown { link: link.id.clone(), need });
    }
    let tightest = links.iter().min_by_key(|link| link.free())?;
    let free = tightest.free().filter(|free| *free < need)?;
    let capacity = tightest.capacity()?;
    Some(Broken::Bandwidth { link: tightest.id.clone(), free, capacity, need })
}

fn rtt(links: &[&Link], offer: &Offer, max: Latency, now: Timestamp) -> Option<Broken> {
    match offer.rtt {
        Some(rtt) => (rtt > max).then_some(Broken::Rtt { rtt, max }),
        None => {
            let link = links.iter().find(|link| link.rtt(now).value.is_none())?;
            Some(Broken::RttUnknown { link: link.id.clone(), max })
        }
    }
}

fn security(links: &[&Link], bounds: &Bounds) -> Vec<Broken> {
    let mut broken = Vec::new();
    if let Some(link) = links.iter().find(|link| bounds.encrypted_links && !link.values.encrypted) {
        broken.push(Broken::NotEncrypted { link: link.id.clone() });
    }
    if let Some(link) = links.iter().find(|link| !bounds.encrypted && link.values.require_encryption) {
        broken.push(Broken::InTheClear { link: link.id.clone() });
    }
    for tag in &bounds.require_tags {
        if let Some(link) = links.iter().find(|link| !link.values.tags.contains(tag)) {
            broken.push(Broken::TagMissing { link: link.id.clone(), tag: tag.clone() });
        }
    }
    for tag in &bounds.avoid_tags {
        if let Some(link) = links.iter().find(|link| link.values.tags.contains(tag)) {
            broken.push(Broken::TagAvoided { link: link.id.clone(), tag: tag.clone() });
        }
    }
    broken
}

fn hosts(path: &Path, ask: &Ask<'_>) -> Vec<Broken> {
    let missing = ask.bounds.via.iter().filter(|node| !path.nodes.contains(node));
    let mut broken: Vec<_> = missing.map(|node| Broken::NotVia { node: node.clone() }).collect();
    for node in &path.nodes {
        if ask.bounds.avoid.contains(node) {
            broken.push(Broken::Avoided { node: node.clone() });
        }
        if ask.shun.contains(node) {
            broken.push(Broken::Shunned { node: node.clone() });
        }
    }
    broken
}

/// The numbers come from the paths that were looked at: for each quantity, those that break no other bound.
pub fn feasible(judged: &[Judged], bounds: &Bounds) -> Feasible {
    let most = but(judged, Broken::is_bandwidth).filter_map(|offer| offer.free).max();
    let bandwidth = most.filter(|free| !free.is_zero());
    let rtt = but(judged, Broken::is_rtt).filter_map(|offer| offer.rtt).min();
    let price = but(judged, Broken::is_price).map(|offer| offer.price).min();
    let mut feasible = Feasible { bandwidth, rtt, price, sentences: Vec::new() };
    feasible.sentences = sentences(&feasible, judged, bounds);
    feasible
}

/// Offers of the paths that break nothing but this kind of bound.
fn but(judged: &[Judged], which: fn(&Broken) -> bool) -> impl Iterator<Item = &Offer> {
    let fit = judged.iter().filter(move |judged| judged.broken.iter().all(which));
    fit.map(|judged| &judged.candidate.offer)
}

fn sentences(feasible: &Feasible, judged: &[Judged], bounds: &Bounds) -> Vec<String> {
    let asked = if bounds.bandwidth.is_zero() { "it".to_owned() } else { bounds.bandwidth.to_string() };
    let mut sentences = Vec::new();
    if !bounds.bandwidth.is_zero() {
        let tightest = tightest(judged).map_or(String::new(), |why| format!("; {why}"));
        sentences.extend(feasible.bandwidth.map(|most| format!("up to {most} now{tightest}")));
    }
    if bounds.max_rtt.is_some() {
        sentences.extend(feasible.rtt.map(|least| format!("{asked} if latency ≤ {least} is allowed")));
    }
    if bounds.max_loss.is_some() {
        let least = but(judged, Broken::is_loss).map(|offer| offer.loss).min();
        sentences.extend(least.map(|least| format!("{asked} if a loss of {least} is allowed")));
    }
    if bounds.max_price.is_some() {
        sentences.extend(feasible.price.map(|least| format!("{asked} if a price of {least} is allowed")));
    }
    let only = |which: fn(&Broken) -> bool| judged.iter().filter(move |judged| judged.only(which));
    if let Some(hops) = only(Broken::is_hops).map(|judged| judged.candidate.path.hops()).min() {
        sentences.push(format!("{asked} if {hops} hops are allowed"));
    }
    if only(Broken::is_encryption).next().is_some() {
        sentences.push(format!("{asked} if links without encryption are allowed"));
    }
    if only(Broken::is_clearness).next().is_some() {
        sentences.push(format!("{asked} if it is encrypted end to end"));
    }
    if only(|broken| matches!(broken, Broken::CapacityUnknown { .. })).next().is_some() {
        sentences.push("best effort (no bandwidth), or after the capacity of the links is set".into());
    }
    if only(|broken| matches!(broken, Broken::RttUnknown { .. })).next().is_some() {
        sentences.push("without a latency bound, or after the round-trip time of the links is set".into());
    }
    if sentences.is_empty() {
        sentences.extend(both(judged, bounds, &asked));
    }
    sentences
}

/// The link that holds up the best of the paths that only lack bandwidth.
fn tightest(judged: &[Judged]) -> Option<String> {
    let only = judged.iter().filter(|judged| judged.only(Broken::is_bandwidth));
    let best = only.max_by_key(|judged| judged.candidate.offer.free)?;
    best.broken.iter().find_map(|broken| match broken {
        Broken::Bandwidth { link, free, capacity, .. } => {
            let (a, b) = link.ends();
            Some(format!("{a}–{b} has {free} of {capacity} free"))
        }
        _ => None,
    })
}

/// When one bound is not enough: the nearest path that only breaks quantities, with all that must be allowed.
fn both(judged: &[Judged], bounds: &Bounds, asked: &str) -> Option<String> {
    let quantity = |broken: &Broken| {
        broken.is_bandwidth() || broken.is_rtt() || broken.is_loss() || broken.is_price() || broken.is_hops()
    };
    let nearest =
        judged.iter().filter(|judged| judged.only(quantity)).min_by_key(|judged| judged.broken.len())?;
    let offer = &nearest.candidate.offer;
    let breaks = |which: fn(&Broken) -> bool| nearest.broken.iter().any(which);
    let what = match offer.free.filter(|_| breaks(Broken::is_bandwidth)) {
        Some(free) if free.is_zero() => return None,
        Some(free) => format!("up to {free} now"),
        None => asked.to_owned(),
    };
    let mut allowed = Vec::new();
    if let Some(rtt) = offer.rtt.filter(|_| breaks(Broken::is_rtt)) {
        allowed.push(format!("latency ≤ {rtt}"));
    }
    if breaks(Broken::is_loss) {
        allowed.push(format!("a loss of {}", offer.loss));
    }
    if breaks(Broken::is_price) && bounds.max_price.is_some() {
        allowed.push(format!("a price of {}", offer.price));
    }
    if breaks(Broken::is_hops) {
        allowed.push(format!("{} hops", nearest.candidate.path.hops()));
    }
    Some(format!("{what} if {} is allowed", allowed.join(" and ")))
}
