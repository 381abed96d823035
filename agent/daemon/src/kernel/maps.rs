//! The maps of the data plane as tables of typed rows; the only place that knows their bytes' way into the kernel.
//!
//! Rows cross as byte arrays (every byte of the ABI's types is named), so nothing here is unsafe.
use anyhow::{Context, Result, bail};
use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuValues};
use ebpf_abi::conntrack::{Conn, ConnKey, Fragment, FragmentKey};
use ebpf_abi::event::Budget;
use ebpf_abi::flow::{Flow, FlowKey, NextHop};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::maps::{self, Settings};
use ebpf_abi::probe::{Peer, PeerKey, Reply};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::seal::SealRow;
use ebpf_abi::stats::{DropKey, Dropped, Stats};
use ebpf_abi::trace::{self, Wanted};
use ebpf_abi::verdict::Verdict;
use std::path::{Path, PathBuf};
use tracing::warn;

/// A type of the ABI and the array of bytes that it is.
pub(crate) trait Row: Copy + std::fmt::Debug {
    type Bytes: Pod + std::fmt::Debug;
    fn bytes(&self) -> Self::Bytes;
    fn of(bytes: Self::Bytes) -> Self;
}

macro_rules! rows {
    ($($row:ty),+) => {$(
        impl Row for $row {
            type Bytes = [u8; size_of::<$row>()];
            fn bytes(&self) -> Self::Bytes {
                zerocopy::transmute!(*self)
            }
            fn of(bytes: Self::Bytes) -> Self {
                zerocopy::transmute!(bytes)
            }
        }
    )+};
}

rows!(
    u32,
    u64,
    FlowKey,
    Flow,
    ebpf_abi::former::Flow1,
    NextHop,
    LabelEntry,
    RuleSetRef,
    RuleRow,
    Stats,
    Dropped
);
rows!(ebpf_abi::share::Meter, DropKey, Settings, ebpf_abi::event::DropEvent, PeerKey, Peer, Reply, SealRow);
rows!(Verdict, Wanted, trace::Traced);

impl Row for ebpf_abi::Address {
    type Bytes = Self;
    fn bytes(&self) -> Self {
        *self
    }
    fn of(bytes: Self) -> Self {
        bytes
    }
}

/// `BPF_NOEXIST` of bpf(2).
const NOEXIST: u64 = 1;

/// A hash map.
#[derive(Debug)]
pub(crate) struct Table<K: Row, V: Row>(HashMap<MapData, K::Bytes, V::Bytes>);

impl<K: Row, V: Row> Table<K, V> {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        HashMap::try_from(map).map(Self)
    }
    pub(crate) fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.0.insert(key.bytes(), value.bytes(), 0)
    }
    /// What is there already stays as it is.
    pub(crate) fn put_new(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        match self.0.insert(key.bytes(), value.bytes(), NOEXIST) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(())
            }
            other => other,
        }
    }
    /// Removing what is not there is fine.
    pub(crate) fn remove(&mut self, key: &K) -> Result<(), MapError> {
        match self.0.remove(&key.bytes()) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        }
    }
    /// All rows. A program may change an LRU map meanwhile; a key that vanished is left out.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<(K, V), MapError>> + '_ {
        self.0.iter().map(|row| row.map(|(key, value)| (K::of(key), V::of(value))))
    }
    pub(crate) fn keys(&self) -> impl Iterator<Item = Result<K, MapError>> + '_ {
        self.0.keys().map(|key| key.map(K::of))
    }
}

/// An array.
pub(crate) struct Slots<V: Row>(Array<MapData, V::Bytes>);

impl<V: Row> Slots<V> {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        Array::try_from(map).map(Self)
    }
    pub(crate) fn len(&self) -> u32 {
        self.0.len()
    }
    pub(crate) fn get(&self, index: u32) -> Result<V, MapError> {
        self.0.get(&index, 0).map(V::of)
    }
    pub(crate) fn put(&mut self, index: u32, value: &V) -> Result<(), MapError> {
        self.0.set(index, value.bytes(), 0)
    }
}

