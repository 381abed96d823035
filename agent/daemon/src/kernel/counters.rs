//! Reads the data plane's counters, beside the thread that changes things.
use super::Shared;
use super::links;
use super::maps::{self, PerCpu, Table};
use super::netlink::Netlink;
use super::queues;
use agent_core::io::{ClassDrops, Counter};
use anyhow::{Context, Result};
use aya::maps::{Map, MapData};
use ebpf_abi::Reason;
use ebpf_abi::stats::{DropKey, Dropped, Stats};
use proto_model::CircuitId;
use proto_model::report::{DropCount, Traffic};
use std::path::Path;

/// Handles of their own on the pinned maps.
#[derive(Debug)]
pub(crate) struct Counters {
    stats: PerCpu<Stats>,
    reasons: PerCpu<Dropped>,
    drops: Table<DropKey, Dropped>,
    shared: Shared,
}

/// Opens a pinned map once more.
pub(crate) fn reopen(pins: &Path, name: &str) -> Result<Map> {
    let path = maps::pin(pins, name);
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Map::from_map_data(data)?)
}

impl Counters {
    pub(crate) fn open(pins: &Path, shared: Shared) -> Result<Self> {
        Ok(Self {
            stats: PerCpu::new(reopen(pins, "STATS")?)?,
            reasons: PerCpu::new(reopen(pins, "REASONS")?)?,
            drops: Table::new(reopen(pins, "DROPS")?)?,
            shared,
        })
    }

    /// By label index; only slots that have counted something.
    pub(crate) fn traffic(&self) -> Result<Vec<(u32, Traffic)>> {
        let mut traffic = Vec::new();
        for slot in self.shared.slots() {
            let sum = add_up(&self.stats.get(slot)?);
            if sum != Traffic::default() {
                traffic.push((slot, sum));
            }
        }
        Ok(traffic)
    }

    /// Told apart by circuit, reason and rule.
    pub(crate) fn drops(&self) -> Result<Vec<DropCount>> {
        self.drops.rows().map(|row| row.map(|(key, value)| count(&key, &value)).map_err(Into::into)).collect()
    }

    /// What the queues of shaped interfaces had no room for.
    pub(crate) fn queues() -> Result<Vec<ClassDrops>> {
        queues::lost(&mut Netlink::open()?)
    }

    /// What these interfaces sent and received since they were made; of one that is not there, nothing.
    pub(crate) fn interfaces(names: &[String]) -> Result<Vec<Counter>> {
        let mut netlink = Netlink::open()?;
        let mut read = Vec::new();
        for name in names {
            if let Some(link) = links::find(&mut netlink, name)? {
                read.push(Counter { interface: link.name, sent: link.sent, received: link.received });
            }
        }
        Ok(read)
    }

    /// Packets dropped for each reason since the maps were made; those of queues since the queues were made.
    pub(crate) fn reasons(&self, queues: &[ClassDrops]) -> Result<Vec<(Reason, u64)>> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let rows = self.reasons.get(*reason as u32)?;
                let packets: u64 = rows.iter().map(|row| row.packets).sum();
                let queued = match reason {
                    Reason::QueueFull => queues.iter().map(|class| class.packets).sum(),
                    _ => 0,
                };
                Ok((*reason, packets + queued))
            })
            .collect()
    }

    /// Slots in use.
    pub(crate) fn slots(&self) -> usize {
        self.shared.slots().len()
    }
}

fn add_up(rows: &[Stats]) -> Traffic {
    rows.iter().fold(Traffic::default(), |sum, row| Traffic {
        sent_packets: sum.sent_packets.wrapping_add(row.sent_packets),
        sent_bytes: sum.sent_bytes.wrapping_add(row.sent_bytes),
        received_packets: sum.received_packets.wrapping_add(row.received_packets),
        received_bytes: sum.received_bytes.wrapping_add(row.received_bytes),
    })
}

fn count(key: &DropKey, value: &Dropped) -> DropCount {
    DropCount {
        circuit: circuit(key.circuit),
        reason: Reason::from_number(key.reason)
            .map_or_else(|| format!("reason_{}", key.reason), |r| r.name().into()),
        rule: key.rule,
        packets: value.packets,
        bytes: value.bytes,
    }
}

/// In the maps 0 stands for "none".
pub(crate) fn circuit(number: u64) -> Option<CircuitId> {
    (number != 0).then_some(CircuitId(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_cpus_are_added_up() {
        let row = |n| Stats {
            sent_packets: n,
            sent_bytes: 10 * n,
            received_packets: 100 * n,
            received_bytes: 1000 * n,
        };
        let sum = add_up(&[row(1), row(2)]);
        assert_eq!(
            (sum.sent_packets, sum.sent_bytes, sum.received_packets, sum.received_bytes),
            (3, 30, 300, 3000)
        );
    }

    #[test]
    fn a_reason_of_a_newer_build_keeps_its_number() {
        let drop = count(&DropKey { circuit: 0, reason: 63, rule: 0 }, &Dropped { packets: 1, bytes: 2 });
        assert_eq!((drop.reason.as_str(), drop.circuit), ("reason_63", None));
    }
}
