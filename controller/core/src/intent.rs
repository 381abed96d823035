//! Checks what a client asks of a path, before any path is looked at.
use crate::route::MAX_HOPS;
use crate::route::tour::MAX_VIA;
use proto_model::intent::{Bounds, Intent};
use proto_model::{Bandwidth, Refusal};

/// Names in one list at most.
pub const MAX_NAMES: usize = 32;

/// Bounds that no path can keep; `field` is where they stand in the request.
pub fn check(bounds: &Bounds, field: &str) -> Result<(), Refusal> {
    let refuse = |name: &str, what: String| Err(Refusal::invalid(format!("{field}.{name}"), what));
    if bounds.bandwidth > Bandwidth::MAX {
        return refuse("bandwidth", format!("{} is more than {}", bounds.bandwidth, Bandwidth::MAX));
    }
    if let Some(hops) = bounds.max_hops.filter(|hops| !(1..=MAX_HOPS).contains(hops)) {
        return refuse("max_hops", format!("{hops} is not between 1 and {MAX_HOPS}"));
    }
    if bounds.max_rtt.is_some_and(|rtt| rtt.nanos() == 0) {
        return refuse("max_rtt", "a round trip takes longer than 0 ns; leave it out for no bound".into());
    }
    let kept = bounds.max_rtt.is_some() || bounds.max_loss.is_some();
    for (name, given) in [("risk", bounds.risk.is_some()), ("horizon", bounds.horizon.is_some())] {
        if given && !kept {
            let what = "it says how surely or how long bounds of round-trip time and loss are kept, and there are none";
            return Err(Refusal::invalid(format!("{field}.{name}"), what)
                .hint("set max_rtt or max_loss, or leave it out"));
        }
    }
    if let Some(node) = bounds.via.intersection(&bounds.avoid).next() {
        return refuse("via", format!("{node} is both to be crossed and to be avoided"));
    }
    if let Some(tag) = bounds.require_tags.intersection(&bounds.avoid_tags).next() {
        return refuse("require_tags", format!("{tag} is both required and to be avoided"));
    }
    if bounds.via.len() > MAX_VIA {
        return refuse("via", format!("{} hosts, at most {MAX_VIA} are allowed", bounds.via.len()));
    }
    for (name, count) in [
        ("avoid", bounds.avoid.len()),
        ("require_tags", bounds.require_tags.len()),
        ("avoid_tags", bounds.avoid_tags.len()),
    ] {
        if count > MAX_NAMES {
            return refuse(name, format!("{count} names, at most {MAX_NAMES} are allowed"));
        }
    }
    Ok(())
}

pub fn check_all(intents: &[Intent]) -> Result<(), Refusal> {
    if intents.len() > 64 {
        return Err(Refusal::invalid(
            "intents",
            format!("{} intents, at most 64 are allowed", intents.len()),
        ));
    }
    for (at, intent) in intents.iter().enumerate() {
        check(&intent.bounds, &format!("intents[{at}].bounds"))?;
    }
    Ok(())
}
