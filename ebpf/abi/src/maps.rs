//! The maps by name: what each holds, its bound, what happens at the bound, and its one writer.
//!
//! | map | kind | key → value | writer | at its bound |
//! | --- | --- | --- | --- | --- |
//! | `FLOWS` | hash | [`FlowKey`](crate::flow::FlowKey) → [`Flow`](crate::flow::Flow) | agent | the object fails, by name and number |
//! | `NEXT_HOPS` | array | slot → [`NextHop`](crate::flow::NextHop) | agent | the object fails |
//! | `LABELS` | array | label index → [`LabelEntry`](crate::label::LabelEntry) | agent | the controller has no label left and refuses |
//! | `RULESETS` | hash | circuit → [`RuleSetRef`](crate::rules::RuleSetRef) | agent | the object fails |
//! | `RULES` | array | row → [`RuleRow`](crate::rules::RuleRow) | agent | the object fails |
//! | `CONNTRACK` | LRU hash | [`ConnKey`](crate::conntrack::ConnKey) → [`Conn`](crate::conntrack::Conn) | programs | the least recently used connection is forgotten |
//! | `FRAGMENTS` | LRU hash | [`FragmentKey`](crate::conntrack::FragmentKey) → [`Fragment`](crate::conntrack::Fragment) | programs | the oldest datagram is forgotten |
//! | `STATS` | per-CPU array | label index → [`Stats`](crate::stats::Stats) | programs; the agent zeroes a slot before use | as `LABELS` |
//! | `REASONS` | per-CPU array | reason → [`Dropped`](crate::stats::Dropped) | programs | fixed size |
//! | `DROPS` | LRU hash | [`DropKey`](crate::stats::DropKey) → [`Dropped`](crate::stats::Dropped) | programs | the oldest pair is forgotten; `REASONS` still counts |
//! | `EVENTS` | ring buffer | [`DropEvent`](crate::event::DropEvent) | programs | the event is lost, the count is not |
//! | `EVENT_BUDGET` | per-CPU array | reason → [`Budget`](crate::event::Budget) | programs | fixed size |
//! | `ERROR_BUDGET` | per-CPU array | circuit number, low bits → [`Budget`](crate::event::Budget) | programs | fixed size; circuits whose numbers are 1,024 apart share one |
//! | `LOCALS` | hash | underlay [`Address`](crate::Address) → 1 (`u32`) | agent | the object fails |
//! | `GROUPS` | array | group → [`PRIMARY`](crate::flow::PRIMARY) or [`BACKUP`](crate::flow::BACKUP) (`u32`) | the agent's protector | circuits beyond it have no backup |
//! | `PEERS` | hash | [`PeerKey`](crate::probe::PeerKey) → [`Peer`](crate::probe::Peer) | agent; programs spend its budget | the object fails |
//! | `REFLECTED` | array | label index → probes answered (`u32`) | programs; the agent zeroes a slot before use | as `LABELS` |
//! | `PROBES` | ring buffer | [`Reply`](crate::probe::Reply) | programs | the reply is lost, as if on the way |
//! | `SEALS` | hash | circuit → [`SealRow`](crate::seal::SealRow) | agent | the object fails |
//! | `SEALERS` | array of 2 | [`PLAIN`](crate::seal::PLAIN), [`CIPHER`](crate::seal::CIPHER) → interface (`u32`) | agent | fixed size |
//! | `TRACED` | hash | circuit → [`Wanted`](crate::trace::Wanted) | agent | the object fails |
//! | `TRACES` | ring buffer | [`Traced`](crate::trace::Traced) | programs | the record is lost |
//! | `TRACE_BUDGET` | per-CPU array of 1 | 0 → [`Budget`](crate::trace::Budget) | programs | fixed size |
//! | `METERS` | array | number of a circuit end → [`Meter`](crate::share::Meter) | agent; programs write what is paid | the object fails |
//! | `SETTINGS` | array of 1 | 0 → [`Settings`] | agent | fixed size |
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of `FLOWS`: two per circuit end.
pub const FLOWS: u32 = 65_536;
/// Entries of `NEXT_HOPS`: one per neighbour and underlay address pair.
pub const NEXT_HOPS: u32 = 4_096;
/// Entries of `RULESETS`: one per circuit end.
pub const RULESETS: u32 = 32_768;
/// Rows of `RULES`, shared by all circuits of a host (80 bytes each).
pub const RULES: u32 = 262_144;
/// Connections of a host.
pub const CONNTRACK: u32 = 262_144;
/// Fragmented datagrams in flight.
pub const FRAGMENTS: u32 = 8_192;
/// Distinct (circuit, reason, rule) triples.
pub const DROPS: u32 = 16_384;
/// Bytes of the ring buffer.
pub const EVENTS: u32 = 1 << 20;
/// Budgets of errors: a power of 2. Circuits whose numbers are that far apart share one.
pub const ERROR_BUDGETS: u32 = 1_024;
/// Circuits that turn together; group 0 is never used.
pub const GROUPS: u32 = 16_384;
/// Links of a host that are measured.
pub const PEERS: u32 = 4_096;
/// Bytes of the ring buffer of probes' answers: 7,281 of them.
pub const PROBES: u32 = 1 << 19;
/// Entries of `SEALS`: one per encrypted circuit end.
pub const SEALS: u32 = 16_384;
/// Underlay addresses of a host.
pub const LOCALS: u32 = 256;
/// Circuits of a host that are traced at one time.
pub const TRACED: u32 = 64;
/// Bytes of the ring buffer of traced packets: about 3,200 of them.
pub const TRACES: u32 = 1 << 20;

