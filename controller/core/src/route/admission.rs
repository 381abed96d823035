//! Whether a path keeps the bounds; and if none does, what would be feasible.
use super::{Ask, DEFAULT_HOPS, Judged};
use crate::topology::{self, Link, Room, Tight};
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::{Candidate, Feasible, Offer};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price, Timestamp};

/// Bytes of an inner packet that a circuit must carry: what an underlay of 1280 bytes, the least of IPv6 (RFC 8200 §5), has
/// left under the outer headers of VXLAN in IPv6 and of encryption. Where it is less than 1280, the workloads' routes say so
/// to their kernels, which cut and size their packets as sources may.
pub const MIN_MTU: u16 = 1130;

/// Stands for the factor by which a quantity that is not known breaks its bound.
const UNKNOWN: f64 = 1_000.0;

/// A bound that a path breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{link} has {}, {need} is asked", room.briefly())]
    Bandwidth { link: LinkId, room: Room, need: Bandwidth },
    #[error("{}, {}", tight.said(), tight.taken_by(*need))]
    Interface { tight: Tight, need: Bandwidth },
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
        matches!(self, Self::Bandwidth { .. } | Self::Interface { .. })
    }
    /// By how much a quantity is beyond its bound: more than 1. None: a condition, which is kept or not.
    fn factor(&self) -> Option<f64> {
        let ratio = |has: f64, asked: f64| (has / asked.max(1.0)).max(1.0);
        match self {
            Self::Bandwidth { room, need, .. } => {
                Some(ratio(need.bits_per_second() as f64, room.free.bits_per_second() as f64))
            }
            Self::Interface { tight, need } => {
                Some(ratio(need.bits_per_second() as f64, tight.free().bits_per_second() as f64))
            }
            Self::Rtt { rtt, max } => Some(ratio(rtt.nanos() as f64, max.nanos() as f64)),
            Self::Loss { loss, max } => Some(ratio(loss.ppm().into(), max.ppm().into())),
            Self::Price { price, max } => {
                Some(ratio(price.micro_dollars_per_gb() as f64, max.micro_dollars_per_gb() as f64))
            }
            Self::Hops { hops, max } => Some(ratio(*hops as f64, f64::from(*max))),
            // Nobody knows by how much: further than what is known to be near.
            Self::CapacityUnknown { .. } | Self::RttUnknown { .. } => Some(UNKNOWN),
            Self::NotEncrypted { .. }
            | Self::InTheClear { .. }
            | Self::TagMissing { .. }
            | Self::TagAvoided { .. }
            | Self::NotVia { .. }
            | Self::Avoided { .. }
            | Self::Shunned { .. }
            | Self::Families(_)
            | Self::Mtu { .. } => None,
        }
    }
    pub(super) fn is_rtt(&self) -> bool {
        matches!(self, Self::Rtt { .. })
    }
    pub(super) fn is_loss(&self) -> bool {
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
pub fn broken(
    candidate: &Candidate,
    links: &[&Link],
    tight: Option<Tight>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Vec<Broken> {
    let (path, offer, bounds) = (&candidate.path, &candidate.offer, ask.bounds);
    let mut broken = Vec::new();
    broken.extend(bandwidth(links, tight, bounds.bandwidth));
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

/// Of links and interfaces, that which leaves least.
fn bandwidth(links: &[&Link], tight: Option<Tight>, need: Bandwidth) -> Option<Broken> {
    if need.is_zero() {
        return None;
    }
    if let Some(link) = links.iter().find(|link| link.capacity().is_none()) {
        return Some(Broken::CapacityUnknown { link: link.id.clone(), need });
    }
    let tightest = links.iter().min_by_key(|link| link.free())?;
    if let Some(tight) = tight.filter(|tight| tight.free() < need && Some(tight.free()) < tightest.free()) {
        return Some(Broken::Interface { tight, need });
    }
    let room = tightest.room().filter(|room| room.free < need)?;
    Some(Broken::Bandwidth { link: tightest.id.clone(), room, need })
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

/// The path that comes closest to the bounds: it breaks no condition that nobody can bargain about, if any does; then its
/// quantities are the least beyond what was asked. The earlier one of equals.
pub fn nearest<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> Option<&'a Judged> {
    judged.into_iter().min_by(|a, b| {
        let (x, y) = (distance(a), distance(b));
        x.0.cmp(&y.0).then(x.1.total_cmp(&y.1))
    })
}

/// How many conditions a path breaks, and by which factors its quantities break theirs, multiplied.
fn distance(judged: &Judged) -> (usize, f64) {
    let factors = judged.broken.iter().map(Broken::factor);
    factors.fold((0, 0.0), |(conditions, sum), factor| match factor {
        Some(factor) => (conditions, sum + factor.ln()),
        None => (conditions + 1, sum),
    })
}

/// The numbers come from the paths that were looked at: for each quantity, those that break no other bound.
pub fn feasible(judged: &[Judged], bounds: &Bounds) -> Feasible {
    let best = widest(judged).and_then(|judged| judged.candidate.offer.free);
    let rtt = but(judged, Broken::is_rtt).filter_map(|judged| judged.candidate.offer.rtt).min();
    let price = but(judged, Broken::is_price).map(|judged| judged.candidate.offer.price).min();
    Feasible { bandwidth: best, rtt, price, sentences: sentences(judged, bounds) }
}

/// Paths that break nothing but this kind of bound.
fn but(judged: &[Judged], which: fn(&Broken) -> bool) -> impl Iterator<Item = &Judged> {
    judged.iter().filter(move |judged| judged.broken.iter().all(which))
}

/// The best of the paths that only lack bandwidth, if it has any. The first one of equals.
fn widest(judged: &[Judged]) -> Option<&Judged> {
    let has = |judged: &&Judged| judged.candidate.offer.free.is_some_and(|free| !free.is_zero());
    but(judged, Broken::is_bandwidth).filter(has).min_by_key(|j| std::cmp::Reverse(j.candidate.offer.free))
}

/// What would do, and by which path.
fn sentences(judged: &[Judged], bounds: &Bounds) -> Vec<String> {
    let by = |judged: &Judged| asked(judged, bounds);
    let mut sentences = Vec::new();
    if !bounds.bandwidth.is_zero() {
        sentences.extend(widest(judged).map(up_to));
    }
    let rtt = |judged: &&Judged| judged.candidate.offer.rtt;
    if bounds.max_rtt.is_some()
        && let Some(least) = but(judged, Broken::is_rtt).filter(|j| rtt(j).is_some()).min_by_key(rtt)
        && let Some(rtt) = rtt(&least)
    {
        sentences.push(format!("{} if latency ≤ {rtt} is allowed", by(least)));
    }
    if bounds.max_loss.is_some() {
        let least = but(judged, Broken::is_loss).min_by_key(|judged| judged.candidate.offer.loss);
        sentences
            .extend(least.map(|j| format!("{} if a loss of {} is allowed", by(j), j.candidate.offer.loss)));
    }
    if bounds.max_price.is_some() {
        let least = but(judged, Broken::is_price).min_by_key(|judged| judged.candidate.offer.price);
        sentences
            .extend(least.map(|j| format!("{} if a price of {} is allowed", by(j), j.candidate.offer.price)));
    }
    let only = |which: fn(&Broken) -> bool| judged.iter().filter(move |judged| judged.only(which));
    let hops = |judged: &&Judged| judged.candidate.path.hops();
    if let Some(short) = only(Broken::is_hops).min_by_key(hops) {
        sentences.push(format!("{} if {} hops are allowed", by(short), hops(&short)));
    }
    if let Some(clear) = only(Broken::is_encryption).next() {
        sentences.push(format!("{} if links without encryption are allowed", by(clear)));
    }
    if let Some(sealed) = only(Broken::is_clearness).next() {
        sentences.push(format!("{} if it is encrypted end to end", by(sealed)));
    }
    if let Some(unknown) = only(|broken| matches!(broken, Broken::CapacityUnknown { .. })).next() {
        let path = &unknown.candidate.path;
        let text = "best effort (no bandwidth), or after the capacity of the links is set";
        sentences.push(format!("{path} as {text}"));
    }
    if let Some(unknown) = only(|broken| matches!(broken, Broken::RttUnknown { .. })).next() {
        let path = &unknown.candidate.path;
        sentences.push(format!(
            "{path} without a latency bound, or after the round-trip time of the links is set"
        ));
    }
    if sentences.is_empty() {
        sentences.extend(both(judged, bounds));
    }
    sentences
}

/// `500 Mbit/s by a → b`; the path alone where no bandwidth is asked for.
fn asked(judged: &Judged, bounds: &Bounds) -> String {
    let path = &judged.candidate.path;
    if bounds.bandwidth.is_zero() { path.to_string() } else { format!("{} by {path}", bounds.bandwidth) }
}

/// What a path that only lacks bandwidth has, and the link or interface that holds it up.
fn up_to(judged: &Judged) -> String {
    let Candidate { path, offer, .. } = &judged.candidate;
    let tightest = judged.broken.iter().find_map(|broken| match broken {
        Broken::Bandwidth { link, room, .. } => {
            let (a, b) = link.ends();
            Some(format!("; {a}–{b} has {room}"))
        }
        Broken::Interface { tight, .. } => Some(format!("; {}{}", tight.said(), tight.and_again())),
        _ => None,
    });
    format!("up to {} now by {path}{}", offer.free.unwrap_or_default(), tightest.unwrap_or_default())
}

/// When one bound is not enough: the nearest path that only breaks quantities, with all that must be allowed.
fn both(judged: &[Judged], bounds: &Bounds) -> Option<String> {
    let quantity = |broken: &Broken| {
        broken.is_bandwidth() || broken.is_rtt() || broken.is_loss() || broken.is_price() || broken.is_hops()
    };
    let nearest = nearest(judged.iter().filter(|judged| judged.only(quantity)))?;
    let Candidate { path, offer, .. } = &nearest.candidate;
    let breaks = |which: fn(&Broken) -> bool| nearest.broken.iter().any(which);
    let what = match offer.free.filter(|_| breaks(Broken::is_bandwidth)) {
        Some(free) if free.is_zero() => return None,
        Some(free) => format!("up to {free} now by {path}"),
        None => asked(nearest, bounds),
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
        allowed.push(format!("{} hops", path.hops()));
    }
    Some(format!("{what} if {} is allowed", allowed.join(" and ")))
}
