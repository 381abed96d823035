//! Single packets: asks what becomes of one, follows and captures those that pass.
use super::understood;
use crate::args::packets::{Capture, Trace, Which, Why};
use crate::capture::File;
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use crate::show::trace::{Joiner, Journey};
use proto_model::NodeName;
use proto_model::request::CircuitRef;
use proto_model::trace::Traced;
use proto_model::trail::{Trail, Verdict};
use proto_wire::v1;
use std::time::{Duration, Instant};

pub(super) async fn why(fabric: &mut Fabric, wish: &Why, out: Out) -> Result<(), Failure> {
    let wonder = wish.wonder().map_err(Failure::usage)?;
    let ask = v1::WhyRequest::from(wonder);
    let answer = fabric.read(ask, async |mut client, ask| client.why(ask).await).await?;
    let trail: Trail = understood(answer.clone())?;
    out.answer("Trail", &answer, || show::why::trail(&trail))?;
    match trail.verdict {
        Verdict::Passes => Ok(()),
        Verdict::Dropped => Err(Failure::WouldNotPass { exit: 6 }),
        Verdict::Unknown => Err(Failure::WouldNotPass { exit: 3 }),
    }
}

/// How long the hosts' records of one packet may be apart on their way here.
const LATE: Duration = Duration::from_millis(400);

/// What is told, until the time is over.
struct Stream {
    events: tonic::Streaming<v1::TraceEvent>,
    began: v1::trace_event::Began,
}

async fn begin(
    fabric: &mut Fabric,
    circuit: &CircuitRef,
    which: &Which,
    snaplen: u16,
) -> Result<Stream, Failure> {
    let ask = v1::TraceRequest {
        circuit: circuit.to_string(),
        filter: Some(which.filter().into()),
        snaplen: snaplen.into(),
        lasts: u64::try_from(which.lasts.0.as_nanos()).unwrap_or(u64::MAX),
        nodes: which.at.iter().map(ToString::to_string).collect(),
    };
    let mut events = fabric.read(ask, async |mut client, ask| client.trace(ask).await).await?;
    let first = events.message().await.map_err(|status| fabric.failure(&status))?;
    match first.and_then(|event| event.event) {
        Some(v1::trace_event::Event::Began(began)) => Ok(Stream { events, began }),
        Some(v1::trace_event::Event::Packet(_) | v1::trace_event::Event::Ended(_)) | None => {
            Err(Failure::usage("the controller did not say what is followed"))
        }
    }
}

impl Stream {
    /// None: it is over.
    async fn next(&mut self, fabric: &Fabric) -> Result<Option<v1::trace_event::Packet>, Failure> {
        loop {
            let event = self.events.message().await.map_err(|status| fabric.failure(&status))?;
            match event.and_then(|event| event.event) {
                Some(v1::trace_event::Event::Packet(packet)) => return Ok(Some(packet)),
                Some(v1::trace_event::Event::Began(_)) => {}
                Some(v1::trace_event::Event::Ended(_)) | None => return Ok(None),
            }
        }
    }
}

fn read(packet: &v1::trace_event::Packet) -> Result<(NodeName, Traced), Failure> {
    let node = packet.node.parse().map_err(|why| Failure::usage(format!("node: {why}")))?;
    let seen = packet.packet.clone().ok_or_else(|| Failure::usage("a packet without its record"))?;
    Ok((node, understood(seen)?))
}

fn absent(out: Out, began: &v1::trace_event::Began) {
    if !began.absent.is_empty() {
        out.note(&format!("not connected: {}; followed there as soon as it is", began.absent.join(", ")));
    }
}

fn missed(out: Out, packet: &v1::trace_event::Packet) {
    let by_host = packet.packet.as_ref().map_or(0, |seen| seen.missed);
    if packet.missed > 0 {
        out.note(&format!("{} records were missed here: this reader is too slow", packet.missed));
    }
    if by_host > 0 {
        out.note(&format!("{} had no room for {by_host} packets before this one", packet.node));
    }
}

pub(super) async fn trace(fabric: &mut Fabric, wish: &Trace, out: Out) -> Result<(), Failure> {
    let mut stream = begin(fabric, &wish.circuit, &wish.which, 0).await?;
    let nodes = stream.began.nodes.clone();
    out.note(&format!(
        "following {} at {} (times are by each host's clock: differences include what the clocks are apart)",
        stream.began.name,
        nodes.join(", ")
    ));
    absent(out, &stream.began);
    let mut joiner = Joiner::new(nodes);
    let mut left = wish.count.unwrap_or(u64::MAX);
    let mut over = false;
    while !over && left > 0 {
        let next = tokio::time::timeout(LATE / 4, stream.next(fabric)).await;
        match next {
            Err(_) => {}
            Ok(packet) => match packet? {
                None => over = true,
                Some(packet) if out.json => {
                    out.item("TraceEvent.Packet", &packet, String::new)?;
                    left -= 1;
                }
                Some(packet) => {
                    missed(out, &packet);
                    let (node, seen) = read(&packet)?;
                    joiner.add(node, seen, Instant::now());
                }
            },
        }
        let ready = if over { joiner.rest() } else { joiner.ready(Instant::now(), LATE) };
        left = print(&ready, left, &joiner, out)?;
    }
    Ok(())
}

/// How many more are wanted.
fn print(ready: &[Journey], left: u64, joiner: &Joiner, out: Out) -> Result<u64, Failure> {
    let wanted = ready.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
    for journey in wanted.clone() {
        out.text(&joiner.line(journey))?;
    }
    Ok(left - wanted.count() as u64)
}

pub(super) async fn capture(fabric: &mut Fabric, wish: &Capture, out: Out) -> Result<(), Failure> {
    // Before anything is followed: a file that cannot be written needs no packets.
    let file = File::open(&wish.write)?;
    let mut stream = begin(fabric, &wish.circuit, &wish.which, wish.snaplen).await?;
    let mut file = File::begin(&wish.write, file, &stream.began.name, wish.snaplen)?;
    out.note(&format!(
        "capturing {} at {} (end with Ctrl-C)",
        stream.began.name,
        stream.began.nodes.join(", ")
    ));
    absent(out, &stream.began);
    let mut frames = 0;
    while wish.count.is_none_or(|most| frames < most) {
        let packet = tokio::select! {
            packet = stream.next(fabric) => packet?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(packet) = packet else { break };
        missed(out, &packet);
        let (node, seen) = read(&packet)?;
        file.add(node, seen)?;
        frames += 1;
    }
    file.finish()?;
    out.note(&format!("{frames} frames in {}", wish.write.display()));
    Ok(())
}
