//! What is said of a host that has not heard of a deletion, of a link that carries nothing, of one that others fill, and of
//! the paths of a circuit that is not there.
use crate::support::{Fabric, PATIENCE, ROW, allow_icmp, eventually, web_to_db, within};
use anyhow::{Context, Result};
use proto_wire::v1;
use std::net::SocketAddr;
use std::process::Output;
use tests_kernel::flood::Flood;
use tests_kernel::lab::link::Change;

fn foreweave(fabric: &Fabric, arguments: &[&str]) -> Result<Output> {
    fabric.lab.foreweave()?.args(arguments).output().context("foreweave")
}

/// Interfaces of a workload.
fn interfaces(fabric: &Fabric, workload: &str) -> Result<String> {
    let shown = fabric.lab.output(workload, "ip", &["-o", "link"])?;
    Ok(String::from_utf8(shown.stdout)?)
}

#[test]
fn a_deletion_is_pending_where_no_agent_runs_and_done_when_it_is_back() -> Result<()> {
    let fabric = Fabric::up("pend", ROW)?;
    let before = interfaces(&fabric, "db")?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let built = interfaces(&fabric, "db")?;
    assert_ne!(built, before);
    fabric.lab.kill_agent("b")?;
    eventually("the controller misses it", || Ok(fabric.node_state("b")? == v1::node::State::Lost))?;
    let deleted = foreweave(&fabric, &["circuit", "delete", "web-db"])?;
    let said = String::from_utf8(deleted.stderr)?;
    assert_eq!(deleted.status.code(), Some(5), "{said}");
    assert!(said.contains("pending on b: not connected; it is removed when its agent is back"), "{said}");
    assert_eq!(interfaces(&fabric, "db")?, built, "nobody is there to remove it");
    fabric.lab.start_agent("b")?;
    eventually("it is removed", || Ok(interfaces(&fabric, "db")? == before))?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let deleted = foreweave(&fabric, &["circuit", "delete", "web-db"])?;
    assert!(deleted.status.success() && String::from_utf8(deleted.stdout)?.contains("gone from every host"));
    fabric.lab.down()
}

#[test]
fn a_circuit_over_a_dead_link_says_so_and_why_does_not_promise_delivery() -> Result<()> {
    let fabric = Fabric::up("mute", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let silence = || {
        let ask = v1::CircuitRequest { circuit: "web-db".into() };
        fabric.ask(async |mut client| Ok(client.get_circuit(ask).await?.into_inner().silence))
    };
    eventually("both links answer", || {
        let links =
            fabric.ask(async |mut client| Ok(client.list_links(v1::Empty {}).await?.into_inner().links))?;
        let answers = |link: &v1::Link| {
            link.measured.iter().any(|by| by.measured.as_ref().is_some_and(|seen| seen.rtt_mean > 0))
        };
        Ok(links.len() == 2 && links.iter().all(answers))
    })?;
    assert_eq!(silence()?, "");
    assert_eq!(foreweave(&fabric, &["why", "web", "db", "icmp"])?.status.code(), Some(0));
    fabric.lab.change("a", "t", &Change::Blackhole)?;
    within(2 * PATIENCE, "it is said to be silent", || Ok(silence()?.contains("a–t")))?;
    let shown = String::from_utf8(foreweave(&fabric, &["circuit", "list"])?.stdout)?;
    assert!(shown.contains("active, silent"), "{shown}");
    let why = foreweave(&fabric, &["why", "web", "db", "icmp"])?;
    let said = String::from_utf8(why.stdout)?;
    assert_eq!(why.status.code(), Some(3), "{said}");
    assert!(said.contains("has answered no probe since"), "{said}");
    fabric.lab.change("a", "t", &Change::Mend)?;
    eventually("it is heard again", || Ok(silence()?.is_empty()))?;
    fabric.lab.down()
}

const MBIT: u64 = 1_000_000;

/// As `foreweave link show a t --json` says: bits per second.
fn available(fabric: &Fabric) -> Result<Option<u64>> {
    let shown = foreweave(fabric, &["--json", "link", "show", "a", "t"])?;
    let links: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
    Ok(links["links"][0]["available"].as_u64())
}

#[test]
fn what_a_host_sends_beside_circuits_is_neither_available_nor_reserved() -> Result<()> {
    let row = ROW.replacen("1gbit", "50mbit", 1);
    let fabric = Fabric::up("beside", &row)?;
    let reserved = |mbit: u64| {
        let bounds = v1::Bounds { bandwidth: mbit * MBIT, ..v1::Bounds::default() };
        v1::CircuitSpec { bounds: Some(bounds), ..web_to_db(vec![allow_icmp()]) }
    };
    eventually("nobody uses the link", || Ok(available(&fabric)?.is_some_and(|free| free > 45 * MBIT)))?;
    let (to, _) = fabric.lab.plan().links[0].ends[1].addresses[0];
    let flood = Flood::start(
        &fabric.namespace("a"),
        &fabric.namespace("t"),
        SocketAddr::new(to, crate::support::FLOW),
        30 * MBIT,
    )?;
    within(2 * PATIENCE, "less is available", || {
        Ok(available(&fabric)?.is_some_and(|free| free < 25 * MBIT))
    })?;
    let refused = fabric.create(reserved(40))?.expect_err("others have it");
    assert!(refused.message().contains("taken by others now"), "{refused:?}");
    drop(flood);
    within(
        2 * PATIENCE,
        "it is free again",
        || Ok(available(&fabric)?.is_some_and(|free| free > 45 * MBIT)),
    )?;
    fabric.circuit(reserved(40))?;
    fabric.lab.down()
}

#[test]
fn a_plan_is_drawn_from_what_hosts_measured_before_there_was_a_circuit() -> Result<()> {
    let row = ROW.replace("rate = \"1gbit\"", "rate = \"1gbit\"\ndelay = \"5ms\"");
    let fabric = Fabric::up("ahead", &row)?;
    let plan = |more: &[&str]| -> Result<Output> {
        let wish = ["circuit", "plan", "web", "db", "--latency", "50ms", "--chart"];
        foreweave(&fabric, &[&wish[..], more].concat())
    };
    let points = |series: &serde_json::Value| series["lines"][0]["points"].as_array().map_or(0, Vec::len);
    eventually("both links were measured for some steps", || {
        let shown = plan(&["--json"])?;
        Ok(shown.status.success() && points(&serde_json::from_slice(&shown.stdout)?) >= 3)
    })?;
    let series: serde_json::Value = serde_json::from_slice(&plan(&["--json"])?.stdout)?;
    assert_eq!((&series["bound"], &series["lines"][0]["role"]), (&50_000_000.into(), &"ROLE_PATH".into()));
    let least = series["lines"][0]["points"][0]["least"].as_u64().context("a time")?;
    assert!(least >= 20_000_000, "two links of 5 ms, there and back: {series}");
    let shown = String::from_utf8(plan(&[])?.stdout)?;
    assert!(shown.starts_with("a → t → b  (path)  now ") && shown.contains("≤ 50 ms"), "{shown}");
    // A probe counts as lost only after a while.
    eventually("its loss is known, too", || {
        let loss = String::from_utf8(plan(&["--draw", "loss"])?.stdout)?;
        Ok(loss.starts_with("a → t → b  (path)  now "))
    })?;
    fabric.lab.down()
}
