//! The maps of the data plane. What each is for, who writes it and what its bound means: `ebpf_abi::maps`.
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use ebpf_abi::Address;
use ebpf_abi::conntrack::{Conn, ConnKey, Fragment, FragmentKey};
use ebpf_abi::event::{Budget, DropEvent};
use ebpf_abi::flow::{Flow, FlowKey, NextHop};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::maps::{self, Settings};
use ebpf_abi::probe::{Peer, PeerKey, Reply};
use ebpf_abi::reason;
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::seal::{SEALERS as SEALERS_ENTRIES, SealRow};
use ebpf_abi::share::{self, Meter};
use ebpf_abi::stats::{DropKey, Dropped, Stats};
use ebpf_abi::trace::{self, Traced, Wanted};
use ebpf_abi::verdict::Verdict;

#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, Flow, { maps::FLOWS as usize }> = HashMap::new();
/// Holds nothing; see `ebpf_abi::maps::UPGRADED`.
#[btf_map]
pub(crate) static UPGRADED_TO_V2: Array<u32, 1> = Array::new();
#[btf_map]
pub(crate) static NEXT_HOPS: Array<NextHop, { maps::NEXT_HOPS as usize }> = Array::new();
/// The kernel puts the values of a mappable array at the start of a page, and so each entry on cache lines of its own:
/// with 100,000 labels in use, transit is bound by cache misses.
#[btf_map]
pub(crate) static LABELS: Array<LabelEntry, { label::CAPACITY as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();
#[btf_map]
pub(crate) static RULESETS: HashMap<u64, RuleSetRef, { maps::RULESETS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static RULES: Array<RuleRow, { maps::RULES as usize }> = Array::new();
#[btf_map]
pub(crate) static CONNTRACK: LruHashMap<ConnKey, Conn, { maps::CONNTRACK as usize }> = LruHashMap::new();
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment, { maps::FRAGMENTS as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static STATS: PerCpuArray<Stats, { label::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static REASONS: PerCpuArray<Dropped, { reason::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static DROPS: LruHashMap<DropKey, Dropped, { maps::DROPS as usize }> = LruHashMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<DropEvent, { maps::EVENTS as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static EVENT_BUDGET: PerCpuArray<Budget, { reason::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static ERROR_BUDGET: PerCpuArray<Budget, { maps::ERROR_BUDGETS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static VERDICT: Array<Verdict, 1> = Array::new();
#[btf_map]
pub(crate) static LOCALS: HashMap<Address, u32, { maps::LOCALS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
pub(crate) static GROUPS: Array<u32, { maps::GROUPS as usize }> = Array::new();
#[btf_map]
pub(crate) static PEERS: HashMap<PeerKey, Peer, { maps::PEERS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static REFLECTED: Array<u32, { label::CAPACITY as usize }> = Array::new();
#[btf_map]
pub(crate) static TRACED: HashMap<u64, Wanted, { maps::TRACED as usize }> = HashMap::new();
#[btf_map]
pub(crate) static TRACES: RingBuf<Traced, { maps::TRACES as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static TRACE_BUDGET: PerCpuArray<trace::Budget, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static PROBES: RingBuf<Reply, { maps::PROBES as usize }> = RingBuf::new();
/// Read by the agent alone; see `ebpf_abi::seal`.
#[btf_map]
pub(crate) static SEALS: HashMap<u64, SealRow, { maps::SEALS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static SEALERS: Array<u32, { SEALERS_ENTRIES as usize }> = Array::new();
#[btf_map]
pub(crate) static METERS: Array<Meter, { share::METERS as usize }> = Array::new();
