//! Charts and explanations: what is drawn stands where it should, and what is said is what the API said.
use controller_cli::show;
use controller_cli::show::plot::Signs;
use proto_model::circuit::Path;
use proto_model::insight::{
    Change, Flip, Happened, Insight, Line, LinkOutlook, Origin, Past, PathOutlook, Point, Role, Series,
};
use proto_model::plan::{Candidate, Offer, Plan, Term};
use proto_model::topology::{Forecast, LinkId, Quantity};
use proto_model::{Latency, Loss, NodeName, Price, Timestamp};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const MS: u64 = 1_000_000;
const STEP: Duration = Duration::from_secs(2);

fn path(nodes: &[&str]) -> Path {
    let nodes: Vec<NodeName> = nodes.iter().map(|name| name.parse().expect("a name")).collect();
    let link = |pair: &[NodeName]| {
        LinkId::new(pair[0].clone(), pair[1].clone(), "wan".parse().expect("a name")).expect("two ends")
    };
    Path { links: nodes.windows(2).map(link).collect(), nodes }
}

fn forecast(seconds: u64, millis: u64) -> Forecast {
    let spread = [-4, -3, -1, 0, 1, 3, 4];
    Forecast {
        quantity: Quantity::Rtt,
        horizon: Duration::from_secs(seconds),
        mean: millis * MS,
        quantiles: spread.map(|more: i64| (millis * MS).saturating_add_signed(more * MS as i64)),
        error: MS / 2,
        model: "trend".into(),
        samples: 12,
        counts: true,
    }
}

/// A minute of history, in which `millis` says how long a round trip took so many steps before now.
fn line(role: Role, nodes: &[&str], millis: impl Fn(u64) -> Option<u64>, ahead: &[(u64, u64)]) -> Line {
    let point = |back: u64| {
        let mean = millis(back)? * MS;
        let at = Timestamp(NOW.0 - back * STEP.as_nanos() as u64);
        Some(Point { at, least: mean - MS, mean, most: mean + MS })
    };
    Line {
        role,
        path: path(nodes),
        from: Origin::Forecast,
        points: (1..=30).rev().filter_map(point).collect(),
        forecasts: ahead.iter().map(|(seconds, millis)| forecast(*seconds, *millis)).collect(),
    }
}

/// The path climbs towards its bound, the other one does not; of it some steps are missing.
fn series() -> Series {
    let climbing =
        line(Role::Path, &["a", "x", "b"], |back| Some(24 - back / 2), &[(10, 26), (20, 29), (30, 32)]);
    let level = line(
        Role::Backup,
        &["a", "y", "b"],
        |back| (!(10..15).contains(&back)).then_some(12),
        &[(10, 12), (30, 12)],
    );
    Series {
        quantity: Quantity::Rtt,
        at: NOW,
        step: STEP,
        bound: Some(30 * MS),
        lines: vec![climbing, level],
    }
}

