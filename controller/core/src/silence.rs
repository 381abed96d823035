//! Says when a circuit's packets hardly arrive: each of its ways crosses a link that answers no probe.
use crate::circuit::Circuit;
use crate::topology::{Family, Topology};
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use proto_model::{CircuitId, NodeName, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Since when no probe over a link is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It used to answer; the time of its last answer.
    Since(Timestamp),
    /// No answer was heard in this life of the controller; the time of the first report.
    Ever(Timestamp),
}

impl Silence {
    /// Of a link by its name.
    pub fn of(self, link: &LinkId) -> String {
        let (a, b) = link.ends();
        let (Self::Since(at) | Self::Ever(at)) = self;
        let link = format!("the link {a}–{b} ({})", link.network());
        match self {
            Self::Since(_) => format!("{link} has answered no probe since {at}"),
            Self::Ever(_) => format!(
                "{link} has answered no probe since this controller first heard of it at {at}; it is cut, or \
                 something keeps its probes (UDP port 862)"
            ),
        }
    }
}

/// Which of a circuit's ways answer no probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    pub path: bool,
    /// There is one, the ends know it, and it is silent.
    pub backup: bool,
    /// There is no way left that answers.
    pub all: bool,
}

/// Silent ways of all circuits that have one.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    known: BTreeMap<CircuitId, Silent>,
    /// Of these, circuits without a way that answers.
    pub all: usize,
}

impl Silences {
    pub fn get(&self, id: CircuitId) -> Silent {
        self.known.get(&id).copied().unwrap_or_default()
    }

    pub fn set(&mut self, id: CircuitId, silent: Silent) {
        let before = match silent.path || silent.backup {
            true => self.known.insert(id, silent),
            false => self.known.remove(&id),
        };
        self.all -= usize::from(before.is_some_and(|before| before.all));
        self.all += usize::from(silent.all);
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The first link of a path that answers no probe.
fn first(path: &Path, topology: &Topology) -> Option<String> {
    path.links.iter().find_map(|id| Some(topology.link(id)?.silence?.of(id)))
}

/// The first silent link of each way of a placed circuit.
struct Ways {
    path: Option<String>,
    /// The ends know a second way.
    protected: bool,
    backup: Option<String>,
}

fn ways(circuit: &Circuit, topology: &Topology) -> Option<Ways> {
    let route = circuit.phase.route()?;
    let backup = route.backup.as_ref().filter(|backup| backup.ready);
    Some(Ways {
        path: first(&route.path, topology),
        protected: backup.is_some(),
        backup: backup.and_then(|backup| first(&backup.lane.path, topology)),
    })
}

pub fn of(circuit: &Circuit, topology: &Topology) -> Silent {
    let Some(ways) = ways(circuit, topology) else { return Silent::default() };
    let (path, backup) = (ways.path.is_some(), ways.backup.is_some());
    Silent { path, backup, all: path && (backup || !ways.protected) }
}

/// Two sentences, each empty when there is nothing to say: that no way of the circuit answers; that its backup does not.
pub fn text(circuit: &Circuit, topology: &Topology) -> (String, String) {
    let none = String::new;
    let Some(ways) = ways(circuit, topology) else { return (none(), none()) };
    match (ways.path, ways.backup) {
        (Some(path), Some(backup)) => (format!("both its ways are silent: {path}; and {backup}"), none()),
        (Some(path), None) if !ways.protected => (format!("its path is silent: {path}"), none()),
        (None, Some(backup)) => (none(), format!("the backup is silent: {backup}")),
        (Some(_) | None, None) => (none(), none()),
    }
}

/// What is to be said of a path before something is placed on it.
pub fn warning(path: &Path, topology: &Topology) -> Option<String> {
    first(path, topology).map(|why| format!("{path} is silent: {why}"))
}

/// The link over which a host of these paths sends from one address to another, if it answers no probe.
pub fn between(
    paths: &[&Path],
    sender: &NodeName,
    (local, remote): (IpAddr, IpAddr),
    topology: &Topology,
) -> Option<(Silence, String)> {
    let links = paths.iter().flat_map(|path| &path.links).filter_map(|id| topology.link(id));
    let mut used = links.filter(|link| link.id.other(sender).is_some()).filter(|link| {
        [Family::V4, Family::V6].iter().any(|family| link.addresses(sender, *family) == Some((local, remote)))
    });
    used.find_map(|link| Some((link.silence?, link.silence?.of(&link.id))))
}
