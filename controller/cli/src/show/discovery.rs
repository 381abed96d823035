//! What a discovery found, and why it left others out.
use super::table::{self, indented, plain};
use super::{or_dash, resource};
use proto_model::plan::{Discovery, Found};

pub fn all(discoveries: &[Discovery]) -> String {
    if discoveries.is_empty() {
        return "no intents: give --service NAME, or register intents with the resource\n".into();
    }
    discoveries.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(discovery: &Discovery) -> String {
    let left_out: Vec<String> =
        discovery.left_out.iter().map(|left| format!("{}: {}", left.resource, left.why)).collect();
    let left_out = match left_out.is_empty() {
        true => String::new(),
        false => format!("  left out\n{}", indented(&indented(&left_out.join("\n")))),
    };
    format!("{}\n{}{left_out}", resource::intent(&discovery.intent), indented(&found(&discovery.found)))
}

fn found(found: &[Found]) -> String {
    let row = |(index, found): (usize, &Found)| {
        let resource = &found.resource;
        let best = found.best.as_ref();
        vec![
            plain(index + 1),
            plain(&resource.id),
            plain(resource::status(resource.status)),
            plain(&resource.metadata.node),
            plain(resource.address.v4),
            plain(or_dash(best.map(|best| &best.path))),
            plain(or_dash(best.and_then(|best| best.offer.rtt))),
            plain(or_dash(best.and_then(|best| best.offer.free))),
            plain(best.map_or_else(|| "–".into(), |best| format!("{:.2}", best.cost))),
        ]
    };
    table::of(
        &["#", "RESOURCE", "STATUS", "NODE", "ADDRESS", "PATH", "RTT", "FREE", "COST"],
        found.iter().enumerate().map(row),
        "nothing satisfies it\n",
    )
}
