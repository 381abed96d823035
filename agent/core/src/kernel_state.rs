//! What a host's kernel has, or shall have, for the fabric: entries by key, the same type for `want` and `have`.
//!
//! Entries speak of interfaces by name; the interpreter in the daemon turns names into the kernel's indexes.
use arrayvec::ArrayString;
use ebpf_abi::{Address, Direction, Mac};
use proto_model::resource::Attachment;
use proto_model::{FabricAddress, SealKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All of it.
pub type KernelState = BTreeMap<EntryKey, Entry>;

/// Name of the host side of an ENI: `fw` and the resource's fabric IPv4 address in hexadecimal (`fw64400001`), so
/// that it is known before the interface exists and is the same after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostSide(ArrayString<LONGEST>);

/// Bytes of an interface's name at most (`IFNAMSIZ`, without the zero at its end).
const LONGEST: usize = 15;

impl HostSide {
    pub fn of(address: &FabricAddress) -> Self {
        Self::named(&format!("fw{:08x}", address.v4.to_bits()))
    }

    /// An interface that is there. No kernel has longer names than are kept of it.
    pub fn named(name: &str) -> Self {
        let end = name.floor_char_boundary(LONGEST);
        let mut kept = ArrayString::new();
        kept.push_str(&name[..end]);
        Self(kept)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The order of the variants is the order in which entries are made; they are removed in the opposite one. So nothing
/// ever points to what is not there, and a flow (the open gate) comes last and goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKey {
    /// Slot in `NEXT_HOPS`.
    NextHop(u32),
    /// Root queue of an underlay interface, by name.
    Shaper(String),
    Eni(HostSide),
    /// Circuit number.
    Rules(u64),
    /// Circuit number.
    Seal(u64),
    /// Slot in `METERS`.
    Meter(u16),
    /// A circuit's class in the queues of an interface, by its number.
    Class(String, u16),
    /// Index in `LABELS`.
    Label(u32),
    /// Neighbour's underlay address and session, in `PEERS`.
    Peer(IpAddr, u16),
    /// Circuit number, in `TRACED`.
    Trace(u64),
    /// A route (one per address family) in the ENI's namespace.
    Route(HostSide, FabricAddress),
    Flow(HostSide, IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    NextHop(NextHop),
    Shaper(Shaper),
    Eni(Eni),
    Rules(Rules),
    Seal(Seal),
    Meter(Meter),
    Class(Class),
    Label(Label),
    Peer(Peer),
    Trace(Trace),
    Route(Route),
    Flow(Flow),
}

/// A neighbour whose link probes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub remote: IpAddr,
    pub session: u16,
}

/// A circuit whose packets are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub circuit: u64,
    pub until: Timestamp,
    pub protocol: Option<u8>,
    pub port: Option<u16>,
    pub snaplen: u16,
}

/// A slot of `NEXT_HOPS`. The interpreter writes it with the link-layer addresses that it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    pub slot: u32,
    pub local: IpAddr,
    pub remote: IpAddr,
    /// None: the kernel shall resolve the neighbour for each packet (slower; transit by tcx only).
    pub link: Option<LinkLayer>,
}

/// Where the neighbour towards a next hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLayer {
    pub ifindex: u32,
    pub source: Mac,
    pub neighbour: Mac,
    /// Bytes of the longest frame, Ethernet header included, that XDP may put out there; 0: none, transit is by tcx.
    #[serde(default)]
    pub longest: u16,
}

/// The queues of an underlay interface that its owner lets the agent shape: HTB, with a class for what has no class of
/// its own and one for probes. Never put in the place of a queue that somebody configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaper {
    pub interface: String,
    /// Of all together, bits per second: a multiple of 8, as the kernel counts bytes.
    pub rate: u64,
    /// Of what has no class of its own, at least; it may use what the others leave.
    pub rest: u64,
}

/// What a circuit always gets in one direction, at this interface; it may use what others leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    pub interface: String,
    pub number: u16,
    /// Bits per second, a multiple of 8.
    pub rate: u64,
    /// With what others leave: the interface's, in the same unit.
    pub ceil: u64,
}

/// A slot of `METERS`: what a circuit end may send at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    pub slot: u16,
    /// Bits per second.
    pub rate: u64,
}

/// A veth pair: the host side here, with `eni_ingress` on it; the inner side where the workload is, without ARP, with
/// both fabric addresses (/32 and /128), up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    pub host: HostSide,
    /// Resource id; kept in the host side's alias (`foreweave:RESOURCE`), which marks the interface as ours.
    pub resource: String,
    pub attachment: Attachment,
    /// Name of the inner side.
    pub interface: String,
    pub address: FabricAddress,
    pub mtu: u16,
}

/// Rows of `RULES` and the `RULESETS` value that puts them in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    pub circuit: u64,
    pub version: u32,
    /// First row; allocated by the core.
    pub start: u32,
    pub rows: Vec<Row>,
}

/// One row, as in [`ebpf_abi::rules::RuleRow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub source: Address,
    pub source_mask: Address,
    pub destination: Address,
    pub destination_mask: Address,
    pub id: u32,
    pub port_from: u16,
    pub port_to: u16,
    pub protocol: u16,
    pub directions: u8,
    pub allow: bool,
    pub family: u8,
}

/// A row of `SEALS`: an end of a circuit here encrypts for the holder of these keys, and decrypts what comes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub circuit: u64,
    /// The newest first; 1 or 2.
    pub keys: Vec<SealKey>,
    /// Index of this end's first receive label.
    pub slot: u32,
    /// Bytes of the longest packet of the circuit.
    pub mtu: u16,
}

