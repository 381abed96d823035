//! Turns the ring buffer's records into drops that people can read.
use super::counters::{circuit, reopen};
use super::links;
use super::maps::Row;
use super::netlink::Netlink;
use agent_core::abi;
use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use ebpf_abi::event::DropEvent as Record;
use ebpf_abi::{Address, Reason};
use nix::time::{ClockId, clock_gettime};
use proto_model::Timestamp;
use proto_model::report::DropEvent;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::debug;

/// Events in one batch, and batches at least this far apart: 2,500 events per second at most reach the core. What
/// the ring buffer cannot hold meanwhile is lost; the counters are not.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);
/// Interface names remembered; at the bound all are forgotten and looked up again.
const NAMES: usize = 1_024;

/// Reads until the receiving side is gone.
///
/// # Errors
/// When the ring buffer cannot be opened or polled.
pub(crate) async fn run(pins: &Path, batches: mpsc::Sender<Vec<DropEvent>>) -> Result<()> {
    let ring: RingBuf<MapData> =
        RingBuf::try_from(reopen(pins, "EVENTS")?).context("EVENTS is not a ring buffer")?;
    let mut ring = pollable(ring).context("cannot poll the ring buffer")?;
    let mut names = Names::open()?;
    loop {
        let mut ready = ring.readable_mut().await?;
        let mut batch = Vec::new();
        let clock = Clock::now();
        while batch.len() < BATCH {
            let Some(item) = ready.get_inner_mut().next() else { break };
            batch.extend(record(&item).map(|record| event(&record, &clock, &mut names)));
        }
        if batch.len() < BATCH {
            ready.clear_ready();
        }
        drop(ready);
        if batch.is_empty() {
            continue;
        }
        let started = Instant::now();
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
        sleep(PAUSE.saturating_sub(started.elapsed())).await;
    }
}

#[expect(deprecated, reason = "its replacement is unsafe; the ring keeps its descriptor as long as it lives")]
pub(crate) fn pollable(ring: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    AsyncFd::new(ring)
}

fn record(bytes: &[u8]) -> Option<Record> {
    let Ok(bytes) = <Record as Row>::Bytes::try_from(bytes) else {
        debug!(length = bytes.len(), expected = size_of::<Record>(), "an event of another build");
        return None;
    };
    Some(Record::of(bytes))
}

fn event(record: &Record, clock: &Clock, names: &mut Names) -> DropEvent {
    let reason = Reason::from_number(record.reason);
    DropEvent {
        at: clock.wall(record.at),
        circuit: circuit(record.circuit),
        reason: reason.map_or_else(|| format!("reason_{}", record.reason), |reason| reason.name().to_owned()),
        text: reason.map_or("A reason of another build.", Reason::text).trim().to_owned(),
        rule: record.rule,
        interface: names.of(record.ifindex),
        source: known(&record.source),
        destination: known(&record.destination),
        protocol: record.protocol,
        source_port: u16::from_be_bytes(record.source_port),
        destination_port: u16::from_be_bytes(record.destination_port),
        length: record.length,
        label: (record.label != 0).then_some(record.label),
    }
}

fn known(address: &Address) -> Option<IpAddr> {
    (*address != [0; 16]).then(|| abi::ip(address))
}

/// The wall clock less the monotonic one, in nanoseconds.
struct Clock(i128);

impl Clock {
    fn now() -> Self {
        Self(nanos(ClockId::CLOCK_REALTIME) - nanos(ClockId::CLOCK_MONOTONIC))
    }
    fn wall(&self, monotonic: u64) -> Timestamp {
        Timestamp(u64::try_from(i128::from(monotonic) + self.0).unwrap_or(0))
    }
}

pub(crate) fn nanos(clock: ClockId) -> i128 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

/// Names of interfaces by index.
pub(crate) struct Names {
    netlink: Netlink,
    known: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::open()?, known: BTreeMap::new() })
    }

    pub(crate) fn of(&mut self, index: u32) -> String {
        if self.known.len() >= NAMES {
            self.known.clear();
        }
        if let Some(name) = self.known.get(&index) {
            return name.clone();
        }
        let name = links::find_index(&mut self.netlink, index).ok().flatten().map(|link| link.name);
        let Some(name) = name else { return format!("if{index}") };
        self.known.insert(index, name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_record_becomes_a_readable_drop() {
        let record = Record {
            at: 5,
            circuit: 3,
            source: ebpf_abi::mapped([100, 64, 0, 1]),
            reason: Reason::DeniedByRule as u32,
            destination_port: 22u16.to_be_bytes(),
            ifindex: u32::MAX,
            ..Record::new_zeroed()
        };
        let mut names = Names::open().expect("netlink");
        let drop = event(&record, &Clock(10), &mut names);
        assert_eq!(drop.at, Timestamp(15));
        assert_eq!(drop.reason, "denied_by_rule");
        assert_eq!(drop.source, Some("100.64.0.1".parse().expect("address")));
        assert_eq!((drop.destination, drop.label, drop.destination_port), (None, None, 22));
        assert_eq!(drop.interface, format!("if{}", u32::MAX));
    }

    #[test]
    fn records_of_another_size_are_left_out() {
        assert!(record(&[0; 3]).is_none());
        assert!(record(&[0; 4096]).is_none());
    }
}
