//! Says what would change a decision: which bound by how much, which term of a cost by how much, with the other numbers as they are.
use proto_model::insight::{Change, Flip};
use proto_model::intent::Bounds;
use proto_model::plan::{Candidate, Plan, Weights};
use proto_model::{Latency, Loss, Price};

/// At most one per candidate, in their order.
pub fn flips(plan: &Plan) -> Vec<Flip> {
    let chosen = plan.chosen.and_then(|index| plan.candidates.get(index));
    let each = plan.candidates.iter().enumerate();
    each.filter_map(|(index, candidate)| match chosen {
        _ if !candidate.rejected.is_empty() => Some(rejected(plan, index, candidate, chosen)),
        Some(chosen) if chosen.path == candidate.path => lead(plan, index, chosen),
        Some(chosen) => Some(dearer(plan, index, candidate, chosen)),
        None => None,
    })
    .collect()
}

/// Of one that could serve and costs more.
fn dearer(plan: &Plan, index: usize, candidate: &Candidate, chosen: &Candidate) -> Flip {
    let gap = candidate.cost - chosen.cost;
    let any = less(candidate, &plan.weights, gap);
    let sentence = match any.is_empty() {
        true => format!("costs {gap:.2} more than the chosen path; no single term of its cost is so large"),
        false => format!("would be chosen if {}", sentence(&any, " or ")),
    };
    Flip { candidate: index, dearer: gap, all: Vec::new(), any, sentence }
}

/// By how much the chosen one leads; none: it is the only one that serves.
fn lead(plan: &Plan, index: usize, chosen: &Candidate) -> Option<Flip> {
    let others =
        plan.candidates.iter().filter(|other| other.rejected.is_empty() && other.path != chosen.path);
    let next = others.min_by(|a, b| a.cost.total_cmp(&b.cost))?;
    let gap = next.cost - chosen.cost;
    let any = more(chosen, &plan.weights, &plan.bounds, gap.max(0.0));
    let sentence = match any.is_empty() {
        true => format!("costs {gap:.2} less than the next one, {}", next.path),
        false => format!("would lose to {} if {}", next.path, sentence(&any, " or ")),
    };
    Some(Flip { candidate: index, dearer: -gap, all: Vec::new(), any, sentence })
}

/// Of one that breaks bounds, or conditions that are kept or not.
fn rejected(plan: &Plan, index: usize, candidate: &Candidate, chosen: Option<&Candidate>) -> Flip {
    let all = bounds_broken(candidate, &plan.bounds);
    let gap = chosen.map_or(0.0, |chosen| candidate.cost - chosen.cost);
    // What is said of bounds with numbers comes first.
    let conditions: Vec<&str> = candidate.rejected.iter().skip(all.len()).map(String::as_str).collect();
    let then = match chosen {
        Some(_) if gap > 0.0 => format!("; it would then still cost {gap:.2} more than the chosen path"),
        Some(_) => "; it would then be chosen".to_owned(),
        None => String::new(),
    };
    let sentence = match (all.is_empty(), conditions.is_empty()) {
        (false, true) => format!("would serve if {}{then}", sentence(&all, " and ")),
        (true, _) => format!("no measurement would change it: {}", conditions.join("; ")),
        (false, false) => {
            format!(
                "would need {}, and no measurement changes this: {}",
                sentence(&all, " and "),
                conditions.join("; ")
            )
        }
    };
    Flip { candidate: index, dearer: gap, all, any: Vec::new(), sentence }
}

