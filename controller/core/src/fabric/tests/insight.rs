//! Plans and explanations say what would change them, what is expected of their paths, and what was decided before.
use super::links::{answered, measure};
use super::protection::{circuit, paths, switch};
use super::reroute::{SECOND, measured, seconds};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use proto_model::circuit::Path;
use proto_model::desired::Side;
use proto_model::insight::{Happened, Insight, Origin, Past, Role, Series, Subject};
use proto_model::plan::Plan;
use proto_model::report::Way;
use proto_model::request::{CircuitRef, Request, Response};
use proto_model::topology::{Forecast, LinkId, LinkValues, Quantity};
use proto_model::{CircuitId, Kind, Latency, Refusal};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn explained(world: &mut World, id: CircuitId) -> (Plan, Insight) {
    let answer = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(id) });
    let Ok(Response::Plan(mut plan)) = answer else { panic!("{answer:?}") };
    let insight = plan.insight.take().expect("made when it is asked for");
    (plan, insight)
}

fn series(world: &mut World, of: Subject, past: u64) -> Result<Series, Refusal> {
    let past = Duration::from_secs(past);
    world.ask(Request::Series { of, quantity: Quantity::Rtt, past }).map(|answer| match answer {
        Response::Series(series) => series,
        other => panic!("{other:?}"),
    })
}

fn kinds(past: &[Past]) -> Vec<Happened> {
    past.iter().map(|past| past.what).collect()
}

fn at(forecasts: &[Forecast], quantity: Quantity, horizon: Duration) -> &Forecast {
    let one = forecasts.iter().find(|one| one.quantity == quantity && one.horizon == horizon);
    one.unwrap_or_else(|| panic!("no {quantity:?} in {horizon:?}: {forecasts:?}"))
}

#[test]
fn an_explanation_says_what_is_expected_of_each_candidate_and_its_links() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 600, [2_000, 10_000, 20_000]);
    let (plan, insight) = explained(&mut world, id);
    assert_eq!((insight.at, insight.paths.len(), insight.links.len()), (world.now, 3, 6));
    for outlook in &insight.paths {
        let path = &plan.candidates[outlook.candidate].path;
        let ahead = at(&outlook.forecasts, Quantity::Rtt, MINUTE);
        let expected = match path.nodes[1].to_string().as_str() {
            "t1" => 2_000_000,
            "t2" => 10_000_000,
            _ => 20_000_000,
        };
        assert!(ahead.mean.abs_diff(expected) < 10_000, "{path}: {ahead:?}");
        assert!(ahead.counts && ahead.samples >= 3 && !ahead.model.is_empty(), "{path}: {ahead:?}");
        assert!(
            ahead.quantiles.is_sorted()
                && ahead.quantiles[1] <= ahead.mean
                && ahead.mean <= ahead.quantiles[5]
        );
    }
    for link in &insight.links {
        assert_eq!((link.rtt_from, link.loss_from), (Origin::Forecast, Origin::Forecast), "{link:?}");
        let horizons: Vec<u64> = link.forecasts.iter().map(|one| one.horizon.as_secs()).collect();
        assert_eq!(horizons, [10, 60, 600, 3_600, 86_400, 10, 60, 600, 3_600, 86_400]);
        let tested = at(&link.forecasts, Quantity::Rtt, Duration::from_secs(86_400));
        assert!(!tested.counts, "ten minutes tell nothing of a day: {tested:?}");
    }
    assert_eq!(insight.flips.len(), 3);
}

#[test]
fn a_plan_says_where_numbers_come_from_and_what_would_change_it() {
    let mut world = World::diamond();
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("a plan")
    };
    let insight = plan.insight.expect("made when it is asked for");
    assert!(insight.paths.is_empty() && insight.past.is_empty(), "nothing is measured, nothing was decided");
    assert!(insight.links.iter().all(|link| link.rtt_from == Origin::Configured), "{insight:?}");
    let other = insight.flips.iter().find(|flip| flip.candidate == 1).expect("the dearer one");
    assert!(other.sentence.starts_with("would be chosen if its round-trip time were below"), "{other:?}");
}

/// The number of a sentence is put to the test: the path is set to a little more, and a little less.
#[test]
fn the_path_is_chosen_when_the_number_that_the_plan_named_is_reached() {
    let mut world = World::diamond();
    let plan = |world: &mut World| match world.ask(Request::PlanCircuit { circuit: request("web", "db") }) {
        Ok(Response::Plan(plan)) => plan,
        other => panic!("{other:?}"),
    };
    let before = plan(&mut world);
    let insight = before.insight.clone().expect("made when it is asked for");
    let needed = &insight.flips[1].any[0].needed;
    let threshold: Latency =
        needed.strip_prefix("below ").and_then(|text| text.replace(' ', "").parse().ok()).expect("a time");
    let other = before.candidates[1].path.clone();
    for (nanos, chosen) in [(threshold.nanos() + 1_000, false), (threshold.nanos() - 1_000, true)] {
        for link in &other.links {
            let known = world.fabric.topology.link(link).expect("there").values.clone();
            let values = LinkValues { rtt: Some(Latency::from_nanos(nanos / 2)), ..known };
            world.ask(Request::SetLink { link: link.clone(), values }).expect("known");
        }
        let after = plan(&mut world);
        let best = after.chosen.map(|index| after.candidates[index].path.clone());
        assert_eq!(best.as_ref() == Some(&other), chosen, "{needed}; {nanos} ns: {best:?}");
    }
}

