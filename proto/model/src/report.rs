//! What an agent says back.
use crate::desired::{ObjectKey, Side};
use crate::query::{Answer, QueryId};
use crate::topology::{LinkId, Measured, Underlay};
use crate::trace::Traced;
use crate::{CircuitId, Generation, SealKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// First words of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent's build.
    pub version: String,
    /// Release of its kernel.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`: changes when the host reboots.
    pub boot: String,
    pub underlays: Vec<Underlay>,
    /// How transit packets are handled, per interface, and why: "eth0: xdp (native)", "veth1: tcx (…)".
    pub datapath: Vec<String>,
    /// Public halves of its encryption keys, the newest first; at most [`crate::seal::KEYS`]. Empty: it cannot encrypt.
    #[serde(default)]
    pub seal_keys: Vec<SealKey>,
}

/// The kernel was brought to `generation`, except for what failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub generation: Generation,
    /// Whether `failed` names every failure (first report of a session) or only what changed since the last report.
    pub whole: bool,
    pub failed: Vec<Failure>,
    /// Objects that had failed and now are as desired.
    pub recovered: Vec<ObjectKey>,
}

/// An object that is not as desired. The agent keeps trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub key: ObjectKey,
    pub why: String,
}

/// Counters of one circuit at one node, since the circuit was built there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
}

/// How often packets of one circuit were dropped for one reason by one rule, since the agent's maps were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// None when the packets belong to no circuit.
    pub circuit: Option<CircuitId>,
    /// Name of the reason, e.g. `denied_by_rule`.
    pub reason: String,
    /// Rule id; 0: the default deny, or not the firewall.
    pub rule: u32,
    pub packets: u64,
    pub bytes: u64,
}

/// What an underlay interface sent and received since it was made, as the host's kernel counts it: whatever used it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// As in [`Underlay::interface`].
    pub interface: String,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// What is sent every few seconds: only circuits and drops whose counters moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// When all of it was counted, by the agent's clock, which is never set.
    #[serde(default)]
    pub counted: Timestamp,
    pub traffic: Vec<(CircuitId, Traffic)>,
    pub drops: Vec<DropCount>,
    /// Links whose far end answered, or was asked and did not.
    pub links: Vec<(LinkId, Measured)>,
    /// All underlay interfaces, whether they carried something or not; at most 64.
    #[serde(default)]
    pub interfaces: Vec<Carried>,
}

/// Which of its two ways an end of a protected circuit sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Way {
    #[default]
    Primary,
    Backup,
}

/// An end of a circuit sends another way now; the agent decided it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub circuit: CircuitId,
    pub side: Side,
    pub to: Way,
    /// For people: what was measured, and what is allowed.
    pub why: String,
    pub at: Timestamp,
}

/// One dropped packet, sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropEvent {
    pub at: Timestamp,
    pub circuit: Option<CircuitId>,
    pub reason: String,
    /// The reason as a sentence.
    pub text: String,
    pub rule: u32,
    pub interface: String,
    /// None when the packet could not be read that far.
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// IP protocol number; 0 when unknown.
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes of the frame.
    pub length: u32,
    /// VNI for packets from the underlay.
    pub label: Option<u32>,
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    Hello(Hello),
    Report(Report),
    /// A gap in the generations: tell me the whole.
    AskWhole,
    Telemetry(Telemetry),
    Drops(Vec<DropEvent>),
    /// At most 4096 in one word; after a session began, every end that sends by its backup is told again.
    Switched(Vec<Switch>),
    /// To [`crate::desired::Tell::Ask`] of this session.
    Answer {
        query: QueryId,
        answer: Answer,
    },
    /// Packets of circuits that are traced; at most 4096 in one word.
    Traced(Vec<Traced>),
}
