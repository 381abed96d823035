//! Well-formed insights and series, at random.
use crate::words::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::insight::{
    Change, Flip, Happened, Insight, Line, LinkOutlook, Origin, Past, PathOutlook, Point, Role, Series,
    Subject,
};
use proto_model::request::Request;
use proto_model::topology::Quantity;
use std::time::Duration;

fn change() -> impl Strategy<Value = Change> {
    (sentence(), sentence(), sentence()).prop_map(|(what, now, needed)| Change { what, now, needed })
}

fn origin() -> impl Strategy<Value = Origin> {
    let all = [Origin::Configured, Origin::Measured, Origin::Forecast, Origin::Unknown];
    proptest::sample::select(all.to_vec())
}

fn past() -> impl Strategy<Value = Past> {
    let all = [
        Happened::Placed,
        Happened::Moved,
        Happened::GivenUp,
        Happened::Promoted,
        Happened::Switched,
        Happened::Returned,
        Happened::Suspended,
    ];
    let what = proptest::sample::select(all.to_vec());
    let numbers = (vec(forecast(), 0..2), vec(forecast(), 0..2));
    (timestamp(), what, of(path()), of(path()), sentence(), numbers).prop_map(
        |(at, what, from, to, why, (of_from, of_to))| Past { at, what, from, to, why, of_from, of_to },
    )
}

pub(crate) fn insight() -> impl Strategy<Value = Insight> {
    let flip = (0..64_usize, finite(), vec(change(), 0..2), vec(change(), 0..2), sentence())
        .prop_map(|(candidate, dearer, all, any, sentence)| Flip { candidate, dearer, all, any, sentence });
    let ahead = (0..64_usize, vec(forecast(), 0..2))
        .prop_map(|(candidate, forecasts)| PathOutlook { candidate, forecasts });
    let link = (link_id(), of(latency()), origin(), loss(), origin(), vec(forecast(), 0..2)).prop_map(
        |(link, rtt, rtt_from, loss, loss_from, forecasts)| LinkOutlook {
            link,
            rtt,
            rtt_from,
            loss,
            loss_from,
            forecasts,
        },
    );
    (timestamp(), vec(flip, 0..2), vec(ahead, 0..2), vec(link, 0..2), vec(past(), 0..2))
        .prop_map(|(at, flips, paths, links, past)| Insight { at, flips, paths, links, past })
        .boxed()
}

pub(crate) fn series() -> impl Strategy<Value = Series> {
    let role = proptest::sample::select(vec![
        Role::Path,
        Role::Backup,
        Role::Candidate,
        Role::Link,
        Role::Circuit,
        Role::Forth,
        Role::Back,
        Role::Both,
    ]);
    let point = (timestamp(), any::<[u64; 3]>()).prop_map(|(at, [least, mean, most])| Point {
        at,
        least,
        mean,
        most,
    });
    let line = (role, path(), origin(), vec(point, 0..4), vec(forecast(), 0..2))
        .prop_map(|(role, path, from, points, forecasts)| Line { role, path, from, points, forecasts });
    let quantity = prop_oneof![Just(Quantity::Rtt), Just(Quantity::Loss), Just(Quantity::Load)];
    (quantity, timestamp(), any::<u64>(), of(any::<u64>()), vec(line, 0..3)).prop_map(
        |(quantity, at, step, bound, lines)| Series {
            quantity,
            at,
            step: Duration::from_nanos(step),
            bound,
            lines,
        },
    )
}

pub(crate) fn series_request() -> impl Strategy<Value = Request> {
    let of = prop_oneof![circuit_ref().prop_map(Subject::Circuit), link_id().prop_map(Subject::Link)];
    let quantity = prop_oneof![Just(Quantity::Rtt), Just(Quantity::Loss)];
    (of, quantity, 10..=604_800_u64).prop_map(|(of, quantity, past)| Request::Series {
        of,
        quantity,
        past: Duration::from_secs(past),
    })
}