fn bare(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_chart_shows_each_path_its_future_and_the_bound() {
    insta::assert_snapshot!(bare(&show::plot::of(&series(), 90, &Signs::UNICODE)));
}

#[test]
fn a_chart_is_as_wide_as_it_is_asked_to_be() {
    for width in [40, 80, 133] {
        let chart = bare(&show::plot::of(&series(), width, &Signs::UNICODE));
        let pictures = chart.lines().filter(|line| line.contains('┤'));
        let widest = pictures.map(|line| line.chars().count()).max().expect("rows");
        assert!(widest <= width && widest + 3 > width, "{widest} of {width}\n{chart}");
    }
}

#[test]
fn where_the_terminal_is_not_utf8_a_chart_is_drawn_in_ascii() {
    for (locale, is_ascii) in [
        (None, false),
        (Some("de_DE.UTF-8"), false),
        (Some("C.utf8"), false),
        (Some("C"), true),
        (Some("en_US.ISO-8859-1"), true),
    ] {
        let signs = Signs::of(locale);
        assert_eq!(signs == Signs::ASCII, is_ascii, "{locale:?}");
    }
    let chart = bare(&show::plot::of(&series(), 90, &Signs::ASCII));
    // Above each picture stands a path with its arrows, as everywhere.
    let pictures: Vec<&str> = chart.lines().filter(|line| line.contains('|')).collect();
    assert!(pictures.len() > 10 && pictures.iter().all(|line| line.is_ascii()), "{chart}");
    assert!(chart.contains("<= 30 ms") && chart.contains("o measured, mean"), "{chart}");
}

#[test]
fn what_is_above_the_bound_is_red_and_the_rest_is_not() {
    let red = "\u{1b}[31m";
    let chart = show::plot::of(&series(), 90, &Signs::UNICODE);
    assert!(chart.contains(&format!("{red}━")) || chart.contains(&format!("{red}░")), "{chart:?}");
    let calm = Series { bound: None, ..series() };
    assert!(!show::plot::of(&calm, 90, &Signs::UNICODE).contains(red));
}

#[test]
fn a_bound_that_is_far_away_does_not_flatten_the_picture() {
    let far = Series { bound: Some(5_000 * MS), ..series() };
    let chart = bare(&show::plot::of(&far, 90, &Signs::UNICODE));
    assert!(!chart.contains("≤ 5 s") && chart.contains('•'), "{chart}");
}

/// The bound is named in the legend even where it is too far away to be drawn; of an idle circuit it is the only scale there is.
#[test]
fn what_a_circuit_sends_is_drawn_against_what_is_reserved_for_it() {
    const MBIT: u64 = 1_000_000;
    let sends = |role, of: fn(u64) -> u64| {
        let points = (1..=60).rev().map(|back| {
            let mean = of(back) * MBIT;
            let at = Timestamp(NOW.0 - back * STEP.as_nanos() as u64);
            Point { at, least: mean, mean, most: mean }
        });
        let path = line(Role::Path, &["a", "b"], |_| None, &[]).path;
        let from = Origin::Measured;
        Line { role, path, from, points: points.collect(), forecasts: Vec::new() }
    };
    let of = |bound, sent| Series {
        quantity: Quantity::Load,
        bound: Some(bound * MBIT),
        lines: vec![sends(Role::Forth, sent), sends(Role::Back, |_| 0)],
        ..series()
    };
    let drawn = |series: &Series| bare(&show::plot::of(series, 90, &Signs::UNICODE));
    let busy = drawn(&of(50, |back| 60 - back));
    assert!(busy.contains("a → b  (what its source sends)  now 59 Mbit/s, above what is reserved"), "{busy}");
    assert!(
        busy.contains("(what its destination sends)  now 0 bit/s") && busy.contains("≤ 50 Mbit/s"),
        "{busy}"
    );
    assert!(!busy.contains("forecast") && busy.ends_with("╌ reserved, 50 Mbit/s\n"), "{busy}");
    let far = drawn(&of(5_000, |_| 40));
    assert!(!far.contains("≤ 5 Gbit/s") && far.ends_with("╌ reserved, 5 Gbit/s\n"), "{far}");
    let idle = drawn(&of(50, |_| 0));
    assert!(idle.contains("≤ 50 Mbit/s") && !idle.contains("above"), "{idle}");
    let picture = show::picture::of("web-db", &of(50, |back| 60 - back));
    assert!(picture.contains("red: reserved, 50 Mbit/s"), "{picture}");
}

#[test]
fn of_nothing_there_is_no_picture() {
    let nothing = Series { lines: vec![line(Role::Link, &["a", "b"], |_| None, &[])], ..series() };
    assert_eq!(show::plot::of(&nothing, 90, &Signs::UNICODE), "nothing was measured or forecast of it yet\n");
    assert!(show::picture::of("a<b", &nothing).contains("nothing was measured"));
}

#[test]
fn the_picture_has_a_panel_for_each_path_and_gaps_stay_gaps() {
    let svg = show::picture::of("web<db", &series());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("web&lt;db"));
    // The climbing path: one run and one forecast; the level one: two runs and one forecast.
    assert_eq!(svg.matches("<polyline").count(), 5, "{svg}");
    assert_eq!(svg.matches("≤ 30 ms").count(), 2);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

fn candidate(nodes: &[&str], cost: f64, rejected: &[&str]) -> Candidate {
    Candidate {
        path: path(nodes),
        offer: Offer {
            rtt: Some(Latency::from_millis(10)),
            free: None,
            loss: Loss::NONE,
            price: Price::FREE,
            encrypted: false,
            mtu: 1450,
        },
        terms: vec![Term { name: "rtt".into(), quantity: "10 ms (forecast)".into(), cost }],
        cost,
        rejected: rejected.iter().map(|why| (*why).to_owned()).collect(),
    }
}

fn explained() -> Plan {
    let change =
        |what: &str| Change { what: what.into(), now: "15 ms".into(), needed: "below 12.3 ms".into() };
    let (here, there) = (path(&["a", "x", "b"]), path(&["a", "y", "b"]));
    let link = |link: &LinkId, origin: Origin, untested: usize| LinkOutlook {
        link: link.clone(),
        rtt: Some(Latency::from_millis(5)),
        rtt_from: origin,
        loss: Loss::NONE,
        loss_from: Origin::Measured,
        forecasts: vec![forecast(10, 5), Forecast { counts: false, ..forecast(86_400, 5) }]
            .split_off(untested),
    };
    let insight = Insight {
        at: NOW,
        flips: vec![Flip {
            candidate: 1,
            dearer: 2.7,
            all: Vec::new(),
            any: vec![change("rtt")],
            sentence: "would be chosen if its round-trip time were below 12.3 ms (now 15 ms)".into(),
        }],
        paths: vec![PathOutlook { candidate: 0, forecasts: vec![forecast(10, 10), forecast(60, 11)] }],
        links: vec![
            link(&here.links[0], Origin::Forecast, 0),
            link(&here.links[1], Origin::Configured, 0),
            link(&there.links[0], Origin::Measured, 1),
        ],
        past: vec![
            Past {
                at: NOW,
                what: Happened::Placed,
                from: None,
                to: Some(there.clone()),
                why: "it costs 11.00, 2 paths serve".into(),
                of_from: Vec::new(),
                of_to: Vec::new(),
            },
            Past {
                at: NOW,
                what: Happened::Moved,
                from: Some(there),
                to: Some(here),
                why: "its round-trip time may reach 31 ms, 30 ms is allowed; here 14 ms at most".into(),
                of_from: vec![forecast(60, 27)],
                of_to: vec![forecast(60, 11)],
            },
        ],
    };
    Plan {
        chosen: Some(0),
        candidates: vec![candidate(&["a", "x", "b"], 11.0, &[]), candidate(&["a", "y", "b"], 13.7, &[])],
        insight: Some(insight),
        ..Plan::default()
    }
}

#[test]
fn an_explanation_says_what_would_change_it_what_is_expected_and_what_was_decided() {
    let text = bare(&show::plan::plan(&explained()));
    insta::assert_snapshot!(text);
    for part in [
        "2  a → y → b: would be chosen if its round-trip time were below 12.3 ms (now 15 ms)",
        "trend, 12 errors, not tested yet",
        "5 ms (configured)",
        "moved from a → y → b to a → x → b",
        "expected then of a → y → b in 60 s: 27 ms (90 %: 24 ms – 30 ms; trend, error 500 µs)",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.matches("not tested yet").count(), 1, "only where nothing else is known\n{text}");
    let configured = text.lines().filter(|line| line.contains("(configured)")).count();
    assert_eq!(configured, 1, "of what is configured no forecast is shown\n{text}");
}