/// An array whose rows exist once per CPU.
pub(crate) struct PerCpu<V: Row>(PerCpuArray<MapData, V::Bytes>);

impl<V: Row> PerCpu<V> {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        PerCpuArray::try_from(map).map(Self)
    }
    /// One row per CPU.
    pub(crate) fn get(&self, index: u32) -> Result<Vec<V>, MapError> {
        Ok(self.0.get(&index, 0)?.iter().map(|bytes| V::of(*bytes)).collect())
    }
    pub(crate) fn put_everywhere(&mut self, index: u32, value: &V) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        let values = PerCpuValues::try_from(vec![value.bytes(); cpus])?;
        Ok(self.0.set(index, values, 0)?)
    }
}

impl<V: Row> std::fmt::Debug for Slots<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

impl<V: Row> std::fmt::Debug for PerCpu<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerCpu").finish_non_exhaustive()
    }
}

/// What a pinned map must look like, from the ABI.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

fn layouts() -> [Layout; 25] {
    let row = |name, kind, key, value, entries| Layout { name, kind, key, value, entries };
    let slot = size_of::<u32>();
    use ebpf_abi::{label, reason, seal, share};
    [
        row("FLOWS", MapType::Hash, size_of::<FlowKey>(), size_of::<Flow>(), maps::FLOWS),
        row("NEXT_HOPS", MapType::Array, slot, size_of::<NextHop>(), maps::NEXT_HOPS),
        row("LABELS", MapType::Array, slot, size_of::<LabelEntry>(), label::CAPACITY),
        row("RULESETS", MapType::Hash, size_of::<u64>(), size_of::<RuleSetRef>(), maps::RULESETS),
        row("RULES", MapType::Array, slot, size_of::<RuleRow>(), maps::RULES),
        row("CONNTRACK", MapType::LruHash, size_of::<ConnKey>(), size_of::<Conn>(), maps::CONNTRACK),
        row("FRAGMENTS", MapType::LruHash, size_of::<FragmentKey>(), size_of::<Fragment>(), maps::FRAGMENTS),
        row("STATS", MapType::PerCpuArray, slot, size_of::<Stats>(), label::CAPACITY),
        row("REASONS", MapType::PerCpuArray, slot, size_of::<Dropped>(), reason::CAPACITY),
        row("DROPS", MapType::LruHash, size_of::<DropKey>(), size_of::<Dropped>(), maps::DROPS),
        row("EVENTS", MapType::RingBuf, 0, 0, maps::EVENTS),
        row("EVENT_BUDGET", MapType::PerCpuArray, slot, size_of::<Budget>(), reason::CAPACITY),
        row("ERROR_BUDGET", MapType::PerCpuArray, slot, size_of::<Budget>(), maps::ERROR_BUDGETS),
        row("LOCALS", MapType::Hash, size_of::<ebpf_abi::Address>(), size_of::<u32>(), maps::LOCALS),
        row("SETTINGS", MapType::Array, slot, size_of::<Settings>(), 1),
        row("GROUPS", MapType::Array, slot, size_of::<u32>(), maps::GROUPS),
        row("PEERS", MapType::Hash, size_of::<PeerKey>(), size_of::<Peer>(), maps::PEERS),
        row("REFLECTED", MapType::Array, slot, size_of::<u32>(), label::CAPACITY),
        row("PROBES", MapType::RingBuf, 0, 0, maps::PROBES),
        row("SEALS", MapType::Hash, size_of::<u64>(), size_of::<SealRow>(), maps::SEALS),
        row("SEALERS", MapType::Array, slot, size_of::<u32>(), seal::SEALERS),
        row("TRACED", MapType::Hash, size_of::<u64>(), size_of::<Wanted>(), maps::TRACED),
        row("TRACES", MapType::RingBuf, 0, 0, maps::TRACES),
        row("TRACE_BUDGET", MapType::PerCpuArray, slot, size_of::<trace::Budget>(), 1),
        row("METERS", MapType::Array, slot, size_of::<share::Meter>(), share::METERS),
    ]
}

