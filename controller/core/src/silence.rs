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

/// What is to be said of a circuit, each sentence empty when there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    /// No way of it answers any longer.
    pub dead: String,
    /// Its backup does not, or one of its links was never heard.
    pub remark: String,
}

/// Of all circuits of which there is something to say.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    known: BTreeMap<CircuitId, Silent>,
    /// Of these, circuits without a way that answers.
    pub all: usize,
}

impl Silences {
    pub fn get(&self, id: CircuitId) -> Silent {
        self.known.get(&id).cloned().unwrap_or_default()
    }

    pub fn set(&mut self, id: CircuitId, silent: Silent) {
        let is_dead = |silent: &Silent| !silent.dead.is_empty();
        let dead = is_dead(&silent);
        let before = match silent == Silent::default() {
            true => self.known.remove(&id),
            false => self.known.insert(id, silent),
        };
        self.all -= usize::from(before.as_ref().is_some_and(is_dead));
        self.all += usize::from(dead);
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The first link of a path that answers no probe any longer.
fn first(path: &Path, topology: &Topology) -> Option<String> {
    path.links.iter().find_map(|id| match topology.link(id)?.silence? {
        silence @ Silence::Since(_) => Some(silence.of(id)),
        Silence::Ever(_) => None,
    })
}

/// The first link of a path of which nothing was ever heard: its probes alone may be kept from it.
fn unheard(path: &Path, topology: &Topology) -> Option<String> {
    path.links.iter().find_map(|id| match topology.link(id)?.silence? {
        silence @ Silence::Ever(_) => Some(silence.of(id)),
        Silence::Since(_) => None,
    })
}

pub fn of(circuit: &Circuit, topology: &Topology) -> Silent {
    let Some(route) = circuit.phase.route() else { return Silent::default() };
    let backup = route.backup.as_ref().filter(|backup| backup.ready).map(|backup| &backup.lane.path);
    let silent = (first(&route.path, topology), backup.and_then(|path| first(path, topology)));
    let (dead, remark) = match silent {
        (Some(path), Some(backup)) => (Some(format!("both its ways are silent: {path}; and {backup}")), None),
        (Some(path), None) if backup.is_none() => (Some(format!("its path is silent: {path}")), None),
        (None, Some(backup)) => (None, Some(format!("the backup is silent: {backup}"))),
        (Some(_) | None, None) => (None, None),
    };
    let unheard = [Some(&route.path), backup].into_iter().flatten().find_map(|path| unheard(path, topology));
    let remarks: Vec<_> = remark.into_iter().chain(unheard).collect();
    Silent { dead: dead.unwrap_or_default(), remark: remarks.join("; ") }
}

/// What is to be said of a path before something is placed on it.
pub fn warning(path: &Path, topology: &Topology) -> Option<String> {
    let silent = first(path, topology).map(|why| format!("{path} is silent: {why}"));
    silent.or_else(|| unheard(path, topology))
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
