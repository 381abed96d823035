//! Well-formed decisions and discoveries, at random.
use crate::words::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::choice::{Choice, Expert, Flip, Way};
use proto_model::plan::{
    Candidate, Discovery, Feasible, Found, HostChange, LeftOut, Offer, Plan, Term, Weights,
};
use std::time::Duration;

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
    let second =
        (of(candidate()), sentence(), vec(sentence(), 0..3), of(choice()), of(crate::insights::insight()));
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
                let (backup, protection, warnings, choice, insight) = second;
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
                    choice,
                    insight,
                }
            },
        )
        .boxed()
}

fn choice() -> impl Strategy<Value = Choice> {
    let way = (path(), finite(), of(finite()), of(finite()), of(finite()), any::<bool>()).prop_map(
        |(path, beside, agile, steady, shrunk, usable)| Way { path, beside, agile, steady, shrunk, usable },
    );
    let expert = (sentence(), any::<prop::sample::Index>(), proptest::array::uniform5(finite()));
    let indexes = proptest::array::uniform4(any::<prop::sample::Index>());
    let words = (sentence(), sentence(), sentence());
    let numbers = (finite(), of((finite(), finite())), any::<u64>());
    (vec(way, 1..4), vec(expert, 0..4), indexes, words, numbers)
        .prop_map(|(ways, experts, indexes, (expert, by, held), (margin, flip, step))| {
            let [here, wanted, chosen, next] = indexes.map(|index| index.index(ways.len()));
            let one = |(name, advises, numbers): (String, prop::sample::Index, [f64; 5])| {
                let [own, all, evidence, prior, score] = numbers;
                Expert { name, advises: advises.index(ways.len()), own, all, evidence, prior, score }
            };
            Choice {
                experts: experts.into_iter().map(one).collect(),
                ways: ways.clone(),
                here,
                wanted,
                chosen,
                expert,
                by,
                margin,
                flip: flip.map(|(below, now)| Flip { way: next, below, now }),
                step: Duration::from_nanos(step),
                held,
            }
        })
        .boxed()
}

pub(crate) fn discovery() -> impl Strategy<Value = Discovery> {
    let found = (resource(), of(candidate())).prop_map(|(resource, best)| Found { resource, best });
    let left_out = (resource_id(), sentence()).prop_map(|(resource, why)| LeftOut { resource, why });
    (intent(), vec(found, 0..3), vec(left_out, 0..3))
        .prop_map(|(intent, found, left_out)| Discovery { intent, found, left_out })
        .boxed()
}
