//! What is in the kernel and on disk, to compare before and after: an absence is proved by two equal snapshots.
use super::namespace;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Lines by kind; equal snapshots have equal lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeMap<String, Vec<String>>,
}

/// What is looked at inside a network namespace, by `ip`.
const NETWORK: [(&str, &str); 7] = [
    ("links", "-o link show"),
    ("IPv4 addresses", "-o -4 address show"),
    ("IPv6 addresses", "-o -6 address show"),
    ("IPv4 routes", "-4 route show table all"),
    ("IPv6 routes", "-6 route show table all"),
    ("IPv4 rules", "-4 rule show"),
    ("IPv6 rules", "-6 rule show"),
];

impl Snapshot {
    /// The machine: its own network, namespaces, BPF objects, pins, processes and files of labs and agents.
    pub fn of_machine() -> Result<Self> {
        let mut taken = Self::default();
        for (kind, words) in NETWORK {
            taken.put(kind, ip(None, words)?);
        }
        taken.put("namespaces", namespace::list(""));
        for kind in ["prog", "map", "link"] {
            taken.put(&format!("BPF {kind}s"), bpf(kind)?);
        }
        taken.put("pins", files(Path::new("/sys/fs/bpf")));
        taken.put("lab files", files(Path::new("/run/foreweave-lab")));
        taken.put("processes", processes());
        Ok(taken)
    }

    /// The network of one namespace.
    pub fn of_namespace(name: &str) -> Result<Self> {
        let mut taken = Self::default();
        for (kind, words) in NETWORK {
            taken.put(kind, ip(Some(name), words)?);
        }
        Ok(taken)
    }

    /// Leaves out what other labs and programs own, which may come and go meanwhile; the lab's BPF objects are looked
    /// for by their numbers, see [`Owned`].
    pub fn concerning(mut self, lab: &str) -> Self {
        self.lines.retain(|kind, _| !kind.starts_with("BPF"));
        for kind in ["namespaces", "pins", "lab files", "processes"] {
            if let Some(lines) = self.lines.get_mut(kind) {
                lines.retain(|line| line.contains(lab));
            }
        }
        self
    }

    fn put(&mut self, kind: &str, mut lines: Vec<String>) {
        lines.sort();
        self.lines.insert(kind.to_owned(), lines);
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> Vec<(&str, usize)> {
        self.lines.iter().map(|(kind, lines)| (kind.as_str(), lines.len())).collect()
    }

    /// What is in one and not in the other, as `+` and `-` lines; empty: nothing was left, nothing was taken.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in self.lines.keys().chain(after.lines.keys().filter(|kind| !self.lines.contains_key(*kind)))
        {
            let none = Vec::new();
            let before = self.lines.get(kind).unwrap_or(&none);
            let now = after.lines.get(kind).unwrap_or(&none);
            found.extend(surplus(before, now).map(|line| format!("{kind}: - {line}")));
            found.extend(surplus(now, before).map(|line| format!("{kind}: + {line}")));
        }
        found
    }
}

/// Lines that occur more often in `these` than in `others`.
fn surplus<'a>(these: &'a [String], others: &'a [String]) -> impl Iterator<Item = &'a String> {
    let count = |lines: &[String], line: &String| lines.iter().filter(|other| *other == line).count();
    let mut last = None;
    these.iter().filter(move |line| {
        let first = last.replace(*line) != Some(*line);
        first && count(these, line) > count(others, line)
    })
}

fn ip(inside: Option<&str>, words: &str) -> Result<Vec<String>> {
    let mut command = match inside {
        Some(name) => namespace::command(name, "ip")?,
        None => Command::new("ip"),
    };
    let output = command.args(words.split(' ')).output().context("ip did not start")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // IPv6 shows the remaining lifetime of some addresses and routes: that is not a change.
    let lasting = |line: &str| {
        let words = line.split_whitespace();
        words
            .filter(|word| !word.ends_with("sec") && !word.starts_with("users"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    Ok(text.lines().map(lasting).collect())
}

/// Kinds and names of the kernel's BPF objects, without their numbers.
fn bpf(kind: &str) -> Result<Vec<String>> {
    let word = |object: &Value, key: &str| object[key].as_str().unwrap_or("-").to_owned();
    Ok(objects(kind)?
        .iter()
        .map(|object| format!("{} {}", word(object, "type"), word(object, "name")))
        .collect())
}

/// As bpftool tells them, with their pins.
fn objects(kind: &str) -> Result<Vec<Value>> {
    let output =
        Command::new("bpftool").args(["-j", "-f", kind, "show"]).output().context("bpftool did not start")?;
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// The BPF objects of a lab, by kind and number; a number is not given twice before all others were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned(BTreeSet<(&'static str, u64)>);

impl Owned {
    /// Those of all agents of a lab.
    pub fn by(lab: &str) -> Result<Self> {
        Self::pinned_under(&format!("/sys/fs/bpf/fwl-{lab}-"))
    }

    /// Those of one agent, by the folder of its pins.
    pub fn by_agent(pins: &Path) -> Result<Self> {
        Self::pinned_under(&format!("{}/", pins.display()))
    }

    /// Maps and links by their pins, programs by their links.
    fn pinned_under(prefix: &str) -> Result<Self> {
        let mut owned = BTreeSet::new();
        let ours = |object: &Value| {
            let pins = object["pinned"].as_array().into_iter().flatten();
            pins.filter_map(Value::as_str).any(|pin| pin.starts_with(prefix))
        };
        for kind in ["map", "link"] {
            for object in objects(kind)?.iter().filter(|object| ours(object)) {
                owned.extend(object["id"].as_u64().map(|id| (kind, id)));
                owned.extend(object["prog_id"].as_u64().map(|id| ("prog", id)));
            }
        }
        Ok(Self(owned))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that the kernel still has.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for kind in ["map", "link", "prog"] {
            let there: BTreeSet<u64> =
                objects(kind)?.iter().filter_map(|object| object["id"].as_u64()).collect();
            let ours = self.0.iter().filter(|(own, id)| *own == kind && there.contains(id));
            left.extend(ours.map(|(kind, id)| format!("BPF {kind} {id}")));
        }
        Ok(left)
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        }
    }
    found
}

/// Command lines of our running programs.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    let words = lines.map(|line| line.trim_end_matches('\0').replace('\0', " "));
    words
        .filter(|line| line.split(' ').next().is_some_and(|program| program.contains("foreweave-")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Snapshot {
        let mut taken = Snapshot::default();
        taken.put("links", lines.iter().map(|line| (*line).to_owned()).collect());
        taken
    }

    #[test]
    fn what_is_left_and_what_is_taken_is_told() {
        assert_eq!(of(&["lo", "eth0"]).differences(&of(&["eth0", "lo"])), Vec::<String>::new());
        assert_eq!(of(&["lo"]).differences(&of(&["lo", "fw01"])), ["links: + fw01"]);
        assert_eq!(of(&["lo", "eth0"]).differences(&of(&["lo"])), ["links: - eth0"]);
    }

    #[test]
    fn a_second_object_of_the_same_name_is_a_difference() {
        assert_eq!(
            of(&["hash FLOWS"]).differences(&of(&["hash FLOWS", "hash FLOWS"])),
            ["links: + hash FLOWS"]
        );
    }
}
