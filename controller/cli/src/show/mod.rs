//! How answers look to people. Values in, text out; colours are stripped where the output is no terminal.
pub mod chart;
pub mod choice;
pub mod circuit;
pub mod discovery;
pub mod drops;
pub mod fabric;
pub mod insight;
pub mod link;
pub mod picture;
pub mod plan;
pub mod plot;
pub mod policy;
pub mod replay;
pub mod resource;
pub mod rule;
pub mod scale;
pub mod table;
pub mod together;
pub mod trace;
pub mod why;

use proto_model::Timestamp;
use proto_model::intent::Bounds;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_nanos() as u64)
}

/// How long ago, in one unit: `12 s`, `3 min`, `5 h`, `2 d`.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.since(then))
}

pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0..120 => format!("{} s", duration.as_secs()),
        120..7_200 => format!("{} min", duration.as_secs() / 60),
        7_200..172_800 => format!("{} h", duration.as_secs() / 3_600),
        _ => format!("{} d", duration.as_secs() / 86_400),
    }
}

/// Bytes in decimal multiples, as link rates are.
pub fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

/// What is not known is a dash.
pub fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".into(), |value| value.to_string())
}

pub fn words<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    words.join(", ")
}

/// `RTT ≤ 20 ms · 200 Mbit/s · encrypted`.
pub fn bounds(bounds: &Bounds) -> String {
    let mut parts = Vec::new();
    if let Some(rtt) = bounds.max_rtt {
        parts.push(format!("RTT ≤ {rtt}"));
    }
    if let Some(loss) = bounds.max_loss {
        parts.push(format!("loss ≤ {loss}"));
    }
    parts.push(match bounds.bandwidth {
        none if none.is_zero() => "best effort".into(),
        some => some.to_string(),
    });
    if let Some(limit) = bounds.limit {
        parts.push(format!("at most {limit}"));
    }
    if bounds.encrypted {
        parts.push("encrypted".into());
    }
    if bounds.encrypted_links {
        parts.push("encrypted links".into());
    }
    if let Some(price) = bounds.max_price {
        parts.push(format!("≤ {price}"));
    }
    if let Some(hops) = bounds.max_hops {
        parts.push(format!("≤ {hops} hops"));
    }
    if let Some(risk) = bounds.risk {
        parts.push(format!("at a risk of {risk}"));
    }
    if let Some(horizon) = bounds.horizon {
        parts.push(format!("for the next {horizon}"));
    }
    let weights = words(bounds.weights.iter().map(|(term, own)| format!("{term} {own}")));
    let lists = [
        ("weights", weights),
        ("via", words(&bounds.via)),
        ("not via", words(&bounds.avoid)),
        ("all links", words(&bounds.require_tags)),
        ("no link", words(&bounds.avoid_tags)),
    ];
    parts.extend(
        lists.iter().filter(|(_, list)| !list.is_empty()).map(|(word, list)| format!("{word} {list}")),
    );
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_unit() {
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(120)), "2 min");
        assert_eq!(span(Duration::from_secs(7_200)), "2 h");
        assert_eq!(span(Duration::from_secs(172_800)), "2 d");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(age(Timestamp(0), Timestamp(5)), "0 s");
    }
}
