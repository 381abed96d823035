//! Performs every step on the real kernel, and reads back what is there; the only writer of the fabric's objects.
pub(crate) mod addresses;
pub(crate) mod counters;
pub(crate) mod enis;
pub(crate) mod events;
pub(crate) mod features;
pub(crate) mod filters;
pub(crate) mod links;
pub(crate) mod maps;
pub(crate) mod namespaces;
pub(crate) mod neighbours;
pub(crate) mod netlink;
pub(crate) mod observe;
pub(crate) mod ports;
pub(crate) mod programs;
pub(crate) mod queues;
pub(crate) mod rehearsal;
pub(crate) mod routes;
mod seals;
pub(crate) mod thread;
pub(crate) mod traces;
pub(crate) mod underlays;
pub(crate) mod upgrade;

use crate::config::Underlays;
use crate::seal::keys::Keys;
use crate::seal::{Place, Sealer, Sessions, Timing};
use agent_core::abi::{self, Door};
use agent_core::kernel_state::{
    Entry, EntryKey, Flow, HostSide, Kernel, KernelState, Label, NextHop, Peer, Route, Rules, Step, Target,
    Trace,
};
use anyhow::{Context, Result, anyhow, bail};
use ebpf_abi::flow::{Flow as FlowRow, FlowKey, NextHop as NextHopRow};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::maps::Settings;
use ebpf_abi::probe::{Peer as PeerRow, PeerKey};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::seal::SealRow;
use ebpf_abi::share::Meter as MeterRow;
use ebpf_abi::stats::Stats;
use ebpf_abi::trace::Wanted;
use enis::Known;
use maps::{PerCpu, Slots, Table};
use netlink::Netlink;
use nix::time::ClockId;
use programs::Programs;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use zerocopy::FromZeros;

pub use programs::Attach;
pub use underlays::{Datapath, Summary};

/// What [`Linux::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory on a bpffs, of this agent alone.
    pub pins: PathBuf,
    /// UDP port of the tunnels.
    pub port: u16,
    pub underlays: Underlays,
    pub attach: Attach,
    /// This host's encryption keys.
    pub keys: Keys,
    pub timing: Timing,
    /// Where the sealer is found, and how it is started.
    pub sealer: Place,
}

/// The kernel of the network namespace of the thread that opened it. It stays on that thread.
#[derive(Debug)]
pub struct Linux {
    namespaces: namespaces::Namespaces,
    netlink: Netlink,
    programs: Programs,
    flows: Table<FlowKey, FlowRow>,
    next_hops: Slots<NextHopRow>,
    labels: Slots<LabelEntry>,
    rulesets: Table<u64, RuleSetRef>,
    rules: Slots<RuleRow>,
    stats: PerCpu<Stats>,
    peers: Table<PeerKey, PeerRow>,
    meters: Slots<MeterRow>,
    reflected: Slots<u32>,
    seals: Table<u64, SealRow>,
    sealers: Slots<u32>,
    sealer: Sealer,
    /// Whether it is well.
    sealer_asked: Instant,
    settings: Slots<Settings>,
    traced: Table<u64, Wanted>,
    /// ENIs that are there.
    enis: BTreeMap<HostSide, Known>,
    /// Index of every host side that rows of the maps may refer to, also of one that vanished.
    indexes: BTreeMap<HostSide, u32>,
    /// Number and start of the process that an ENI was first made for, until the ENI is removed by a step.
    processes: BTreeMap<HostSide, (u32, enis::Started)>,
    /// See [`Kernel::made_anew`].
    made_anew: Vec<HostSide>,
    shared: Shared,
    datapath: Datapath,
}

/// What others may see of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Slots of `STATS` in use.
    slots: BTreeSet<u32>,
    /// Host sides that the agent itself removed and whose notification has not come yet. At most [`EXPECTED`].
    removed: BTreeSet<u32>,
    /// Circuits whose packets are told, and which of them.
    traced: BTreeMap<u64, Trace>,
    /// Host sides that are there, as far as the agent knows.
    enis: BTreeSet<HostSide>,
    /// Underlay interfaces that the agent may shape: XDP would pass their queues by.
    shaped: BTreeSet<String>,
    sessions: Sessions,
}