/// Where a map is pinned.
pub(crate) fn pin(pins: &Path, name: &str) -> PathBuf {
    pins.join(maps::pin(name))
}

/// Looks at every pinned map before it is used. One of ours (by its name in the kernel) with another layout is from
/// another build: its pin is removed, the map will be made anew, and the controller's desired state fills it. What is
/// not ours stays, and nothing starts.
///
/// # Errors
/// Names the pin that is not ours, and what to do.
pub(crate) fn check_pins(pins: &Path) -> Result<()> {
    for layout in layouts() {
        let path = pin(pins, layout.name);
        if !path.exists() {
            continue;
        }
        match inspect(&path, &layout)? {
            None => {}
            Some(difference) => {
                warn!(pin = %path.display(), %difference, "pinned map is from another build; made anew");
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// `Some`: how it differs.
fn inspect(path: &Path, layout: &Layout) -> Result<Option<String>> {
    let foreign =
        |what: String| format!("{} {what}; remove it, or set another directory as `pins`", path.display());
    let info = MapInfo::from_pin(path)
        .map_err(|error| anyhow::anyhow!(error))
        .with_context(|| foreign("cannot be opened as a map".into()))?;
    let name = info.name_as_str().unwrap_or_default().to_owned();
    // The kernel keeps 15 characters of the name.
    let expected_name = &layout.name[..layout.name.len().min(15)];
    if name != expected_name {
        bail!("{}", foreign(format!("holds \"{name}\", which is not a map of the fabric")));
    }
    let found = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries());
    let wanted = (Some(layout.kind), layout.key as u32, layout.value as u32, layout.entries);
    Ok((found != wanted)
        .then(|| format!("type, key bytes, value bytes, entries are {found:?}, must be {wanted:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_of_the_abi_has_a_layout() {
        let named: Vec<&str> = layouts().iter().map(|layout| layout.name).collect();
        assert_eq!(named, maps::name::MAPS);
    }

    /// A build with other sizes under the same pin would throw away what forwards. If this fails: give the map its next
    /// layout in `ebpf_abi::maps::VERSIONS` (once per release), a step in `agent_core::migrate`, and change the line.
    #[test]
    fn every_layout_has_the_sizes_of_its_version() {
        let found: Vec<String> = layouts()
            .iter()
            .map(|l| format!("{} {}: {} {} {}", l.name, maps::version(l.name), l.key, l.value, l.entries))
            .collect();
        assert_eq!(
            found,
            [
                "FLOWS 3: 20 80 65536",
                "NEXT_HOPS 1: 4 52 4096",
                "LABELS 2: 4 128 131072",
                "RULESETS 1: 8 24 32768",
                "RULES 1: 4 80 262144",
                "CONNTRACK 1: 48 24 262144",
                "FRAGMENTS 1: 48 16 8192",
                "STATS 1: 4 32 131072",
                "REASONS 1: 4 16 64",
                "DROPS 1: 16 16 16384",
                "EVENTS 1: 0 0 1048576",
                "EVENT_BUDGET 1: 4 16 64",
                "ERROR_BUDGET 1: 4 16 1024",
                "LOCALS 1: 16 4 256",
                "SETTINGS 1: 4 8 1",
                "GROUPS 1: 4 4 16384",
                "PEERS 1: 20 24 4096",
                "REFLECTED 1: 4 4 131072",
                "PROBES 1: 0 0 524288",
                "SEALS 1: 8 80 16384",
                "SEALERS 1: 4 4 2",
                "TRACED 1: 8 24 64",
                "TRACES 1: 0 0 1048576",
                "TRACE_BUDGET 1: 4 24 1",
                "METERS 1: 4 32 65521",
            ]
        );
    }

    #[test]
    fn rows_survive_their_bytes() {
        let key = FlowKey { eni: 7, remote: ebpf_abi::mapped([10, 0, 0, 1]) };
        assert_eq!(FlowKey::of(key.bytes()), key);
        assert_eq!(u64::of(Row::bytes(&5u64)), 5);
    }
}