#[test]
fn a_circuit_remembers_why_it_was_placed_and_why_it_moved_with_what_was_expected() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 60, [2_000, 10_000, 90_000]);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(25));
    let id = world.create(wanted).expect("feasible").circuit.id;
    seconds(&mut world, 240, [2_000, 10_000, 90_000]);
    for second in 0..40 {
        seconds(&mut world, 1, [2_000 + 1_000 * second, 10_000, 90_000]);
    }
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
    let (_, insight) = explained(&mut world, id);
    assert_eq!(kinds(&insight.past), [Happened::Placed, Happened::Moved]);
    let [placed, moved] = insight.past.as_slice() else { panic!("two") };
    assert!(placed.why.contains("the next, a → t2 → b, costs"), "{}", placed.why);
    let ways =
        [&moved.from, &moved.to].map(|path| path.as_ref().map(ToString::to_string).unwrap_or_default());
    assert_eq!(ways, ["a → t1 → b", "a → t2 → b"]);
    assert!(moved.why.contains("25 ms is allowed"), "{}", moved.why);
    let (here, there) = (at(&moved.of_from, Quantity::Rtt, MINUTE), at(&moved.of_to, Quantity::Rtt, MINUTE));
    assert!(here.quantiles[6] > there.quantiles[6], "{here:?} {there:?}");
    assert!(placed.at < moved.at && moved.at <= world.now);
}

#[test]
fn ends_that_turn_and_paths_that_are_lost_are_remembered_up_to_a_bound() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    switch(&mut world, "a", id, Side::Source, Way::Backup);
    switch(&mut world, "a", id, Side::Source, Way::Primary);
    let (_, insight) = explained(&mut world, id);
    assert_eq!(kinds(&insight.past), [Happened::Placed, Happened::Switched, Happened::Returned]);
    assert!(insight.past[1].why.contains("5 probes in a row were lost"), "{:?}", insight.past[1]);
    for _ in 0..20 {
        switch(&mut world, "a", id, Side::Source, Way::Backup);
        switch(&mut world, "a", id, Side::Source, Way::Primary);
    }
    let (_, insight) = explained(&mut world, id);
    assert_eq!(insight.past.len(), crate::past::KEPT);
    assert_eq!(insight.past.last().map(|past| past.what), Some(Happened::Returned), "the oldest go");
    let down = proto_model::resource::Status::Down;
    world.ask(Request::UpdateResourceStatus { id: name("db"), status: down }).expect("known");
    let (_, insight) = explained(&mut world, id);
    assert_eq!(insight.past.last().map(|past| past.what), Some(Happened::Suspended));
}

#[test]
fn a_series_has_the_path_first_and_each_step_that_was_measured() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(25));
    let id = world.create(wanted).expect("feasible").circuit.id;
    seconds(&mut world, 120, [2_000, 10_000, 20_000]);
    let shown = series(&mut world, Subject::Circuit(CircuitRef::Id(id)), 60).expect("there");
    assert_eq!((shown.bound, shown.step, shown.at), (Some(25_000_000), Duration::from_secs(2), world.now));
    let roles: Vec<_> = shown.lines.iter().map(|line| line.role).collect();
    assert_eq!(roles, [Role::Circuit, Role::Path, Role::Backup, Role::Candidate]);
    for (line, millis) in shown.lines.iter().zip([2, 2, 10, 20]) {
        assert!((29..=32).contains(&line.points.len()), "{} points in a minute", line.points.len());
        assert!(line.points.is_sorted_by(|one, next| one.at < next.at));
        assert!(line.points.iter().all(|point| point.mean.abs_diff(millis * 1_000_000) < 10_000), "{line:?}");
        let horizons: Vec<u64> = line.forecasts.iter().map(|one| one.horizon.as_millis() as u64).collect();
        assert_eq!(horizons, [3_750, 7_500, 11_250, 15_000, 18_750, 22_500, 26_250, 30_000]);
    }
    world.pass(Duration::from_secs(20));
    let gap = series(&mut world, Subject::Circuit(CircuitRef::Id(id)), 60).expect("there");
    assert!(gap.lines[0].points.len() <= 22, "nobody reported for 20 s: {}", gap.lines[0].points.len());
}