/// Bounds with a number, in the order in which [`super::admission::broken`] names them.
fn bounds_broken(candidate: &Candidate, bounds: &Bounds) -> Vec<Change> {
    let offer = &candidate.offer;
    let mut all = Vec::new();
    if !bounds.bandwidth.is_zero() && offer.free.is_none_or(|free| free < bounds.bandwidth) {
        let now = offer.free.map_or_else(|| "not known".into(), |free| free.to_string());
        all.push(change("free", now, format!("{} or more", bounds.bandwidth)));
    }
    if let Some(max) = bounds.max_rtt.filter(|max| offer.rtt.is_none_or(|rtt| rtt > *max)) {
        let now = offer.rtt.map_or_else(|| "not known".into(), |rtt| rtt.to_string());
        all.push(change("rtt", now, format!("{max} or less")));
    }
    if let Some(max) = bounds.max_loss.filter(|max| offer.loss > *max) {
        all.push(change("loss", offer.loss.to_string(), format!("{max} or less")));
    }
    if let Some(max) = bounds.max_price.filter(|max| offer.price > *max) {
        all.push(change("price", offer.price.to_string(), format!("{max} or less")));
    }
    all
}

fn change(what: &str, now: String, needed: String) -> Change {
    Change { what: what.into(), now, needed }
}

/// Each term that alone could make the path cheaper by more than `gap`.
fn less(candidate: &Candidate, weights: &Weights, gap: f64) -> Vec<Change> {
    let terms = candidate.terms.iter().filter(|term| term.cost > gap);
    let one = |(name, cost): (&str, f64)| {
        let quantity = Quantity::of(name)?;
        let weight = quantity.weight(weights).filter(|weight| *weight > 0.0)?;
        let now = quantity.text(quantity.undo(cost / weight), Round::No);
        Some(change(
            name,
            now,
            format!("below {}", quantity.text(quantity.undo((cost - gap) / weight), Round::Down)),
        ))
    };
    terms.filter_map(|term| one((term.name.as_str(), term.cost))).collect()
}

/// Each term that alone could make the path dearer by more than `gap`; a bound that is broken before that counts first.
fn more(chosen: &Candidate, weights: &Weights, bounds: &Bounds, gap: f64) -> Vec<Change> {
    let one = |(name, cost): (&str, f64)| {
        let quantity = Quantity::of(name)?;
        let weight = quantity.weight(weights).filter(|weight| *weight > 0.0)?;
        let now = quantity.text(quantity.undo(cost / weight), Round::No);
        let (most, bound) = (quantity.undo((cost + gap) / weight), quantity.bound(bounds));
        let needed = match bound.filter(|bound| *bound < most) {
            Some(bound) => format!("above {}, which is its bound", quantity.text(bound, Round::No)),
            // A link cannot be more than full.
            None if quantity == Quantity::Share && most >= 1.0 => return None,
            None if quantity == Quantity::Loss && most >= 100.0 => return None,
            None => format!("above {}", quantity.text(most, Round::Up)),
        };
        Some(change(name, now, needed))
    };
    // What is not measured is of no use to anybody, and prices do not move by themselves.
    let terms = chosen.terms.iter().filter(|term| !matches!(term.name.as_str(), "unknown" | "price"));
    terms.filter_map(|term| one((term.name.as_str(), term.cost))).collect()
}

/// A quantity that adds to the cost, in the unit of its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    /// Milliseconds.
    Rtt,
    /// Per cent.
    Loss,
    /// Dollars per gigabyte.
    Price,
    /// From 0 to 1.
    Share,
    /// Milliseconds that links whose round-trip time is not known may have together.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
enum Round {
    No,
    Up,
    Down,
}

