//! What is kept of the past is of real counters and probes, and outlives the controller.
use crate::support::{Fabric, PATIENCE, ROW, allow_udp, eventually, web_to_db};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use proto_wire::v1;
use proto_wire::v1::link::Quantity;
use proto_wire::v1::series::{Line, Role};
use proto_wire::v1::series_request::Subject;
use tests_kernel::traffic::Flow;

/// All that is kept in steps of two seconds.
const PAST: u64 = 240_000_000_000;

fn lines(fabric: &Fabric, quantity: Quantity) -> Result<Vec<Line>> {
    let ask = v1::SeriesRequest {
        subject: Some(Subject::Circuit("web-db".into())),
        quantity: quantity.into(),
        past: PAST,
    };
    let series = fabric.ask(async |mut client| Ok(client.get_series(ask.clone()).await?.into_inner()))?;
    Ok(series.lines)
}

fn line(fabric: &Fabric, quantity: Quantity, role: Role) -> Result<Line> {
    let found = lines(fabric, quantity)?.into_iter().find(|line| line.role() == role);
    found.with_context(|| format!("no line of {role:?}"))
}

#[test]
fn what_a_circuit_sent_and_how_it_ran_is_known_and_outlives_the_controller() -> Result<()> {
    let fabric = Fabric::up("past", ROW)?;
    let target = fabric.flow_target()?;
    fabric.circuit(web_to_db(vec![allow_udp(target.port())]))?;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 1_000)?;
    let sending = |line: &Line| line.points.iter().filter(|point| point.mean > 0).count();
    eventually("three steps in which it sent", || {
        Ok(sending(&line(&fabric, Quantity::Load, Role::Forth)?) >= 3)
    })?;
    let sent = flow.finish()?.sent;
    eventually("a step in which it sent nothing", || {
        let forth = line(&fabric, Quantity::Load, Role::Forth)?;
        Ok(forth.points.last().is_some_and(|last| last.mean == 0))
    })?;
    let forth = line(&fabric, Quantity::Load, Role::Forth)?;
    // Steps of two seconds; no byte is in two of them. Of a packet: payload, UDP, IP, Ethernet at most.
    let bytes: u64 = forth.points.iter().map(|point| point.mean / 4).sum();
    assert!(
        (sent * 64 / 4..=sent * (64 + 8 + 20 + 14) * 5 / 4).contains(&bytes),
        "{bytes} of {sent}: {forth:?}"
    );
    let back = line(&fabric, Quantity::Load, Role::Back)?;
    assert!(!back.points.is_empty() && sending(&back) == 0, "nobody answered: {back:?}");
    let ran = line(&fabric, Quantity::Rtt, Role::Circuit)?;
    assert!(ran.points.iter().all(|point| point.mean > 0) && ran.points.len() >= 3, "{ran:?}");

    let controller = fabric.lab.controller();
    controller.signal(Signal::SIGTERM)?;
    controller.wait_gone(PATIENCE)?;
    fabric.lab.start_controller()?;
    // The bucket that was open goes on.
    let closed = |line: Line| {
        line.points.into_iter().rev().skip(1).map(|point| (point.at, point.mean)).collect::<Vec<_>>()
    };
    let kept = closed(forth);
    eventually("the past is there again", || {
        let now: Vec<_> = closed(line(&fabric, Quantity::Load, Role::Forth)?);
        Ok(kept.iter().all(|point| now.contains(point)))
    })?;
    fabric.lab.down()
}
