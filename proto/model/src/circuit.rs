//! A dedicated path between two resources, and what becomes of it.
use crate::desired::Side;
use crate::intent::Bounds;
use crate::rule::Rule;
use crate::topology::LinkId;
use crate::{CircuitId, CircuitName, NodeName, ResourceId, Timestamp};
use serde::{Deserialize, Serialize};

/// The hosts that a circuit crosses, from its source's to its destination's, and the links between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path {
    /// At least one; a single host means that both resources run there.
    pub nodes: Vec<NodeName>,
    /// One fewer than `nodes`.
    pub links: Vec<LinkId>,
}

impl Path {
    pub fn hops(&self) -> usize {
        self.links.len()
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, node) in self.nodes.iter().enumerate() {
            let arrow = if i == 0 { "" } else { " → " };
            write!(f, "{arrow}{node}")?;
        }
        Ok(())
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitSpec {
    /// Default: `SOURCE-DESTINATION`.
    pub name: CircuitName,
    pub source: ResourceId,
    pub destination: ResourceId,
    pub bounds: Bounds,
    /// 0 (least) to 255.
    pub priority: u8,
    /// The hosts to cross, when the caller does not leave the choice to the controller.
    pub pinned_path: Option<Vec<NodeName>>,
    /// When it ends: the hosts of its ends close it by their own clocks, the controller deletes it. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// From when on it is wanted; its bandwidth is promised for the time from then to its end. None: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Timestamp>,
}

/// Where a circuit is in its life. It leaves `Closing` by vanishing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CircuitState {
    /// Path chosen, bandwidth reserved; waiting for these hosts to report. No packet can enter yet.
    Building {
        waiting: Vec<NodeName>,
    },
    /// Every hop is in place; waiting for the two ends to open the gate.
    Opening {
        waiting: Vec<NodeName>,
    },
    Active,
    /// One end or a host is gone or a host could not build it; nothing is reserved; it is tried again when that changes.
    Suspended {
        why: String,
    },
    /// Being taken down; waiting for these hosts to report.
    Closing {
        waiting: Vec<NodeName>,
    },
    /// Its time has not come: no host knows of it, and its bandwidth is promised for that time.
    Scheduled,
}

impl CircuitState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Building { .. } => "building",
            Self::Opening { .. } => "opening",
            Self::Active => "active",
            Self::Suspended { .. } => "suspended",
            Self::Closing { .. } => "closing",
            Self::Scheduled => "scheduled",
        }
    }
}

/// A circuit as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    pub id: CircuitId,
    pub spec: CircuitSpec,
    pub state: CircuitState,
    /// None while suspended; while scheduled that which its bandwidth is promised on.
    pub path: Option<Path>,
    /// The second way, disjoint from the first where the topology allows; its ends turn to it by themselves.
    #[serde(default)]
    pub backup: Option<Path>,
    /// Its hosts have reported it, so the ends know it; until then the circuit is not protected.
    #[serde(default)]
    pub backup_ready: bool,
    /// Ends that send by the backup now.
    #[serde(default)]
    pub on_backup: Vec<Side>,
    /// Why there is no backup, what it shares with the path, or why an end sends by it; empty: nothing to say.
    #[serde(default)]
    pub protection: String,
    /// Where its bandwidth is guaranteed, and where it is only accounted; empty: nothing is reserved.
    #[serde(default)]
    pub guarantee: String,
    /// Why its packets hardly arrive: every way that it has crosses a link that answers no probe, with the links and the
    /// times. Empty: one of its ways answers, or nothing is placed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub silence: String,
    /// When it left another path for this one because this one was better, and by which numbers. Empty: it did not, since
    /// this controller began.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub moved: String,
    /// Bytes of an IP packet that fit through.
    pub mtu: Option<u16>,
    pub rules: Vec<Rule>,
    pub rules_version: u32,
    /// The rules are taken back then, unless they are confirmed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by: Option<Timestamp>,
    pub created: Timestamp,
    /// When `state` was entered.
    pub since: Timestamp,
    /// One end is a plain VXLAN device without an agent: the commands that set it up there. Empty: both have agents, or
    /// nothing is placed.
    #[serde(default)]
    pub external: Vec<String>,
    /// Why it is in that state or what troubles it, for people: an object that a host cannot build. Empty: nothing.
    #[serde(default)]
    pub detail: String,
}
