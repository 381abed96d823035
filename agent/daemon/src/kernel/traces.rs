//! Turns the records of traced packets into what people wanted to see of them.
use super::Shared;
use super::counters::reopen;
use super::events::{Names, nanos, pollable};
use super::maps::Row;
use agent_core::frame;
use agent_core::kernel_state::Trace;
use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use ebpf_abi::Reason;
use ebpf_abi::event::{HOOK_ENI, HOOK_SEAL, HOOK_UNDERLAY_XDP};
use ebpf_abi::trace::Traced as Record;
use nix::time::ClockId;
use proto_model::trace::{Act, Hook, Traced};
use proto_model::{CircuitId, Label, Timestamp};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::debug;

/// Packets in one batch, and batches at least this far apart: 12,800 packets per second at most reach the controller.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_millis(20);

/// Reads until the receiving side is gone.
///
/// # Errors
/// When the ring buffer cannot be opened or polled.
pub(crate) async fn run(
    pins: &Path,
    port: u16,
    shared: Shared,
    batches: mpsc::Sender<Vec<Traced>>,
) -> Result<()> {
    let ring: RingBuf<MapData> =
        RingBuf::try_from(reopen(pins, "TRACES")?).context("TRACES is not a ring buffer")?;
    let mut ring = pollable(ring).context("cannot poll the ring buffer")?;
    let mut names = Names::open()?;
    // Not told so far; the next packet says it.
    let mut missed = 0;
    loop {
        let mut ready = ring.readable_mut().await?;
        let (mut read, mut batch) = (0, Vec::new());
        let ahead = leap();
        while read < BATCH {
            let Some(item) = ready.get_inner_mut().next() else { break };
            read += 1;
            let Some(record) = record(&item) else { continue };
            missed += record.missed;
            let wanted = shared.traced(record.circuit);
            if let Some(mut packet) =
                wanted.and_then(|wanted| packet(&record, &wanted, port, ahead, &mut names))
            {
                packet.missed = std::mem::take(&mut missed);
                batch.push(packet);
            }
        }
        if read < BATCH {
            ready.clear_ready();
        }
        drop(ready);
        if batch.is_empty() {
            continue;
        }
        let started = Instant::now();
        metrics::counter!("foreweave_agent_traced_packets_total").increment(batch.len() as u64);
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
        sleep(PAUSE.saturating_sub(started.elapsed())).await;
    }
}

/// TAI less UTC as the kernel knows it, nanoseconds; whole seconds.
fn leap() -> u64 {
    let difference = nanos(ClockId::CLOCK_TAI) - nanos(ClockId::CLOCK_REALTIME);
    u64::try_from((difference + 500_000_000) / 1_000_000_000).unwrap_or(0) * 1_000_000_000
}

fn record(bytes: &[u8]) -> Option<Record> {
    let Ok(bytes) = <Record as Row>::Bytes::try_from(bytes) else {
        debug!(length = bytes.len(), expected = size_of::<Record>(), "a record of another build");
        return None;
    };
    Some(Record::of(bytes))
}

/// Without what was missed before it. None: the filter leaves it out.
fn packet(record: &Record, wanted: &Trace, port: u16, ahead: u64, names: &mut Names) -> Option<Traced> {
    let taken = usize::from(u16::from_ne_bytes(record.taken)).min(record.bytes.len());
    let bytes = &record.bytes[..taken];
    let at = if matches!(record.hook, HOOK_ENI | HOOK_SEAL) {
        0
    } else {
        frame::outer(bytes, port).map_or(taken, |outer| outer.inner)
    };
    let inner = frame::inner(&bytes[at..]);
    if !inner
        .as_ref()
        .map_or(wanted.protocol.is_none() && wanted.port.is_none(), |inner| passes(wanted, inner))
    {
        return None;
    }
    let kept = taken.min(wanted.snaplen.into());
    Some(Traced {
        at: Timestamp(record.at.saturating_sub(ahead)),
        circuit: CircuitId(record.circuit),
        hook: match record.hook {
            HOOK_ENI => Hook::Eni,
            HOOK_UNDERLAY_XDP => Hook::Xdp,
            HOOK_SEAL => Hook::Seal,
            _ => Hook::Tcx,
        },
        act: act(record),
        interface: names.of(record.ifindex),
        label: Label::new(record.label),
        out_label: Label::new(record.out_label),
        identity: inner.as_ref().map_or(0, |inner| inner.identity),
        source: inner.as_ref().map(|inner| inner.source),
        destination: inner.as_ref().map(|inner| inner.destination),
        protocol: inner.as_ref().map_or(0, |inner| inner.protocol),
        source_port: inner.as_ref().map_or(0, |inner| inner.source_port),
        destination_port: inner.as_ref().map_or(0, |inner| inner.destination_port),
        sealed: record.hook != HOOK_ENI && frame::is_sealed(bytes, port),
        length: record.length,
        segment: record.segment,
        missed: 0,
        bytes: bytes[..kept].to_vec(),
    })
}