#[test]
fn a_series_of_a_link_is_that_link_alone_and_one_of_nothing_is_refused() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 30, [2_000, 10_000, 20_000]);
    let shown = series(&mut world, Subject::Link(link("a", "t2")), 240).expect("there");
    let [line] = shown.lines.as_slice() else { panic!("{shown:?}") };
    assert_eq!((line.role, line.path.to_string().as_str()), (Role::Link, "a → t2"));
    assert!(line.points.iter().all(|point| point.mean.abs_diff(5_000_000) < 10_000), "{line:?}");
    let nowhere = LinkId::new(name("a"), name("b"), name("wan")).expect("two ends");
    let refusal = series(&mut world, Subject::Link(nowhere), 240).expect_err("there is none");
    assert!(refusal.to_string().contains("foreweave link list"), "{refusal}");
    let refusal = series(&mut world, Subject::Circuit(name("nobody")), 240).expect_err("there is none");
    assert!(refusal.to_string().contains("nobody"), "{refusal}");
}

fn way(middle: &str) -> Path {
    let nodes = ["a", middle, "b"].map(name).to_vec();
    Path { nodes, links: vec![link("a", middle), link(middle, "b")] }
}

#[test]
fn a_series_of_paths_has_each_as_it_was_asked_for_as_the_sum_over_its_links() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 135, [2_000, 10_000, 20_000]);
    let back =
        Path { nodes: ["b", "t3", "a"].map(name).to_vec(), links: vec![link("t3", "b"), link("a", "t3")] };
    let asked = [way("t2"), back, way("t1")];
    let shown = series(&mut world, Subject::Paths(asked.to_vec()), 60).expect("known");
    assert_eq!((shown.bound, shown.step, shown.at), (None, Duration::from_secs(2), world.now));
    let paths: Vec<_> = shown.lines.iter().map(|line| line.path.clone()).collect();
    assert_eq!(paths, asked);
    for (line, millis) in shown.lines.iter().zip([10, 20, 2]) {
        assert_eq!((line.role, line.from), (Role::Candidate, Origin::Forecast));
        assert!((29..=32).contains(&line.points.len()), "{} points in a minute", line.points.len());
        assert!(line.points.iter().all(|point| point.mean.abs_diff(millis * 1_000_000) < 10_000), "{line:?}");
        let last = line.forecasts.last().expect("half as far ahead");
        assert_eq!(last.horizon, Duration::from_secs(30));
        assert!(last.mean.abs_diff(millis * 1_000_000) < 10_000, "{last:?}");
    }
    // A circuit that is made now has the same past.
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let of_circuit = series(&mut world, Subject::Circuit(CircuitRef::Id(id)), 60).expect("there");
    assert_eq!(of_circuit.lines[0].path, way("t1"));
    assert_eq!(of_circuit.lines[0].points, shown.lines[2].points);
}

#[test]
fn a_step_in_which_one_link_of_a_path_was_not_measured_is_a_gap_of_that_path_alone() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 60, [2_000, 10_000, 20_000]);
    for _ in 0..20 {
        for (node, micros) in [("t1", 2_000), ("t2", 10_000)] {
            measure(&mut world, "a", "a", node, answered(micros / 2, 0));
        }
        measure(&mut world, "b", "t2", "b", answered(5_000, 0));
        world.pass(SECOND);
    }
    let shown = series(&mut world, Subject::Paths(vec![way("t1"), way("t2")]), 60).expect("known");
    let counts: Vec<usize> = shown.lines.iter().map(|line| line.points.len()).collect();
    assert!(counts[0] <= 22 && counts[1] >= 29, "t1–b was not measured for 20 s: {counts:?}");
}

#[test]
fn a_series_of_a_path_with_an_unknown_link_is_refused_by_its_place() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 10, [2_000, 10_000, 20_000]);
    let mut odd = way("t2");
    odd.links[0] = LinkId::new(name("a"), name("t2"), name("moon")).expect("two ends");
    let refusal = series(&mut world, Subject::Paths(vec![way("t1"), odd]), 60).expect_err("no such link");
    assert_eq!((refusal.kind, refusal.field.as_str()), (Kind::NotFound, "paths.paths[1].links[0]"));
    assert!(refusal.what.contains("there is no link a–t2 (moon)"), "{refusal}");
    assert!(refusal.hint.contains("foreweave link list"), "{refusal}");
}

#[test]
fn what_is_configured_is_a_level_line_without_forecasts() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let shown = series(&mut world, Subject::Circuit(CircuitRef::Id(id)), 60).expect("there");
    let line = &shown.lines[0];
    assert_eq!((line.from, line.forecasts.len()), (Origin::Configured, 0));
    assert!(line.points.len() >= 30 && line.points.iter().all(|point| point.mean == line.points[0].mean));
}
