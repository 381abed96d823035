//! Well-formed decisions and discoveries, at random.
use crate::words::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::plan::{
    Candidate, Discovery, Feasible, Found, HostChange, LeftOut, Offer, Plan, Term, Weights,
};

pub(crate) fn candidate() -> impl Strategy<Value = Candidate> {
    let offer = (of(latency()), of(bandwidth()), loss(), price(), any::<(bool, u16)>()).prop_map(
        |(rtt, free, loss, price, (encrypted, mtu))| Offer { rtt, free, loss, price, encrypted, mtu },
    );
    let term =
        (sentence(), sentence(), finite()).prop_map(|(name, quantity, cost)| Term { name, quantity, cost });
    (path(), offer, vec(term, 0..4), finite(), vec(sentence(), 0..3))
        .prop_map(|(path, offer, terms, cost, rejected)| Candidate { path, offer, terms, cost, rejected })
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let weights = proptest::array::uniform6(finite())
        .prop_map(|[rtt, hop, load, loss, price, unknown]| Weights { rtt, hop, load, loss, price, unknown });
    let feasible = (of(bandwidth()), of(latency()), of(price()), vec(sentence(), 0..3))
        .prop_map(|(bandwidth, rtt, price, sentences)| Feasible { bandwidth, rtt, price, sentences });
    let host = (node(), vec(sentence(), 0..3)).prop_map(|(node, changes)| HostChange { node, changes });
    let refused = of(sentence().prop_filter("nothing is not refused", |text| !text.is_empty()));
    let parts = (vec(candidate(), 0..4), any::<prop::sample::Index>(), any::<(bool, u32)>());
    let second = (of(candidate()), sentence(), vec(sentence(), 0..3));
    (bounds(), weights, parts, refused, of(feasible), vec(host, 0..3), second)
        .prop_map(
            |(
                bounds,
                weights,
                (candidates, index, (accepted, omitted)),
                refused,
                feasible,
                hosts,
                second,
            )| {
                let (backup, protection, warnings) = second;
                Plan {
                    chosen: (accepted && !candidates.is_empty()).then(|| index.index(candidates.len())),
                    bounds,
                    weights,
                    candidates,
                    omitted,
                    refused,
                    feasible,
                    hosts,
                    backup,
                    protection,
                    warnings,
                }
            },
        )
        .boxed()
}

pub(crate) fn discovery() -> impl Strategy<Value = Discovery> {
    let found = (resource(), of(candidate())).prop_map(|(resource, best)| Found { resource, best });
    let left_out = (resource_id(), sentence()).prop_map(|(resource, why)| LeftOut { resource, why });
    (intent(), vec(found, 0..3), vec(left_out, 0..3))
        .prop_map(|(intent, found, left_out)| Discovery { intent, found, left_out })
        .boxed()
}
