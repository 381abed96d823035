//! What is expected of a link, as people read it.
use controller_cli::show;
use proto_model::Bandwidth;
use proto_model::request::LinkView;
use proto_model::shortage::{Line, Share, Shortage};
use proto_model::topology::{Forecast, LinkId, LinkValues, Quantity};
use std::time::Duration;

fn forecast(quantity: Quantity, quantiles: [u64; 7], counts: bool) -> Forecast {
    Forecast {
        quantity,
        horizon: Duration::from_secs(60),
        mean: quantiles[3],
        quantiles,
        error: quantiles[4] - quantiles[3],
        model: "trend".into(),
        samples: 12,
        counts,
    }
}

fn link(forecasts: Vec<Forecast>) -> LinkView {
    let name = |text: &str| text.parse().expect("a name");
    LinkView {
        id: LinkId::new(name("a"), name("b"), "wan".parse().expect("a name")).expect("two ends"),
        values: LinkValues::default(),
        capacity: None,
        reserved: Bandwidth::ZERO,
        usable: true,
        why: String::new(),
        measured: Vec::new(),
        forecasts,
        load: [None; 2],
        available: None,
        others: Bandwidth::ZERO,
        others_expected: false,
    }
}

#[test]
fn each_quantity_has_a_row_with_bands_error_and_model() {
    let rtt = [3_000_000, 3_100_000, 3_900_000, 4_000_000, 4_100_000, 6_000_000, 9_500_000];
    let rtt = forecast(Quantity::Rtt, rtt, true);
    let loss = forecast(Quantity::Loss, [0, 0, 0, 10, 20, 900, 1_000], false);
    let shown = show::link::all(&[link(vec![rtt, loss])]);
    for part in
        ["expected in 60 s", "4 ms", "3.1 ms – 6 ms", "3 ms – 9.5 ms", "trend, 12 errors, decides", "0.09 %"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert_eq!(shown.matches("decides").count(), 1);
}

#[test]
fn what_will_be_available_is_the_capacity_less_the_load() {
    let load = [1, 2, 3, 700, 800, 950, 990].map(|mbit| mbit * 1_000_000);
    let forecasts = vec![forecast(Quantity::Load, load, true)];
    let wide = LinkView { capacity: Some(Bandwidth::mbit(1_000)), ..link(forecasts.clone()) };
    let shown = show::link::all(&[wide]);
    let row = shown.lines().find(|line| line.trim_start().starts_with("available  300 Mbit/s"));
    assert!(row.is_some_and(|row| row.contains("50 Mbit/s – 998 Mbit/s")), "{shown}");
    assert!(!show::link::all(&[link(forecasts)]).contains("300 Mbit/s"), "of a capacity that is not known");
}

#[test]
fn a_link_of_which_nothing_is_known_has_no_forecasts() {
    assert!(!show::link::all(&[link(Vec::new())]).contains("expected"));
}

#[test]
fn a_link_that_fills_up_has_a_row_and_no_such_link_a_sentence() {
    let line = Line::default();
    let load = [1, 2, 3, 700, 800, 950, 990].map(|mbit| mbit * 1_000_000);
    let forecast = Forecast { horizon: Duration::from_secs(7_200), ..forecast(Quantity::Load, load, false) };
    let short = Shortage {
        link: link(Vec::new()).id,
        capacity: Bandwidth::mbit(1_000),
        reserved: Bandwidth::mbit(100),
        load: Bandwidth::mbit(600),
        forecast,
        chance: Share::from_ppm(80_000),
    };
    let shown = show::link::shortages(&[short], &line);
    for part in
        ["1 Gbit/s", "100 Mbit/s", "600 Mbit/s", "2 h ahead", "700 Mbit/s", "950 Mbit/s", "8 %", "trend"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let none = show::link::shortages(&[], &line);
    assert!(none.contains("more than 90 % of its capacity within 24 h"), "{none}");
}
