//! Carries what other builds left in pinned maps over into today's layouts, and keeps older builds from starting beside.
//!
//! A map whose layout changed has a new pin, so the old programs go on with the old map until each of them is replaced
//! in one step. Only maps that the agent alone writes have changed so far, and it is not running then: one pass is
//! enough. Connections and counters keep their maps. Whatever moment the agent is killed at, the programs have whole
//! maps, and the next start finds either the former pin or the finished new one.
use super::maps::{Slots, Table, pin};
use super::programs::pinned;
use agent_core::migrate;
use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData, MapInfo};
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::former::Flow1;
use ebpf_abi::label::LabelEntry;
use ebpf_abi::maps::{UPGRADED, VERSIONS, name, pin_of, version};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Where a map of layout 1 is pinned.
fn first_pin(pins: &Path, name: &str) -> PathBuf {
    pins.join(pin_of(name, 1))
}

/// The newest map that an older build left, unless this build or a newer one has made its own.
fn former(pins: &Path, name: &str) -> Option<PathBuf> {
    if pin(pins, name).exists() {
        return None;
    }
    let older = (1..version(name)).rev().map(|version| pins.join(pin_of(name, version)));
    older.into_iter().find(|path| path.exists() && !is_marker(path))
}

/// Where a map is while it is being filled.
fn unfinished(pins: &Path, name: &str) -> PathBuf {
    let mut path = pin(pins, name).into_os_string();
    path.push("_new");
    path.into()
}

/// Maps that a newer build has laid out otherwise must not be touched: what forwards would be cut off.
///
/// # Errors
/// Names the pin and both layouts.
pub(crate) fn refuse_newer(pins: &Path) -> Result<()> {
    for found in pinned(pins)? {
        for (name, known) in name::MAPS.iter().map(|name| (name, version(name))) {
            let stem = format!("map_{}_v", name.to_lowercase());
            let number = found.name.strip_prefix(&stem).and_then(|number| number.parse::<u32>().ok());
            if let Some(newer) = number.filter(|number| *number > known) {
                bail!(
                    "{} is {name} in layout {newer}, this build knows layouts up to {known}: a newer build runs this \
                     host. Start that one again; or take the host out of service, run its `foreweave-agent \
                     uninstall`, and enrol it anew with this one. Nothing was touched",
                    found.path.display()
                );
            }
        }
    }
    Ok(())
}

/// What stands at a former pin is one of our maps or the marker, or it is not ours to replace.
///
/// # Errors
/// Names the pin that is not ours, and what to do.
pub(crate) fn refuse_foreign(pins: &Path) -> Result<()> {
    for (name, _) in VERSIONS {
        let path = first_pin(pins, name);
        if !path.exists() {
            continue;
        }
        let advice = "remove it, or set another directory as `pins`";
        let info = MapInfo::from_pin(&path)
            .map_err(|error| anyhow!("{} cannot be opened as a map ({error}); {advice}", path.display()))?;
        let found = info.name_as_str().unwrap_or_default();
        if found != *name && found != UPGRADED {
            bail!("{} holds \"{found}\", which is not a map of the fabric; {advice}", path.display());
        }
    }
    Ok(())
}

/// Maps to be filled from former pins, which are loaded under [`Upgrade::pin`] until they are.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pins: PathBuf,
    /// With the former pin.
    moving: Vec<(&'static str, PathBuf)>,
}

impl Upgrade {
    /// Looks which maps have a former pin and no finished new one.
    ///
    /// # Errors
    /// When a leftover cannot be removed.
    pub(crate) fn of(pins: &Path) -> Result<Self> {
        let mut moving = Vec::new();
        for (name, _) in VERSIONS {
            let leftover = unfinished(pins, name);
            if leftover.exists() {
                std::fs::remove_file(&leftover).with_context(|| leftover.display().to_string())?;
            }
            moving.extend(former(pins, name).map(|former| (*name, former)));
        }
        Ok(Self { pins: pins.to_owned(), moving })
    }