/// A slot of `LABELS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The whole label; its index is the key.
    pub label: u32,
    pub circuit: u64,
    /// Of packets that arrive under it.
    #[serde(with = "direction")]
    pub direction: Direction,
    pub from: IpAddr,
    pub to: IpAddr,
    /// Transit: see [`ebpf_abi::share`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub class: u16,
    pub action: LabelAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelAction {
    /// Swap and send on.
    Transit { next_hop: u32, out_label: u32 },
    /// Decapsulate into this ENI; inner addresses must be these. Probes are answered by the way `back`.
    /// `mtu`: see [`Flow::mtu`].
    /// Of a sealed circuit, only what the agent decrypts is delivered.
    Deliver {
        eni: HostSide,
        local: FabricAddress,
        remote: FabricAddress,
        back: Back,
        #[serde(default)]
        mtu: u16,
        #[serde(default)]
        sealed: bool,
    },
}

/// The way on which answers to probes go: of the same path as the label under which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    pub next_hop: u32,
    pub label: u32,
}

/// Routes to `to` in the namespace of an ENI, out of its inner side: a /32 and a /128, with the fabric's own mark
/// ([`ROUTE_PROTOCOL`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub host: HostSide,
    pub to: FabricAddress,
    /// Bytes of the longest IP packet, where the circuit carries less than the interface; 0: as the interface.
    #[serde(default)]
    pub mtu: u16,
}

/// `rtm_protocol` of every route that the fabric makes (see `/etc/iproute2/rt_protos`; 187 is unassigned).
pub const ROUTE_PROTOCOL: u8 = 187;

/// An entry of `FLOWS`: the open gate of one circuit end in one address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The ENI that the packets come from.
    pub host: HostSide,
    pub circuit: u64,
    /// The only source address allowed.
    pub local: IpAddr,
    pub remote: IpAddr,
    /// MAC of the far ENI, and of its host side.
    pub mac: Mac,
    pub gateway: Mac,
    /// Index of this end's receive label: the slot of its counters.
    pub slot: u32,
    #[serde(with = "direction")]
    pub direction: Direction,
    /// Bytes of the longest IP packet that either way carries; 0: not known.
    #[serde(default)]
    pub mtu: u16,
    /// See [`ebpf_abi::share`]; 0: neither bandwidth nor limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub class: u16,
    pub target: Target,
    /// The agent encrypts the packets before they go to the next hop.
    #[serde(default)]
    pub sealed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Encapsulate under this label; or under the backup's, while its group says so.
    NextHop { slot: u32, label: u32, backup: Option<Backup> },
    /// The other end is on this host.
    Eni(HostSide),
}

/// The second way of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub slot: u32,
    pub label: u32,
    /// Slot in `GROUPS`, which only the protector writes.
    pub group: u32,
}

impl Entry {
    pub fn key(&self) -> EntryKey {
        match self {
            Self::NextHop(hop) => EntryKey::NextHop(hop.slot),
            Self::Shaper(shaper) => EntryKey::Shaper(shaper.interface.clone()),
            Self::Meter(meter) => EntryKey::Meter(meter.slot),
            Self::Class(class) => EntryKey::Class(class.interface.clone(), class.number),
            Self::Eni(eni) => EntryKey::Eni(eni.host),
            Self::Rules(rules) => EntryKey::Rules(rules.circuit),
            Self::Seal(seal) => EntryKey::Seal(seal.circuit),
            Self::Label(label) => EntryKey::Label(ebpf_abi::label::index(label.label)),
            Self::Peer(peer) => EntryKey::Peer(peer.remote, peer.session),
            Self::Trace(trace) => EntryKey::Trace(trace.circuit),
            Self::Route(route) => EntryKey::Route(route.host, route.to),
            Self::Flow(flow) => EntryKey::Flow(flow.host, flow.remote),
        }
    }
}

/// One change of the kernel. Performing it twice is the same as once; `Put` of a present entry with other content
/// changes it in place where the kernel can, and otherwise makes it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Put(Entry),
    Remove(EntryKey),
}

impl Step {
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Put(entry) => entry.key(),
            Self::Remove(key) => key.clone(),
        }
    }
}

/// A kernel that performs steps: the real one in the daemon, the pretended one of the simulator. Both pass the same
/// contract suite (`tests_sim::contract`).
pub trait Kernel {
    /// # Errors
    /// What the kernel refused and why, as a sentence. Nothing half-done remains.
    fn perform(&mut self, step: &Step) -> Result<(), String>;

    /// Interfaces that steps made anew since this was last asked while something may have referred to the former ones:
    /// routes, labels and flows that went with them.
    fn made_anew(&mut self) -> Vec<HostSide>;

    /// What is there and carries the fabric's mark.
    ///
    /// # Errors
    /// What could not be read, and why.
    fn observe(&mut self) -> Result<KernelState, String>;
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A [`Direction`] as its byte.
mod direction {
    use ebpf_abi::Direction;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(direction: &Direction, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*direction as u8)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Direction, D::Error> {
        u8::deserialize(from).map(Direction::of)
    }
}

/// A state as the list of its entries, whose keys follow from them; so that a recording can be text.
pub(crate) mod as_list {
    use super::{Entry, KernelState};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(state: &KernelState, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(state.values())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KernelState, D::Error> {
        let entries: Vec<Entry> = Vec::deserialize(from)?;
        Ok(entries.into_iter().map(|entry| (entry.key(), entry)).collect())
    }
}