fn passes(wanted: &Trace, inner: &frame::Inner) -> bool {
    let protocol = if inner.protocol == 58 { 1 } else { inner.protocol };
    let has_ports = matches!(protocol, 6 | 17);
    wanted.protocol.is_none_or(|only| only == protocol)
        && wanted
            .port
            .is_none_or(|only| has_ports && (inner.source_port == only || inner.destination_port == only))
}

fn act(record: &Record) -> Act {
    match record.act {
        Record::ENTERED => Act::Entered,
        Record::DELIVERED => Act::Delivered,
        Record::PASSED_ON => Act::PassedOn,
        _ => {
            let reason = Reason::from_number(record.reason);
            let name =
                reason.map_or_else(|| format!("reason_{}", record.reason), |reason| reason.name().to_owned());
            Act::Dropped { reason: name, rule: record.rule }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::craft;
    use proto_model::query::{Body, Packet};
    use zerocopy::FromZeros;

    fn told(body: Body) -> Record {
        let packet = Packet {
            source: "100.64.0.1".parse().expect("address"),
            destination: "100.64.0.2".parse().expect("address"),
            body,
            size: None,
        };
        let frame = craft::frame(&packet, [2; 6]).expect("one family");
        let mut record = Record::new_zeroed();
        record.bytes[..frame.len()].copy_from_slice(&frame);
        record.taken = (frame.len() as u16).to_ne_bytes();
        (record.at, record.circuit, record.hook) = (7_000_000_000, 3, HOOK_ENI);
        (record.act, record.ifindex) = (Record::DROPPED, u32::MAX);
        record.reason = Reason::DeniedByRule as u32;
        record
    }

    fn wish(protocol: Option<u8>, port: Option<u16>) -> Trace {
        Trace { circuit: 3, until: Timestamp(9), protocol, port, snaplen: 20 }
    }

    #[test]
    fn a_record_becomes_a_packet_cut_to_what_was_asked_for() {
        let mut names = Names::open().expect("netlink");
        let tcp = told(Body::Tcp { source: 9, destination: 5432, answer: false });
        let packet = packet(&tcp, &wish(None, None), 4789, 2_000_000_000, &mut names).expect("wanted");
        assert_eq!((packet.at, packet.bytes.len()), (Timestamp(5_000_000_000), 20));
        assert_eq!((packet.protocol, packet.source_port, packet.destination_port), (6, 9, 5432));
        assert_eq!(packet.act, Act::Dropped { reason: "denied_by_rule".into(), rule: 0 });
    }

    #[test]
    fn the_filter_leaves_out_what_nobody_asked_for() {
        let mut names = Names::open().expect("netlink");
        let tcp = told(Body::Tcp { source: 9, destination: 5432, answer: false });
        let echo = told(Body::Echo { id: 1, answer: false });
        for (record, protocol, port, kept) in [
            (&tcp, Some(6), Some(5432), true),
            (&tcp, Some(6), Some(9), true),
            (&tcp, Some(6), Some(80), false),
            (&tcp, Some(17), None, false),
            (&echo, Some(1), None, true),
            (&echo, None, Some(9), false),
        ] {
            let told = packet(record, &wish(protocol, port), 4789, 0, &mut names);
            assert_eq!(told.is_some(), kept, "{protocol:?} {port:?}");
        }
    }
}
