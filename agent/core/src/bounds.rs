//! Everything that grows on a host, how far, and what is said at the end.
use proto_model::desired::ObjectKey;
use std::time::Duration;

/// Interfaces on one host; each is a veth pair of the kernel.
pub const ENIS: usize = 4_096;
/// Entries of `FLOWS`: two per open circuit end.
pub const FLOWS: usize = ebpf_abi::maps::FLOWS as usize;
/// Entries of `RULESETS`: one per circuit that ends here.
pub const RULESETS: usize = ebpf_abi::maps::RULESETS as usize;
/// Rows of `RULES`, over all circuits.
pub const ROWS: u32 = ebpf_abi::maps::RULES;
const _: () = assert!(2 * proto_model::policy::MAX_HOST_ROWS <= ROWS as usize);
/// Slots of `NEXT_HOPS`; slot 0 is left empty, so that a zeroed entry leads nowhere.
pub const NEXT_HOPS: u32 = ebpf_abi::maps::NEXT_HOPS;
/// Slots of `GROUPS`; slot 0 is never used, because it says that a flow has no second way. When all are in use, a circuit
/// end that would need another one has no second way here: its flows are as if the controller had not planned one.
pub const GROUPS: u32 = ebpf_abi::maps::GROUPS;
/// Circuits that are traced at one time.
pub const TRACES: usize = ebpf_abi::maps::TRACED as usize;
/// Ends in one word about switches.
pub const SWITCHES: usize = 4_096;
/// Steps of one batch: so many that the round trip does not count, so few that a change need not wait long.
pub const BATCH: usize = 512;
/// How long freed rule rows and next-hop slots rest before they are used again: a packet that read a reference before
/// it was replaced has long left.
pub const QUARANTINE: Duration = Duration::from_secs(1);
/// Wait before the first repetition of a failed step; doubles each time, up to [`RETRY_MOST`].
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
pub const RETRY_MOST: Duration = Duration::from_secs(30);
/// How often the counters are read while a controller listens.
pub const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Interfaces of which it is told what they carried.
pub const INTERFACES: usize = 64;

/// Why an object cannot be turned into kernel entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} is not among the desired objects")]
    Missing(ObjectKey),
    #[error("{entry} is taken by {by}")]
    Taken { entry: String, by: ObjectKey },
    #[error("this host has {ENIS} interfaces of the fabric, and no more are allowed")]
    Enis,
    #[error("this host's flow table has {have} of {FLOWS} entries in use, {need} more are needed")]
    Flows { have: usize, need: usize },
    #[error("this host has the rules of {RULESETS} circuits, and no more fit")]
    RuleSets,
    #[error("the rule table has no {need} free rows in a row ({free} of {ROWS} are free)")]
    Rows { need: u32, free: u32 },
    #[error("{rules} rules, but a circuit can have at most {}", ebpf_abi::rules::PER_CIRCUIT)]
    TooManyRules { rules: usize },
    #[error("all {} slots for next hops are in use", NEXT_HOPS - 1)]
    NextHops,
    #[error("label {label} has index 0, which is never used (allowed: 1 to {})", ebpf_abi::label::CAPACITY - 1)]
    LabelIndex { label: u32 },
    #[error("from {local} to {remote} there is no one address family")]
    Families { local: std::net::IpAddr, remote: std::net::IpAddr },
    #[error("this host traces {TRACES} circuits, and no more at one time")]
    Traces,
    #[error("it receives under no label")]
    NoLabel,
    #[error("all {} numbers for circuits with a bandwidth or a limit are in use", ebpf_abi::share::NUMBERS)]
    Shares,
}
