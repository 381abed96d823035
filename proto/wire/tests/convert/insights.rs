//! Well-formed insights and series, at random.
use crate::fault;
use crate::words::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::circuit::Path;
use proto_model::insight::{
    Change, Flip, Happened, Insight, Line, LinkOutlook, Origin, Past, PathOutlook, Point, Role, Series,
    Subject,
};
use proto_model::request::Request;
use proto_model::topology::{LinkId, Quantity};
use proto_wire::v1;
use proto_wire::v1::series_request::{Paths, Subject as Asked};
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

/// Its links join its hosts, whichever end of a link has the smaller name.
fn joined() -> impl Strategy<Value = Path> {
    (vec((node(), name()), 1..=16), node()).prop_filter_map("one node", |(steps, first)| {
        let mut path = Path { nodes: vec![first], links: Vec::new() };
        for (node, network) in steps {
            path.links.push(LinkId::new(path.nodes.last()?.clone(), node.clone(), network)?);
            path.nodes.push(node);
        }
        Some(path)
    })
}

pub(crate) fn series_request() -> impl Strategy<Value = Request> {
    let of = prop_oneof![
        circuit_ref().prop_map(Subject::Circuit),
        link_id().prop_map(Subject::Link),
        vec(joined(), 1..=8).prop_map(Subject::Paths),
    ];
    let quantity = prop_oneof![Just(Quantity::Rtt), Just(Quantity::Loss)];
    (of, quantity, 10..=604_800_u64).prop_map(|(of, quantity, past)| Request::Series {
        of,
        quantity,
        past: Duration::from_secs(past),
    })
}

fn way(nodes: &[&str], links: &[(&str, &str)]) -> v1::Path {
    let link = |(a, b): &(&str, &str)| v1::LinkId { a: (*a).into(), b: (*b).into(), network: "wan".into() };
    v1::Path {
        nodes: nodes.iter().map(ToString::to_string).collect(),
        links: links.iter().map(link).collect(),
    }
}

fn of_paths(paths: Vec<v1::Path>) -> v1::SeriesRequest {
    v1::SeriesRequest {
        subject: Some(Asked::Paths(Paths { paths })),
        quantity: v1::link::Quantity::Rtt.into(),
        past: 60_000_000_000,
    }
}

#[test]
fn paths_of_a_series_are_a_few_and_their_links_join_them() {
    let good = || way(&["b", "t", "a"], &[("b", "t"), ("a", "t")]);
    let eight = Request::try_from(of_paths(vec![good(); 8]));
    assert!(matches!(eight, Ok(Request::Series { of: Subject::Paths(paths), .. }) if paths.len() == 8));
    let long: Vec<String> = (0..=17).map(|node| format!("n{node}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    for (paths, field, part) in [
        (vec![], "paths.paths", "there is none; 1 to 8 paths"),
        (vec![good(); 9], "paths.paths", "has 9 entries, at most 8"),
        (
            vec![good(), way(&["a"], &[])],
            "paths.paths[1].links",
            "there is none; a path over time has 1 to 16",
        ),
        (vec![way(&["a", "b"], &[])], "paths.paths[0].links", "0 links between 2 hosts"),
        (vec![way(&long, &[("a", "b"); 17])], "paths.paths[0].nodes", "at most 17"),
        (
            vec![way(&["a", "t", "b"], &[("a", "t"), ("a", "b")])],
            "paths.paths[0].links[1]",
            "a–b (wan) does not join t and b",
        ),
        (vec![way(&["a", "a"], &[("a", "b")])], "paths.paths[0].links[0]", "does not join a and a"),
    ] {
        let (at, what) = fault::<_, Request>(of_paths(paths));
        assert_eq!(at, field, "{what}");
        assert!(what.contains(part), "{what}");
    }
    let load = v1::SeriesRequest { quantity: v1::link::Quantity::Load.into(), ..of_paths(vec![good()]) };
    assert_eq!(
        fault::<_, Request>(load),
        (
            "quantity".into(),
            "the load is of a link or a circuit; of paths ask for round-trip time or loss".into()
        )
    );
}
