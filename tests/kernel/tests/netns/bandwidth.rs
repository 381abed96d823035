//! What a circuit has reserved it gets, whatever others send; and what it may not exceed is dropped where it enters.
use crate::support::{Fabric, allow_udp, eventually};
use anyhow::Result;
use proto_wire::v1;
use std::net::SocketAddr;
use tests_kernel::flood::{Flood, Turn};

const TOPOLOGY: &str = include_str!("../../../topologies/bandwidth.toml");
const PORT: u16 = 9_000;
const MBIT: u64 = 1_000_000;

fn up(test: &str) -> Result<Fabric> {
    Fabric::up(test, TOPOLOGY)
}

fn circuit(fabric: &Fabric, from: &str, reserved: u64, limit: Option<u64>) -> Result<v1::Circuit> {
    bound(fabric, from, v1::Bounds { bandwidth: reserved, limit, ..v1::Bounds::default() })
}

fn bound(fabric: &Fabric, from: &str, bounds: v1::Bounds) -> Result<v1::Circuit> {
    fabric.circuit(v1::CircuitSpec {
        name: from.into(),
        source: from.into(),
        destination: format!("{from}-sink"),
        bounds: Some(bounds),
        rules: vec![allow_udp(PORT)],
        ..v1::CircuitSpec::default()
    })
}

fn flood(fabric: &Fabric, from: &str, v6: bool, rate: u64) -> Result<Flood> {
    flood_in_turn(fabric, from, v6, rate, Turn::Ordinary)
}

fn flood_in_turn(fabric: &Fabric, from: &str, v6: bool, rate: u64, turn: Turn) -> Result<Flood> {
    let sink = format!("{from}-sink");
    let target = SocketAddr::new(fabric.addresses(&sink)?[usize::from(v6)], PORT);
    Flood::start_in_turn(&fabric.namespace(from), &fabric.namespace(&sink), target, rate, turn)
}

/// Waits until all together have brought so many bytes more; returns what each brought.
fn brought(floods: &[Flood], bytes: u64) -> Result<Vec<u64>> {
    let now = || floods.iter().map(Flood::arrived).collect::<Vec<u64>>();
    let before = now();
    eventually("the floods arrive", || Ok(now().iter().sum::<u64>() >= before.iter().sum::<u64>() + bytes))?;
    Ok(now().iter().zip(&before).map(|(now, before)| now - before).collect())
}

fn roots(fabric: &Fabric, node: &str) -> Result<String> {
    let output = fabric.lab.output(node, "tc", &["class", "show", "dev", "eth1"])?;
    Ok(String::from_utf8(output.stdout)?)
}

/// 45 Mbit/s into a link of 20. Without queues of their own the flows would share it as they send: 9 of 45 for the first.
fn gold_gets_its_part(test: &str, v6: bool, encrypted: bool) -> Result<()> {
    let fabric = up(test)?;
    let bounds = v1::Bounds { bandwidth: 8 * MBIT, encrypted, ..v1::Bounds::default() };
    assert_eq!(bound(&fabric, "gold", bounds)?.guarantee, "kept at every host");
    for bulk in ["bulk-1", "bulk-2", "bulk-3"] {
        circuit(&fabric, bulk, 0, None)?;
    }
    // A sender that waits for a processor sends heaps, for which no class has room: this is about the way.
    let mut floods = vec![flood_in_turn(&fabric, "gold", v6, 9 * MBIT, Turn::First)?];
    for bulk in ["bulk-1", "bulk-2", "bulk-3"] {
        floods.push(flood(&fabric, bulk, v6, 12 * MBIT)?);
    }
    brought(&floods, 2_000_000)?;
    let share = brought(&floods, 10_000_000)?;
    let (all, gold) = (share.iter().sum::<u64>(), share[0]);
    assert!(gold * 100 >= all * 33, "{gold} of {all} bytes are less than the 8 of 20 Mbit/s reserved");
    assert!(gold * 100 <= all * 55, "{gold} of {all} bytes are more than it sends");
    drop(floods);
    fabric.lab.down()
}

#[test]
fn a_reserved_circuit_gets_its_part_of_a_full_link() -> Result<()> {
    gold_gets_its_part("share4", false, false)?;
    gold_gets_its_part("share6", true, false)
}

#[test]
fn an_encrypted_circuit_gets_its_part_of_a_full_link() -> Result<()> {
    gold_gets_its_part("sealed", false, true)
}

#[test]
fn what_is_reserved_and_not_used_is_for_the_others() -> Result<()> {
    let fabric = up("borrow")?;
    circuit(&fabric, "gold", 15 * MBIT, None)?;
    circuit(&fabric, "bulk-1", 0, None)?;
    let floods = [flood(&fabric, "bulk-1", false, 18 * MBIT)?];
    brought(&floods, 1_000_000)?;
    let (sent, before) = (floods[0].sent(), floods[0].arrived());
    brought(&floods, 5_000_000)?;
    let (sent, arrived) = (floods[0].sent() - sent, floods[0].arrived() - before);
    assert!(
        arrived * 10 >= sent * 7,
        "{arrived} of {sent} bytes arrived, although the link has room for all"
    );
    drop(floods);
    fabric.lab.down()
}

#[test]
fn classes_come_and_go_with_circuits_and_an_agents_restart_changes_none() -> Result<()> {
    let fabric = up("classes")?;
    eventually("the queues are there", || Ok(roots(&fabric, "transit")?.contains("6677:fffd")))?;
    let bare = roots(&fabric, "transit")?;
    let other = |text: &str| text.lines().filter(|line| line.contains("8Mbit")).count();
    circuit(&fabric, "gold", 8 * MBIT, None)?;
    assert_eq!(other(&roots(&fabric, "transit")?), 1, "{}", roots(&fabric, "transit")?);
    let full = roots(&fabric, "transit")?;
    fabric.lab.kill_agent("transit")?;
    fabric.lab.start_agent("transit")?;
    fabric.lab.wait_connected(&["transit"])?;
    assert_eq!(roots(&fabric, "transit")?, full);
    fabric.delete("gold")?;
    eventually("its class is gone", || Ok(roots(&fabric, "transit")? == bare))?;
    fabric.lab.down()
}

#[test]
fn what_exceeds_a_limit_is_dropped_where_it_enters() -> Result<()> {
    let fabric = up("limit")?;
    let circuit = circuit(&fabric, "gold", 0, Some(2 * MBIT))?;
    let floods = [flood(&fabric, "gold", false, 10 * MBIT)?];
    brought(&floods, 200_000)?;
    let sent = floods[0].sent();
    let arrived = brought(&floods, 500_000)?[0];
    let sent = floods[0].sent() - sent;
    assert!(arrived * 3 < sent, "{arrived} of {sent} bytes passed a limit of 2 of 10 Mbit/s");
    eventually("the drops are counted", || Ok(fabric.drops(circuit.id, "over_limit")? > 100))?;
    drop(floods);
    fabric.lab.down()
}

#[test]
fn what_a_class_has_no_room_for_is_counted_by_circuit() -> Result<()> {
    let fabric = up("full")?;
    let gold = circuit(&fabric, "gold", 8 * MBIT, None)?;
    let floods = [flood(&fabric, "gold", false, 40 * MBIT)?];
    fabric.drops_eventually(gold.id, "queue_full")?;
    drop(floods);
    fabric.lab.down()
}