    /// Where the loader shall pin a map.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        let moves = self.moving.iter().any(|(moving, _)| *moving == name);
        if moves { unfinished(&self.pins, name) } else { pin(&self.pins, name) }
    }

    /// Fills the new maps and gives them their names.
    ///
    /// # Errors
    /// What the kernel refused; the former pins are as they were.
    pub(crate) fn finish(&self) -> Result<()> {
        for (name, from) in &self.moving {
            let (new, to) = (self.pin(name), pin(&self.pins, name));
            let moved = match *name {
                "FLOWS" => flows(from, &new)?,
                "LABELS" => labels(from, &new)?,
                other => bail!("nothing is known of former layouts of {other}; this is a bug"),
            };
            std::fs::rename(&new, &to).with_context(|| format!("naming {}", to.display()))?;
            info!(map = name, entries = moved, pin = %to.display(), "carried over from a former layout");
        }
        Ok(())
    }
}

fn flows(from: &Path, into: &Path) -> Result<usize> {
    let mut new: Table<FlowKey, Flow> = open(into)?;
    let info = MapInfo::from_pin(from).map_err(|error| anyhow!("{}: {error}", from.display()))?;
    let mut moved = 0;
    match info.value_size() as usize {
        size if size == size_of::<Flow1>() => {
            let old: Table<FlowKey, Flow1> = open(from)?;
            for row in old.rows() {
                let (key, value) = row?;
                new.put(&key, &migrate::flow(&value))?;
                moved += 1;
            }
        }
        // Layout 2, and builds before it that had its size: zeroes where the class is now.
        size if size == size_of::<Flow>() => {
            let old: Table<FlowKey, Flow> = open(from)?;
            for row in old.rows() {
                let (key, value) = row?;
                new.put(&key, &value)?;
                moved += 1;
            }
        }
        size => unknown(from, size),
    }
    Ok(moved)
}

fn unknown(from: &Path, size: usize) {
    warn!(pin = %from.display(), size, "of no known layout; the controller's desired state fills it anew");
}

/// Layout 1 has zeroes where the class is now.
fn labels(from: &Path, into: &Path) -> Result<usize> {
    let info = MapInfo::from_pin(from).map_err(|error| anyhow!("{}: {error}", from.display()))?;
    let size = info.value_size() as usize;
    if size != size_of::<LabelEntry>() {
        unknown(from, size);
        return Ok(0);
    }
    let (old, mut new) = (slots(from)?, slots(into)?);
    let mut moved = 0;
    for index in 0..old.len().min(new.len()) {
        let entry: LabelEntry = old.get(index)?;
        if entry.label != 0 {
            new.put(index, &entry)?;
            moved += 1;
        }
    }
    Ok(moved)
}

fn slots(path: &Path) -> Result<Slots<LabelEntry>> {
    let data = MapData::from_pin(path).with_context(|| path.display().to_string())?;
    Slots::new(Map::Array(data)).with_context(|| path.display().to_string())
}

fn open<K: super::maps::Row, V: super::maps::Row>(path: &Path) -> Result<Table<K, V>> {
    let data = MapData::from_pin(path).with_context(|| path.display().to_string())?;
    Table::new(Map::HashMap(data)).with_context(|| path.display().to_string())
}

/// Builds that know only layout 1 look at its pin before they touch anything, and stop at a map of another name. So the
/// former pin of each map that moved is taken by one whose name says what happened.
///
/// # Errors
/// When it cannot be pinned.
pub(crate) fn mark(ebpf: &mut Ebpf, pins: &Path) -> Result<()> {
    let marker = ebpf.take_map(UPGRADED).ok_or_else(|| anyhow!("the data plane has no map {UPGRADED}"))?;
    for (name, _) in VERSIONS {
        let former = first_pin(pins, name);
        if is_marker(&former) {
            continue;
        }
        let new = pins.join(format!("map_{}_mark", name.to_lowercase()));
        if new.exists() {
            std::fs::remove_file(&new).with_context(|| new.display().to_string())?;
        }
        marker.pin(&new).map_err(|error| anyhow!("pinning {}: {error}", new.display()))?;
        std::fs::rename(&new, &former).with_context(|| format!("naming {}", former.display()))?;
    }
    Ok(())
}

/// Former pins stay where they are, for they are markers by now.
pub(crate) fn is_marked(pins: &Path, path: &Path) -> bool {
    VERSIONS.iter().any(|(name, _)| first_pin(pins, name) == path)
}

fn is_marker(path: &Path) -> bool {
    MapInfo::from_pin(path).is_ok_and(|info| info.name_as_str() == Some(UPGRADED))
}