/// Value of `SETTINGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// UDP port of the tunnels, network order; 4789 unless configured.
    pub port: [u8; 2],
    /// Not 0 while `TRACED` has entries: packets are looked up there.
    pub tracing: u8,
    pub reserved: [u8; 5],
}

/// IANA's port for VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;

/// Layouts that have changed since the first release, which had 1. Whoever changes the size or the meaning of a map's
/// key or value gives it the next number here (once per release) and a step in `agent_core::migrate`; a test in the
/// agent holds the sizes. The number is part of the pin's name, so programs never see another layout than their own.
pub const VERSIONS: &[(&str, u32)] = &[("FLOWS", 3), ("LABELS", 2)];
/// Name of a map of which only the name counts: it stands at the pins that builds before there were layouts would open,
/// so that they stop there. At most 15 characters.
pub const UPGRADED: &str = "UPGRADED_TO_V2";

/// The layout of a map.
pub fn version(map: &str) -> u32 {
    VERSIONS.iter().find(|(name, _)| *name == map).map_or(1, |(_, version)| *version)
}

/// Name of a map's pin; the layout is part of it once it has changed.
#[cfg(not(target_arch = "bpf"))]
pub fn pin(map: &str) -> String {
    pin_of(map, version(map))
}

/// The same of one layout.
#[cfg(not(target_arch = "bpf"))]
pub fn pin_of(map: &str, version: u32) -> String {
    match (map.to_lowercase(), version) {
        (name, 1) => format!("map_{name}"),
        (name, version) => format!("map_{name}_v{version}"),
    }
}

/// Names of programs and maps in the object file; pins carry the same names, in lower case.
pub mod name {
    /// tcx ingress on the host side of an ENI.
    pub const ENI_INGRESS: &str = "eni_ingress";
    /// tcx ingress on an underlay interface: transit and delivery.
    pub const UNDERLAY_INGRESS: &str = "underlay_ingress";
    /// XDP on an underlay interface: transit and early drop; delivery goes on to tcx.
    pub const UNDERLAY_XDP: &str = "underlay_xdp";

    /// On the TAP interface through which the agent gives packets that it decrypted.
    pub const PLAIN_INGRESS: &str = "plain_ingress";
    /// On the TAP interface through which the agent gives messages that it encrypted.
    pub const CIPHER_INGRESS: &str = "cipher_ingress";

    pub const MAPS: &[&str] = &[
        "FLOWS",
        "NEXT_HOPS",
        "LABELS",
        "RULESETS",
        "RULES",
        "CONNTRACK",
        "FRAGMENTS",
        "STATS",
        "REASONS",
        "DROPS",
        "EVENTS",
        "EVENT_BUDGET",
        "ERROR_BUDGET",
        "LOCALS",
        "SETTINGS",
        "GROUPS",
        "PEERS",
        "REFLECTED",
        "PROBES",
        "SEALS",
        "SEALERS",
        "TRACED",
        "TRACES",
        "TRACE_BUDGET",
        "METERS",
    ];
}
