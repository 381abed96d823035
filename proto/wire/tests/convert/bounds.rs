//! Any bounds, and intents with them.
use crate::words::*;
use proptest::collection::{btree_map, btree_set};
use proptest::option::of;
use proptest::prelude::*;
use proto_model::intent::{Bounds, Intent};
use proto_model::{Bandwidth, Horizon, Risk, ServiceName, Weighed, Weight};
use std::collections::BTreeMap;

pub(crate) fn bounds() -> impl Strategy<Value = Bounds> {
    let sets =
        (btree_set(node(), 0..4), btree_set(node(), 0..4), btree_set(name(), 0..4), btree_set(name(), 0..4));
    (
        of(latency()),
        of(loss()),
        (bandwidth(), of(24_000..1_000_000_000_u64)),
        any::<(bool, bool)>(),
        of(price()),
        of(1..=16_u8),
        (sets, foresight()),
    )
        .prop_map(
            |(
                max_rtt,
                max_loss,
                (bandwidth, more),
                (encrypted, encrypted_links),
                max_price,
                max_hops,
                (sets, (risk, horizon, weights)),
            )| {
                let (via, avoid, require_tags, avoid_tags) = sets;
                Bounds {
                    max_loss,
                    avoid: avoid.difference(&via).cloned().collect(),
                    avoid_tags: avoid_tags.difference(&require_tags).cloned().collect(),
                    max_rtt,
                    bandwidth,
                    limit: more
                        .map(|more| bandwidth.saturating_add(Bandwidth::from_bits_per_second(more)))
                        .filter(|limit| *limit <= Bandwidth::MAX),
                    encrypted,
                    encrypted_links,
                    max_price,
                    max_hops,
                    via,
                    require_tags,
                    risk,
                    horizon,
                    weights,
                }
            },
        )
        .boxed()
}

fn foresight() -> impl Strategy<Value = (Option<Risk>, Option<Horizon>, BTreeMap<Weighed, Weight>)> {
    let risk = (10_000..=250_000_u32).prop_map(|ppm| Risk::try_from(ppm).expect("within"));
    let horizon = (1..=3_600_u32).prop_map(|seconds| Horizon::try_from(seconds).expect("within"));
    let weight = (0.0..1e9).prop_map(|value| Weight::try_from(value).expect("within"));
    (of(risk), of(horizon), btree_map(proptest::sample::select(&Weighed::ALL), weight, 0..4))
}

pub(crate) fn intent() -> impl Strategy<Value = Intent> {
    (name().prop_map(ServiceName), bounds(), any::<u8>()).prop_map(|(service, bounds, priority)| Intent {
        service,
        bounds,
        priority,
    })
}