impl Quantity {
    /// By the name of its term; hops do not change.
    fn of(name: &str) -> Option<Self> {
        match name {
            "rtt" => Some(Self::Rtt),
            "loss" => Some(Self::Loss),
            "price" => Some(Self::Price),
            "load" => Some(Self::Share),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }

    fn weight(self, weights: &Weights) -> Option<f64> {
        match self {
            Self::Rtt | Self::Unknown => Some(weights.rtt),
            Self::Loss => Some(weights.loss),
            Self::Price => Some(weights.price),
            Self::Share => Some(weights.load),
        }
    }

    /// The quantity of which a cost, over its weight, was made.
    fn undo(self, amount: f64) -> f64 {
        match self {
            Self::Share => amount.max(0.0).sqrt(),
            Self::Rtt | Self::Loss | Self::Price | Self::Unknown => amount,
        }
    }

    fn bound(self, bounds: &Bounds) -> Option<f64> {
        match self {
            Self::Rtt => bounds.max_rtt.map(Latency::as_millis_f64),
            Self::Loss => bounds.max_loss.map(|loss| f64::from(loss.ppm()) / 1e4),
            Self::Price => bounds.max_price.map(|price| price.micro_dollars_per_gb() as f64 / 1e6),
            Self::Share | Self::Unknown => None,
        }
    }

    fn text(self, amount: f64, round: Round) -> String {
        let whole = |scale: f64| {
            let exact = amount.max(0.0) * scale;
            match round {
                Round::No => exact.round(),
                Round::Up => exact.ceil(),
                Round::Down => exact.floor(),
            }
        };
        match self {
            Self::Rtt | Self::Unknown => Latency::from_micros(whole(1e3) as u64).to_string(),
            Self::Loss => Loss::from_ppm(whole(1e4) as u32).to_string(),
            Self::Price => Price::from_micro_dollars_per_gb(whole(1e6) as u64).to_string(),
            Self::Share => format!("{} %", whole(1e3) / 10.0),
        }
    }
}

/// `its round-trip time were below 12.3 ms (now 15 ms) or its loss below 0.1 % (now 0.3 %)`.
fn sentence(changes: &[Change], between: &str) -> String {
    let one = |(index, change): (usize, &Change)| {
        let were = if index == 0 { " were" } else { "" };
        let Change { what, now, needed } = change;
        match what.as_str() {
            "unknown" => {
                format!("the round-trip times of its links that are not known{were} {needed} together")
            }
            what => format!("its {}{were} {needed} (now {now})", words(what)),
        }
    };
    changes.iter().enumerate().map(one).collect::<Vec<_>>().join(between)
}

fn words(what: &str) -> &str {
    match what {
        "rtt" => "round-trip time",
        "load" => "tightest link's use",
        "free" => "free bandwidth",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::circuit::Path;
    use proto_model::plan::{Offer, Term};
    use proto_model::topology::LinkId;
    use proto_model::{Bandwidth, NodeName};

    fn path(over: &str) -> Path {
        let nodes: Vec<NodeName> =
            ["a", over, "b"].iter().map(|name| name.parse().expect("a name")).collect();
        let link = |ends: &[NodeName]| {
            LinkId::new(ends[0].clone(), ends[1].clone(), "wan".parse().expect("a name")).expect("two ends")
        };
        Path { links: nodes.windows(2).map(link).collect(), nodes }
    }

    fn candidate(over: &str, millis: u64, mbit: u64, terms: &[(&str, f64)]) -> Candidate {
        let term =
            |(name, cost): &(&str, f64)| Term { name: (*name).into(), quantity: String::new(), cost: *cost };
        Candidate {
            path: path(over),
            offer: Offer {
                rtt: Some(Latency::from_millis(millis)),
                free: Some(Bandwidth::mbit(mbit)),
                loss: Loss::NONE,
                price: Price::FREE,
                encrypted: false,
                mtu: 1450,
            },
            terms: terms.iter().map(term).collect(),
            cost: terms.iter().map(|(_, cost)| cost).sum(),
            rejected: Vec::new(),
        }
    }

    fn plan(candidates: Vec<Candidate>, bounds: Bounds) -> Plan {
        let chosen = candidates.first().filter(|first| first.rejected.is_empty()).map(|_| 0);
        Plan { bounds, chosen, candidates, ..Plan::default() }
    }

    #[test]
    fn a_dearer_path_would_be_chosen_below_the_round_trip_time_at_which_the_costs_are_equal() {
        let near = candidate("x", 11, 100, &[("rtt", 11.0), ("hop", 1.0)]);
        let far = candidate("y", 15, 100, &[("rtt", 15.0), ("hop", 1.0), ("loss", 0.5)]);
        let flips = flips(&plan(vec![near, far], Bounds::default()));
        let said = &flips[1];
        assert_eq!((said.candidate, said.dearer), (1, 4.5));
        assert_eq!(said.sentence, "would be chosen if its round-trip time were below 10.5 ms (now 15 ms)");
        assert_eq!(flips[0].any[0].needed, "above 15.5 ms");
        assert!(flips[0].sentence.starts_with("would lose to a → y → b if its round-trip time"), "{flips:?}");
    }

    /// The sentence is true: with that number the other path costs less, and with a little more it does not.
    #[test]
    fn what_is_said_of_each_term_is_where_the_order_of_the_costs_turns() {
        let weights = Weights::default();
        let far = candidate("y", 15, 100, &[("rtt", 15.0), ("loss", 20.0), ("load", 12.8), ("price", 9.0)]);
        let near = 50.0;
        let gap = far.cost - near;
        for change in less(&far, &weights, gap) {
            let number: f64 =
                change.needed.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
            let cost = |amount: f64| match change.what.as_str() {
                "rtt" => weights.rtt * amount,
                "loss" => weights.loss * amount,
                "load" => weights.load * (amount / 100.0).powi(2),
                "price" => weights.price * amount,
                other => panic!("{other}"),
            };
            let others: f64 =
                far.terms.iter().filter(|term| term.name != change.what).map(|term| term.cost).sum();
            assert!(others + cost(number) <= near + 1e-9, "{change:?}");
            assert!(others + cost(number * 1.02) > near, "{change:?}");
        }
        assert_eq!(less(&far, &weights, gap).len(), 4);
    }

    #[test]
    fn a_term_that_is_too_small_is_not_offered() {
        let near = candidate("x", 1, 100, &[("rtt", 1.0)]);
        let dear = candidate("y", 2, 100, &[("rtt", 2.0), ("hop", 8.0)]);
        let flips = flips(&plan(vec![near, dear], Bounds::default()));
        assert!(flips[1].any.is_empty());
        assert!(flips[1].sentence.contains("no single term of its cost is so large"), "{flips:?}");
    }

    #[test]
    fn a_rejected_path_says_from_when_on_it_would_serve_and_whether_it_would_be_chosen() {
        let bounds = Bounds {
            bandwidth: Bandwidth::mbit(60),
            max_rtt: Some(Latency::from_millis(20)),
            ..Bounds::default()
        };
        let serves = candidate("x", 11, 100, &[("rtt", 11.0)]);
        let full = Candidate { rejected: vec!["full".into()], ..candidate("y", 5, 40, &[("rtt", 5.0)]) };
        let both = Candidate {
            rejected: vec!["full".into(), "far".into()],
            ..candidate("z", 25, 40, &[("rtt", 25.0)])
        };
        let far_off =
            Candidate { rejected: vec!["it crosses w".into()], ..candidate("w", 5, 80, &[("rtt", 5.0)]) };
        let flips = flips(&plan(vec![serves, full, both, far_off], bounds));
        let said = |index: usize| {
            flips.iter().find(|flip| flip.candidate == index).expect("it is there").sentence.as_str()
        };
        assert_eq!(
            said(1),
            "would serve if its free bandwidth were 60 Mbit/s or more (now 40 Mbit/s); it would then be chosen"
        );
        assert_eq!(
            said(2),
            "would serve if its free bandwidth were 60 Mbit/s or more (now 40 Mbit/s) and its round-trip time 20 ms or less \
             (now 25 ms); it would then still cost 14.00 more than the chosen path"
        );
        assert_eq!(said(3), "no measurement would change it: it crosses w");
        assert!(flips.iter().all(|flip| flip.candidate != 0), "the only one that serves leads nobody");
    }

    #[test]
    fn the_chosen_path_loses_by_its_bound_where_that_comes_first() {
        let bounds = Bounds { max_rtt: Some(Latency::from_millis(12)), ..Bounds::default() };
        let near = candidate("x", 11, 100, &[("rtt", 11.0)]);
        let far = candidate("y", 12, 100, &[("rtt", 12.0), ("hop", 9.0)]);
        let flips = flips(&plan(vec![near, far], bounds));
        assert_eq!(flips[0].any[0].needed, "above 12 ms, which is its bound");
    }
}
