//! Circuits that are asked for together.
use crate::travelled;
use crate::words::{circuit_id, circuit_name, circuit_request, path, sentence};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::Bandwidth;
use proto_model::request::Request;
use proto_model::together::{Class, Move, Outcome, PlaceRequest, Placement};
use proto_wire::v1;

fn bandwidth() -> impl Strategy<Value = Bandwidth> {
    (0..=1_000_000_000_000_u64).prop_map(Bandwidth::from_bits_per_second)
}

pub(crate) fn placement() -> impl Strategy<Value = Placement> {
    let class = (any::<u8>(), [bandwidth(), bandwidth(), bandwidth()]);
    let class =
        class.prop_map(|(priority, [wanted, placed, bound])| Class { priority, wanted, placed, bound });
    let moved = (circuit_id(), circuit_name(), [path(), path()]);
    let moved = moved.prop_map(|(circuit, name, [from, to])| Move { circuit, name, from, to });
    let number = of((1..=u64::MAX).prop_map(proto_model::CircuitId));
    let told = ([sentence(), sentence()], vec(moved, 0..3));
    let outcome = (circuit_request(), circuit_name(), number, of(path()), told).prop_map(
        |(request, name, circuit, path, ([refused, hint], moves))| Outcome {
            name,
            source: request.source,
            destination: request.destination,
            bandwidth: request.bounds.bandwidth,
            priority: request.priority,
            circuit,
            path,
            refused,
            hint,
            moves,
        },
    );
    (vec(class, 0..3), vec(outcome, 0..3)).prop_map(|(classes, outcomes)| Placement { classes, outcomes })
}

proptest! {
    #[test]
    fn circuits_that_are_asked_for_together_arrive(
        circuits in vec(circuit_request(), 1..4),
        (dry_run, moves) in any::<(bool, bool)>(),
        key in of("[a-z]{1,20}"),
    ) {
        let request = PlaceRequest { circuits, dry_run, moves, idempotency_key: key };
        let wire = v1::PlaceCircuitsRequest::from(request.clone());
        prop_assert_eq!(Request::try_from(travelled(&wire)), Ok(Request::PlaceCircuits(request)));
    }
}

#[test]
fn none_and_too_many_are_refused_with_the_numbers() {
    for (count, why) in [(0, "is empty; 1 to 100"), (101, "at most 100")] {
        let circuits = vec![v1::CircuitSpec::default(); count];
        let request = v1::PlaceCircuitsRequest { circuits, ..Default::default() };
        let fault = Request::try_from(request).expect_err(why);
        assert_eq!(fault.field, "circuits");
        assert!(fault.what.contains(why), "{fault}");
    }
    let circuits = vec![v1::CircuitSpec { source: "web".into(), ..Default::default() }];
    let fault = Request::try_from(v1::PlaceCircuitsRequest { circuits, ..Default::default() });
    assert_eq!(fault.expect_err("no destination").field, "circuits[0].destination");
}