/// Notifications waited for. At the bound the rest is taken for somebody else's doing, which costs a look.
const EXPECTED: usize = 65_536;

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    pub(crate) fn slots(&self) -> Vec<u32> {
        self.with(|seen| seen.slots.iter().copied().collect())
    }
    pub(crate) fn enis(&self) -> Vec<HostSide> {
        self.with(|seen| seen.enis.iter().cloned().collect())
    }
    /// What is wanted of a circuit's packets, if it is traced.
    pub(crate) fn traced(&self, circuit: u64) -> Option<Trace> {
        self.with(|seen| seen.traced.get(&circuit).copied())
    }
    fn may_shape(&self, underlays: &[proto_model::topology::Underlay]) {
        let shaped = underlays.iter().filter(|underlay| underlay.shape);
        self.with(|seen| seen.shaped = shaped.map(|underlay| underlay.interface.clone()).collect());
    }
    pub(crate) fn is_shaped(&self, interface: &str) -> bool {
        self.with(|seen| seen.shaped.contains(interface))
    }
    /// Whether this end of an encrypted circuit has keys agreed on with the other.
    pub(crate) fn has_session(&self, circuit: u64) -> bool {
        let sessions = self.with(|seen| seen.sessions.clone());
        sessions.has(circuit)
    }
    fn expect_removal(&self, index: u32) {
        self.with(|seen| {
            if seen.removed.len() < EXPECTED {
                seen.removed.insert(index);
            }
        });
    }
    /// Whether the agent itself removed this interface; true once per removal.
    pub(crate) fn was_removed(&self, index: u32) -> bool {
        self.with(|seen| seen.removed.remove(&index))
    }
}

impl Linux {
    /// Opens or makes the pinned maps, loads the programs, replaces those in the pinned links, and attaches to the
    /// underlay interfaces. Nothing that forwards is interrupted.
    ///
    /// # Errors
    /// What is missing or was refused, by name.
    pub fn open(options: &Options) -> Result<Self> {
        let namespaces = namespaces::Namespaces::of_this_thread()?;
        let mut netlink = Netlink::open().context("cannot open a netlink socket")?;
        let mut programs = Programs::load(crate::DATAPLANE, &options.pins, options.attach)?;
        let mut settings: Slots<Settings> = Slots::new(programs.take_map("SETTINGS")?)?;
        let traced: Table<u64, Wanted> = Table::new(programs.take_map("TRACED")?)?;
        let tracing = u8::from(traced.keys().next().is_some());
        settings.put(0, &Settings { port: options.port.to_be_bytes(), tracing, reserved: [0; 5] })?;
        enis::renew_programs(&mut netlink, &mut programs)?;
        let locals = Table::new(programs.take_map("LOCALS")?)?;
        let datapath = Datapath::attach(&mut netlink, &mut programs, locals, &options.underlays)?;
        let sealer = Sealer::new(options.sealer.clone(), options.keys.clone(), options.timing);
        let shared = Shared::default();
        shared.may_shape(&datapath.summary().underlays);
        shared.with(|seen| seen.sessions = sealer.sessions());
        Ok(Self {
            flows: Table::new(programs.take_map("FLOWS")?)?,
            next_hops: Slots::new(programs.take_map("NEXT_HOPS")?)?,
            labels: Slots::new(programs.take_map("LABELS")?)?,
            rulesets: Table::new(programs.take_map("RULESETS")?)?,
            rules: Slots::new(programs.take_map("RULES")?)?,
            stats: PerCpu::new(programs.take_map("STATS")?)?,
            peers: Table::new(programs.take_map("PEERS")?)?,
            meters: Slots::new(programs.take_map("METERS")?)?,
            reflected: Slots::new(programs.take_map("REFLECTED")?)?,
            seals: Table::new(programs.take_map("SEALS")?)?,
            sealers: Slots::new(programs.take_map("SEALERS")?)?,
            sealer,
            sealer_asked: Instant::now(),
            settings,
            traced,
            namespaces,
            netlink,
            programs,
            enis: BTreeMap::new(),
            indexes: BTreeMap::new(),
            processes: BTreeMap::new(),
            made_anew: Vec::new(),
            shared,
            datapath,
        })
    }

    /// The underlay interfaces, and how each handles transit.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// Looks at the underlay interfaces again. True: something about them changed.
    pub(crate) fn refresh_underlays(&mut self) -> Result<bool> {
        let changed = self.datapath.refresh(&mut self.netlink, &mut self.programs)?;
        self.shared.may_shape(&self.datapath.summary().underlays);
        Ok(changed)
    }

