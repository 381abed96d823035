//! What is expected of a link, as people read it.
use controller_cli::show;
use proto_model::Bandwidth;
use proto_model::request::LinkView;
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
fn a_link_of_which_nothing_is_known_has_no_forecasts() {
    assert!(!show::link::all(&[link(Vec::new())]).contains("expected"));
}
