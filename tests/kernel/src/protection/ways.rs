//! Which way the circuit ends of a host send, as the kernel has it: read from the agent's pinned maps, never written.
use crate::bench::bpf;
use crate::lab::Lab;
use anyhow::{Context, Result};
use aya::maps::{HashMap, Map, MapData};
use ebpf_abi::flow::{BACKUP, Flow, FlowKey};
use ebpf_abi::maps;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

#[derive(Debug)]
pub struct Ways {
    groups: MapData,
    /// Slots of `GROUPS` that flows of this host use.
    pub used: BTreeSet<u32>,
    /// Entries of `FLOWS` with a group; one per circuit and family.
    pub protected: usize,
    pub unprotected: usize,
}

impl Ways {
    /// The flows as they are now; what their groups say is read each time.
    ///
    /// # Errors
    /// The agent has no such pins.
    pub fn of(lab: &Lab, host: &str) -> Result<Self> {
        let pins = lab.plan().pins(host);
        let groups = pinned(&pins, &maps::pin("GROUPS"))?;
        let flows: HashMap<_, [u8; size_of::<FlowKey>()], [u8; size_of::<Flow>()]> =
            HashMap::try_from(Map::HashMap(pinned(&pins, &maps::pin("FLOWS"))?))?;
        let mut ways = Self { groups, used: BTreeSet::new(), protected: 0, unprotected: 0 };
        for entry in flows.iter() {
            let flow = Flow::read_from_bytes(&entry?.1).map_err(|_| anyhow::anyhow!("another FLOWS"))?;
            if flow.group == 0 {
                ways.unprotected += 1;
            } else {
                ways.used.insert(u32::from(flow.group));
                ways.protected += 1;
            }
        }
        Ok(ways)
    }

    /// Whether every group that is in use sends by the backup.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all_on_backup(&self) -> Result<bool> {
        Ok(!self.used.is_empty() && self.on_backup()?.len() == self.used.len())
    }

    /// Groups in use that send by the backup.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn on_backup(&self) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for group in &self.used {
            let value = bpf::lookup(self.groups.fd().as_fd(), &group.to_ne_bytes(), size_of::<u32>())?;
            if value.as_deref() == Some(&BACKUP.to_ne_bytes()) {
                found.insert(*group);
            }
        }
        Ok(found)
    }
}

fn pinned(pins: &Path, name: &str) -> Result<MapData> {
    let pin = pins.join(name);
    MapData::from_pin(&pin).with_context(|| pin.display().to_string())
}

/// Waits until all groups of all hosts are on their backups; milliseconds since `event`, or none after `patience`.
///
/// # Errors
/// What the kernel says.
pub fn until_all_left(ways: &[Ways], event: Instant, patience: Duration) -> Result<Option<f64>> {
    while event.elapsed() < patience {
        let mut left = true;
        for host in ways {
            left &= host.all_on_backup()?;
        }
        if left {
            return Ok(Some(event.elapsed().as_secs_f64() * 1e3));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(None)
}

/// Turns of each group on each host, seen until `stop`; the hold-down is thousands of times longer than a look.
///
/// # Errors
/// What the kernel says.
pub fn watch_turns(ways: &[Ways], stop: &AtomicBool) -> Result<BTreeMap<(usize, u32), u32>> {
    let look = || -> Result<Vec<BTreeSet<u32>>> { ways.iter().map(Ways::on_backup).collect() };
    let mut turns = BTreeMap::new();
    let mut before = look()?;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(2));
        let now = look()?;
        for (host, (old, new)) in before.iter().zip(&now).enumerate() {
            for group in old.symmetric_difference(new) {
                *turns.entry((host, *group)).or_default() += 1;
            }
        }
        before = now;
    }
    Ok(turns)
}