    pub(crate) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Put(Entry::NextHop(hop)) => self.put_next_hop(hop),
            Step::Put(Entry::Shaper(shaper)) => queues::put_shaper(&mut self.netlink, shaper),
            Step::Put(Entry::Class(class)) => queues::put_class(&mut self.netlink, class),
            Step::Put(Entry::Meter(meter)) => self.put_meter(meter.slot, &abi::meter(meter)),
            Step::Put(Entry::Eni(eni)) => self.put_eni(eni),
            Step::Put(Entry::Rules(rules)) => self.put_rules(rules),
            Step::Put(Entry::Seal(seal)) => self.put_seal(seal),
            Step::Put(Entry::Label(label)) => self.put_label(label),
            Step::Put(Entry::Peer(peer)) => self.put_peer(peer),
            Step::Put(Entry::Trace(trace)) => self.put_trace(trace),
            Step::Put(Entry::Route(route)) => self.put_route(route),
            Step::Put(Entry::Flow(flow)) => self.put_flow(flow),
            Step::Remove(EntryKey::NextHop(slot)) => {
                self.slot(*slot, "NEXT_HOPS", self.next_hops.len())?;
                Ok(self.next_hops.put(*slot, &NextHopRow::new_zeroed())?)
            }
            Step::Remove(EntryKey::Shaper(interface)) => queues::remove_shaper(&mut self.netlink, interface),
            Step::Remove(EntryKey::Class(interface, number)) => {
                queues::remove_class(&mut self.netlink, interface, *number)
            }
            Step::Remove(EntryKey::Meter(slot)) => self.put_meter(*slot, &MeterRow::default()),
            Step::Remove(EntryKey::Eni(host)) => self.remove_eni(host),
            Step::Remove(EntryKey::Rules(circuit)) => Ok(self.rulesets.remove(circuit)?),
            Step::Remove(EntryKey::Seal(circuit)) => self.remove_seal(*circuit),
            Step::Remove(EntryKey::Label(index)) => self.remove_label(*index),
            Step::Remove(EntryKey::Peer(remote, session)) => {
                let key = abi::peer(&Peer { remote: *remote, session: *session });
                Ok(self.peers.remove(&key)?)
            }
            Step::Remove(EntryKey::Trace(circuit)) => self.remove_trace(*circuit),
            Step::Remove(EntryKey::Route(host, to)) => self.remove_route(host, to),
            Step::Remove(EntryKey::Flow(host, remote)) => self.remove_flow(host, *remote),
        }
    }

    fn slot(&self, index: u32, map: &str, bound: u32) -> Result<()> {
        if index >= bound {
            bail!("slot {index} of {map}, which has {bound}");
        }
        Ok(())
    }

    fn put_meter(&mut self, slot: u16, row: &MeterRow) -> Result<()> {
        self.slot(slot.into(), "METERS", self.meters.len())?;
        Ok(self.meters.put(slot.into(), row)?)
    }

    fn put_next_hop(&mut self, hop: &NextHop) -> Result<()> {
        self.slot(hop.slot, "NEXT_HOPS", self.next_hops.len())?;
        let index = match hop.link {
            Some(link) => link.ifindex,
            None => routes::towards(&mut self.netlink, hop.local, hop.remote)?.index,
        };
        Ok(self.next_hops.put(hop.slot, &abi::next_hop(hop, index))?)
    }

    /// Rows first, where no packet looks; then the value that puts them in force.
    fn put_rules(&mut self, rules: &Rules) -> Result<()> {
        let (set, rows) = abi::rules(rules);
        let end = u64::from(set.start) + u64::from(set.count);
        if set.count > ebpf_abi::rules::PER_CIRCUIT || end > u64::from(self.rules.len()) {
            bail!(
                "{} rules from row {} do not fit ({} rows, {} per circuit)",
                set.count,
                set.start,
                self.rules.len(),
                ebpf_abi::rules::PER_CIRCUIT
            );
        }
        for (index, row) in (set.start..).zip(&rows) {
            self.rules.put(index, row)?;
        }
        self.rulesets
            .put(&rules.circuit, &set)
            .with_context(|| format!("RULESETS takes {} circuits", ebpf_abi::maps::RULESETS))
    }

    fn door(&self, host: &HostSide) -> Option<Door> {
        self.enis.get(host).map(Known::door)
    }

    fn known(&self, host: &HostSide) -> Result<&Known> {
        self.enis.get(host).ok_or_else(|| anyhow!("interface {} is not there", host.as_str()))
    }

    fn put_label(&mut self, label: &Label) -> Result<()> {
        let row = abi::label(label, |host| self.door(host))?;
        let index = label::index(label.label);
        if index == 0 {
            bail!("label {} has index 0, which is never allocated", label.label);
        }
        if self.labels.get(index)?.label != label.label {
            // A new use of the slot counts from zero.
            self.zero(index)?;
        }
        self.labels.put(index, &row)?;
        self.shared.with(|seen| seen.slots.insert(index));
        Ok(())
    }

    fn zero(&mut self, index: u32) -> Result<()> {
        self.reflected.put(index, &0)?;
        self.stats.put_everywhere(index, &Stats::default())
    }

    /// One that is there keeps what it has counted: its number is the reflector's sequence (RFC 8762 §4.3).
    fn put_peer(&mut self, peer: &Peer) -> Result<()> {
        self.peers
            .put_new(&abi::peer(peer), &abi::NEW_PEER)
            .with_context(|| format!("PEERS takes {} neighbours", ebpf_abi::maps::PEERS))
    }

    /// Says so in the log: whoever asked sees what users send.
    fn put_trace(&mut self, trace: &Trace) -> Result<()> {
        let left = i128::from(trace.until.0) - events::nanos(ClockId::CLOCK_REALTIME);
        let until = u64::try_from(events::nanos(ClockId::CLOCK_MONOTONIC) + left.max(0)).unwrap_or(0);
        self.shared.with(|seen| seen.traced.insert(trace.circuit, *trace));
        self.traced
            .put(&trace.circuit, &abi::trace(trace, until))
            .with_context(|| format!("TRACED takes {} circuits", ebpf_abi::maps::TRACED))?;
        tracing::info!(circuit = trace.circuit, until = %trace.until, snaplen = trace.snaplen, "packets are told to the controller");
        self.set_tracing()
    }

    fn remove_trace(&mut self, circuit: u64) -> Result<()> {
        self.traced.remove(&circuit)?;
        self.shared.with(|seen| seen.traced.remove(&circuit));
        self.set_tracing()
    }

    /// While nothing is traced, no packet is looked up.
    fn set_tracing(&mut self) -> Result<()> {
        let tracing = u8::from(self.traced.keys().next().is_some());
        let settings = self.settings.get(0)?;
        Ok(self.settings.put(0, &Settings { tracing, ..settings })?)
    }

    fn remove_label(&mut self, index: u32) -> Result<()> {
        self.slot(index, "LABELS", self.labels.len())?;
        self.labels.put(index, &LabelEntry::new_zeroed())?;
        self.shared.with(|seen| seen.slots.remove(&index));
        Ok(())
    }

    fn put_flow(&mut self, flow: &Flow) -> Result<()> {
        let (key, row) = abi::flow(flow, |host| self.door(host))?;
        if matches!(flow.target, Target::Eni(_)) && self.shared.with(|seen| seen.slots.insert(flow.slot)) {
            // A local circuit receives under no label, so nobody has cleared its counters yet.
            self.zero(flow.slot)?;
        }
        self.flows.put(&key, &row).with_context(|| format!("FLOWS takes {} entries", ebpf_abi::maps::FLOWS))
    }

    fn remove_flow(&mut self, host: &HostSide, remote: IpAddr) -> Result<()> {
        // An interface that was never there has no flows.
        let Some(eni) = self.indexes.get(host).copied() else { return Ok(()) };
        Ok(self.flows.remove(&FlowKey { eni, remote: abi::address(remote) })?)
    }

    /// An interface that is made again inherits nothing from the one that vanished.
    fn clear_references(&mut self, index: u32) -> Result<()> {
        for slot in self.shared.slots() {
            let label = self.labels.get(slot)?;
            if label.label != 0 && label.kind != LabelEntry::TRANSIT && label.target == index {
                self.remove_label(slot)?;
            }
        }
        let refers =
            |key: &FlowKey, row: &FlowRow| key.eni == index || (!row.leaves_host() && row.target == index);
        let rows = self.flows.rows().collect::<Result<Vec<_>, _>>()?;
        for (key, _) in rows.iter().filter(|(key, row)| refers(key, row)) {
            self.flows.remove(key)?;
        }
        Ok(())
    }

    fn put_route(&mut self, route: &Route) -> Result<()> {
        let eni = self.known(&route.host)?;
        let (inner, from) = (eni.inner, eni.entry.address);
        let ipv6 = links::has_ipv6(u32::from(eni.entry.mtu));
        let mut there = self.inside(&route.host)?;
        routes::put(&mut there, inner, ipv6, &from, &route.to, route.mtu)
    }

    fn remove_route(&mut self, host: &HostSide, to: &proto_model::FabricAddress) -> Result<()> {
        // With the interface its routes are gone too.
        let Some(eni) = self.enis.get(host) else { return Ok(()) };
        let inner = eni.inner;
        match self.inside(host) {
            Ok(mut there) => routes::remove(&mut there, inner, to),
            // Out of reach, or gone. The flow that opened the route is gone already, so it leads nowhere, and it goes
            // with its interface, which must not wait for it.
            Err(error) => {
                tracing::debug!(interface = %host.as_str(), error = %format!("{error:#}"), "route left");
                Ok(())
            }
        }
    }

    /// A socket where the inner side is.
    fn inside(&self, host: &HostSide) -> Result<Netlink> {
        let (place, _) = self.place(host, &self.known(host)?.entry.attachment)?;
        self.namespaces.netlink(&place)
    }
}

impl Kernel for Linux {
    fn perform(&mut self, step: &Step) -> Result<(), String> {
        self.step(step).map_err(|error| format!("{error:#}"))
    }

    fn made_anew(&mut self) -> Vec<HostSide> {
        std::mem::take(&mut self.made_anew)
    }

    fn observe(&mut self) -> Result<KernelState, String> {
        self.read_back().map_err(|error| format!("{error:#}"))
    }
}
