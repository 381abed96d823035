//! What goes on while daemons die, and what they remember.
use crate::support::{Fabric, ROW, allow_icmp, allow_udp, eventually, web_to_db};
use anyhow::{Context, Result};
use ebpf_abi::maps::pin;
use proto_wire::v1::circuit::State;
use std::time::Duration;
use tests_kernel::traffic::Flow;

const HOSTS: [&str; 3] = ["a", "t", "b"];

#[test]
fn agent_crash_and_restart_lose_no_packet() -> Result<()> {
    let fabric = Fabric::up("kill", ROW)?;
    let target = fabric.flow_target()?;
    fabric.circuit(web_to_db(vec![allow_udp(target.port())]))?;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 5_000)?;
    for host in HOSTS {
        for _ in 0..3 {
            fabric.lab.kill_agent(host)?;
            std::thread::sleep(Duration::from_millis(100));
            fabric.lab.start_agent(host)?;
            fabric.lab.wait_connected(&[host])?;
        }
    }
    eventually("the circuit is active again", || Ok(fabric.state("web-db")? == State::Active))?;
    let outcome = flow.finish()?;
    assert!(outcome.sent > 1_000, "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    fabric.lab.down()
}

#[test]
fn controller_crash_keeps_state_and_traffic() -> Result<()> {
    let fabric = Fabric::up("brain", ROW)?;
    let target = fabric.flow_target()?;
    let before = fabric.circuit(web_to_db(vec![allow_udp(target.port())]))?;
    let address = fabric.addresses("db")?;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 2_000)?;
    fabric.lab.controller().kill()?;
    std::thread::sleep(Duration::from_millis(300));
    fabric.lab.start_controller()?;
    fabric.lab.wait_connected(&HOSTS)?;
    eventually("the circuit is active again", || Ok(fabric.state("web-db")? == State::Active))?;
    let outcome = flow.finish()?;
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert_eq!(fabric.addresses("db")?, address);
    let circuits = fabric.ask(async |mut client| {
        Ok(client.list_circuits(proto_wire::v1::Empty {}).await?.into_inner().circuits)
    })?;
    assert_eq!(circuits.len(), 1);
    assert_eq!((circuits[0].id, &circuits[0].rules), (before.id, &before.rules));
    // What it remembers can be changed: the state is alive, not only shown.
    fabric.replace_rules("web-db", vec![allow_icmp()])?;
    eventually("the new rules are in force", || fabric.both_families_pass())?;
    fabric.lab.down()
}

#[test]
fn lost_pins_are_replaced_and_the_circuit_comes_back() -> Result<()> {
    let fabric = Fabric::up("lost", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    for (host, lost) in [("t", ["LABELS", "NEXT_HOPS"]), ("a", ["FLOWS", "RULESETS"])] {
        fabric.lab.kill_agent(host)?;
        for name in lost {
            let pin = fabric.lab.plan().pins(host).join(pin(name));
            std::fs::remove_file(&pin).with_context(|| pin.display().to_string())?;
        }
        fabric.lab.start_agent(host)?;
        fabric.lab.wait_connected(&[host])?;
        eventually("packets pass again", || fabric.both_families_pass())?;
    }
    fabric.lab.down()
}

#[test]
fn foreign_pin_is_named_and_packets_pass_meanwhile() -> Result<()> {
    let fabric = Fabric::up("pins", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let pins = fabric.lab.plan().pins("t");
    fabric.lab.kill_agent("t")?;
    let flows = pins.join(pin("FLOWS"));
    std::fs::remove_file(&flows).with_context(|| flows.display().to_string())?;
    std::fs::hard_link(pins.join(pin("SETTINGS")), &flows)
        .context("another map under the name of this one")?;
    fabric.lab.start_agent("t")?;
    eventually("the agent refuses", || Ok(fabric.lab.agent("t").pid().is_none()))?;
    let words = fabric.lab.agent("t").last_words();
    assert!(words.contains(&pin("FLOWS")), "{words}");
    assert!(fabric.both_families_pass()?);
    std::fs::remove_file(&flows)?;
    fabric.lab.start_agent("t")?;
    fabric.lab.wait_connected(&["t"])?;
    eventually("packets pass", || fabric.both_families_pass())?;
    fabric.lab.down()
}
