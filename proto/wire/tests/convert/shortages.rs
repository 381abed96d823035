//! Questions for shortages and their answers, at random.
use crate::words::{bandwidth, forecast, link_id};
use proptest::prelude::*;
use proto_model::Loss;
use proto_model::shortage::{Line, Shortage};
use std::time::Duration;

pub(crate) fn line() -> impl Strategy<Value = Line> {
    let share = || (1..=1_000_000u32).prop_map(Loss::from_ppm);
    (1..u64::MAX, share(), share()).prop_map(|(within, share, chance)| Line {
        within: Duration::from_nanos(within),
        share,
        chance,
    })
}

pub(crate) fn shortage() -> impl Strategy<Value = Shortage> {
    let amounts = (bandwidth(), bandwidth(), bandwidth());
    (link_id(), amounts, forecast(), 0..=1_000_000u32).prop_map(
        |(link, (capacity, reserved, load), forecast, chance)| Shortage {
            link,
            capacity,
            reserved,
            load,
            forecast,
            chance: Loss::from_ppm(chance),
        },
    )
}
