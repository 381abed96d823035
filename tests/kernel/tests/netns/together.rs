//! Circuits that are asked for together or for later.
use crate::support::{Fabric, PATIENCE, ROW, allow_icmp, allow_udp, eventually, web_to_db};
use anyhow::{Context, Result};
use proto_wire::v1;
use proto_wire::v1::circuit::State;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tests_kernel::traffic::Flow;

const PORT: u16 = 9_000;
const MBIT: u64 = 1_000_000;

/// Two ways of 100 Mbit/s from a to b, of which that over t1 is the cheaper one, and three pairs of workloads.
fn two_ways() -> String {
    let mut text = "name = \"together\"\n".to_owned();
    for host in ["a", "t1", "t2", "b"] {
        text += &format!("[[node]]\nname = \"{host}\"\n");
    }
    for (one, other, price) in
        [("a", "t1", "0.01"), ("t1", "b", "0.01"), ("a", "t2", "0.09"), ("t2", "b", "0.09")]
    {
        text += &format!(
            "[[link]]\nends = [\"{one}\", \"{other}\"]\nrate = \"100mbit\"\nprice = \"{price}$/GB\"\n"
        );
    }
    for n in 1..=3 {
        text += &format!(
            "[[workload]]\nname = \"w{n}\"\nnode = \"a\"\n[[workload]]\nname = \"s{n}\"\nnode = \"b\"\n"
        );
    }
    text
}

/// From the n-th workload to its sink.
fn wanted(name: &str, n: u32, mbit: u64) -> v1::CircuitSpec {
    v1::CircuitSpec {
        name: name.into(),
        source: format!("w{n}"),
        destination: format!("s{n}"),
        bounds: Some(v1::Bounds { bandwidth: mbit * MBIT, ..v1::Bounds::default() }),
        rules: vec![allow_udp(PORT)],
        ..v1::CircuitSpec::default()
    }
}

fn way(circuit: &v1::Circuit) -> Result<&str> {
    Ok(&circuit.path.as_ref().context("no path")?.nodes[1])
}

fn shown(fabric: &Fabric, circuit: &str) -> Result<v1::Circuit> {
    let request = v1::CircuitRequest { circuit: circuit.into() };
    fabric.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner()))
}

fn place(fabric: &Fabric, circuits: Vec<v1::CircuitSpec>) -> Result<v1::PlaceCircuitsResponse> {
    let request = v1::PlaceCircuitsRequest { circuits, ..v1::PlaceCircuitsRequest::default() };
    fabric.ask(async |mut client| Ok(client.place_circuits(request).await?.into_inner()))
}

/// One after the other, the backup of the first would take what the second needs.
#[test]
fn circuits_that_are_asked_for_together_leave_each_other_room_and_carry_packets() -> Result<()> {
    let fabric = Fabric::up("together", &two_ways())?;
    let answer = place(&fabric, vec![wanted("one", 1, 60), wanted("two", 2, 60), wanted("three", 3, 60)])?;
    let class = answer.classes.first().context("a class")?;
    assert_eq!((class.wanted, class.placed), (180 * MBIT, 120 * MBIT), "{answer:?}");
    let refused: Vec<_> = answer.outcomes.iter().filter(|outcome| outcome.circuit == 0).collect();
    let [refused] = refused[..] else { panic!("{answer:?}") };
    assert!(refused.refused.contains("60 Mbit/s from a to b"), "{refused:?}");
    let mut ways = Vec::new();
    for outcome in answer.outcomes.iter().filter(|outcome| outcome.circuit != 0) {
        let name = outcome.name.as_str();
        eventually("it is active", || Ok(shown(&fabric, name)?.state() == State::Active))?;
        ways.push(way(&shown(&fabric, name)?)?.to_owned());
        let (from, to) = (&outcome.source, &outcome.destination);
        let target = SocketAddr::new(fabric.addresses(to)?[0], PORT);
        let flow = Flow::start(&fabric.namespace(from), &fabric.namespace(to), target, 500)?;
        std::thread::sleep(Duration::from_secs(1));
        let outcome = flow.finish()?;
        assert!(outcome.received > 0 && outcome.lost() == 0, "{name}: {outcome:?}");
    }
    ways.sort();
    assert_eq!(ways, ["t1", "t2"]);
    fabric.lab.down()
}

#[test]
fn a_circuit_for_later_starts_in_time_and_ends_although_the_controller_was_killed_meanwhile() -> Result<()> {
    const UNTIL: Duration = Duration::from_secs(15);
    /// By so much earlier hosts begin to build it.
    const LEAD: Duration = Duration::from_secs(5);
    let fabric = Fabric::up("later", ROW)?;
    let starts = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + UNTIL;
    let spec = v1::CircuitSpec {
        starts: starts.as_nanos() as u64,
        lifetime: PATIENCE.as_nanos() as u64,
        ..web_to_db(vec![allow_icmp()])
    };
    let promised = fabric.create(spec)??;
    assert_eq!(promised.state(), State::Scheduled, "{promised:?}");
    assert!(promised.path.is_some(), "its way is known already");
    fabric.lab.controller().kill()?;
    fabric.lab.start_controller()?;
    eventually("it is known again", || Ok(fabric.state("web-db").is_ok()))?;
    assert_eq!(fabric.state("web-db")?, State::Scheduled, "sooner than {LEAD:?} before it starts");
    eventually("it is active", || Ok(fabric.state("web-db")? == State::Active))?;
    assert!(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? >= starts - LEAD, "too early");
    eventually("packets pass", || fabric.both_families_pass())?;
    crate::support::within(3 * PATIENCE, "it has ended", || Ok(fabric.state("web-db").is_err()))?;
    fabric.lab.down()
}
