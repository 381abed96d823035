//! A host with circuits, as the agent would have written it into the maps.
use anyhow::{Context, Result};
use aya::maps::RingBuf;
use aya::programs::{SchedClassifier, TcAttachType};
use ebpf_abi::flow::{Flow, FlowKey, NextHop};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::maps::Settings;
use ebpf_abi::probe::{Peer, PeerKey, Reply};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::stats::{DropKey, Dropped, Stats};
use ebpf_abi::trace::Traced;
use ebpf_abi::{Address, Direction, Reason, mapped};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use tests_kernel::bench::bpf::Ran;
use tests_kernel::bench::dataplane::Dataplane;
use zerocopy::FromBytes;

pub(crate) const ENI: &str = "eni_ingress";
pub(crate) const UNDERLAY: &str = "underlay_ingress";
pub(crate) const XDP: &str = "underlay_xdp";

pub(crate) const REDIRECT: i32 = 7;
pub(crate) const SHOT: i32 = 2;
pub(crate) const NEXT: i32 = -1;
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;
pub(crate) const XDP_REDIRECT: i32 = 4;

/// The loopback: the interface that test runs arrive on, and one that surely exists.
pub(crate) const LOOPBACK: u32 = 1;

pub(crate) const WORKLOAD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub(crate) const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];

pub(crate) const HOP_IPV4: u32 = 4;
pub(crate) const HOP_IPV6: u32 = 6;
pub(crate) const HOP_UNRESOLVED: u32 = 8;
pub(crate) const HOP_EMPTY: u32 = 9;

/// Underlay addresses: ours and the neighbour's.
pub(crate) fn outer(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
    } else {
        ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
    }
}

/// Fabric addresses of the workload here and of the far one, for one circuit.
pub(crate) fn inner(circuit: u64, v6: bool) -> (IpAddr, IpAddr) {
    let n = u16::try_from(circuit).unwrap();
    if v6 {
        let of = |end| IpAddr::V6(Ipv6Addr::new(0xfdfb, 0x6f72, 0x6577, 0, 0, 0, n, end));
        (of(1), of(2))
    } else {
        let [a, b] = n.to_be_bytes();
        let of = |end| IpAddr::V4(Ipv4Addr::new(100, 64 | a, b, end));
        (of(1), of(2))
    }
}

pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn octets(ip: IpAddr) -> [u8; 4] {
    let IpAddr::V4(v4) = ip else { panic!("{ip} is not IPv4") };
    v4.octets()
}

pub(crate) struct Host {
    dataplane: Dataplane,
}

impl Deref for Host {
    type Target = Dataplane;
    fn deref(&self) -> &Dataplane {
        &self.dataplane
    }
}

impl Host {
    /// Settings, locals and next hops; no circuit yet.
    pub(crate) fn new() -> Result<Self> {
        let host = Self { dataplane: Dataplane::load()? };
        host.put("SETTINGS", &0u32, &Settings { port: 4789u16.to_be_bytes(), tracing: 0, reserved: [0; 5] })?;
        for v6 in [false, true] {
            let (ours, theirs) = outer(v6);
            host.put("LOCALS", &address(ours), &1u32)?;
            let hop = NextHop {
                local: address(ours),
                remote: address(theirs),
                ifindex: LOOPBACK,
                source_mac: OUR_MAC,
                neighbour_mac: NEIGHBOUR_MAC,
                flags: NextHop::RESOLVED,
                longest: 1514,
            };
            host.put("NEXT_HOPS", &if v6 { HOP_IPV6 } else { HOP_IPV4 }, &hop)?;
            if !v6 {
                host.put("NEXT_HOPS", &HOP_UNRESOLVED, &NextHop { flags: 0, longest: 0, ..hop })?;
            }
        }
        Ok(host)
    }

    pub(crate) fn flow(circuit: u64, v6: bool, from_here: bool) -> (FlowKey, Flow) {
        let (near, far) = inner(circuit, v6);
        let (local, remote) = if from_here { (near, far) } else { (far, near) };
        let key = FlowKey { eni: LOOPBACK, remote: address(remote) };
        let flow = Flow {
            circuit,
            local: address(local),
            remote: address(remote),
            slot: circuit as u32,
            target: HOP_IPV4,
            label: 0x00ab_cdef,
            mac: WORKLOAD_MAC,
            gateway: GATEWAY_MAC,
            direction: if from_here { Direction::Forward } else { Direction::Reverse } as u8,
            kind: Flow::TUNNEL,
            mtu: 0,
            group: 0,
            backup_target: 0,
            backup_label: 0,
            class: 0,
        };
        (key, flow)
    }

    /// The gate from the workload here, through the next hop of this slot.
    pub(crate) fn open(&self, circuit: u64, hop: u32) -> Result<()> {
        for v6 in [false, true] {
            let (key, flow) = Self::flow(circuit, v6, true);
            self.put("FLOWS", &key, &Flow { target: hop, ..flow })?;
        }
        Ok(())
    }

    /// A label under which the far end's packets arrive and are delivered, over this underlay family.
    pub(crate) fn delivery(circuit: u64, label: u32, v6_underlay: bool) -> LabelEntry {
        let (ours, theirs) = outer(v6_underlay);
        let (near, far) = inner(circuit, false);
        let (near6, far6) = inner(circuit, true);
        LabelEntry {
            label,
            kind: LabelEntry::EGRESS,
            direction: Direction::Reverse as u8,
            sealed: 0,
            reserved: 0,
            circuit,
            from: address(theirs),
            to: address(ours),
            target: LOOPBACK,
            out_label: 0,
            mac: WORKLOAD_MAC,
            gateway: GATEWAY_MAC,
            remote_v6: address(far6),
            local_v6: address(near6),
            remote_v4: octets(far),
            local_v4: octets(near),
            back: 0,
            mtu: 0,
            class: 0,
            reserved2: [0; 12],
        }
    }

    pub(crate) fn transit(
        circuit: u64,
        label: u32,
        v6_underlay: bool,
        hop: u32,
        out_label: u32,
    ) -> LabelEntry {
        LabelEntry {
            kind: LabelEntry::TRANSIT,
            direction: Direction::Forward as u8,
            target: hop,
            out_label,
            ..Self::delivery(circuit, label, v6_underlay)
        }
    }

    pub(crate) fn label(&self, entry: &LabelEntry) -> Result<()> {
        self.put("LABELS", &label::index(entry.label), entry)
    }

    /// Puts a rule set in force. Every version has its own rows.
    pub(crate) fn rules(&self, circuit: u64, version: u32, rows: &[RuleRow]) -> Result<()> {
        let start = (circuit as u32 % 16) * 4096 + version % 16 * 256;
        for (i, row) in rows.iter().enumerate() {
            self.put("RULES", &(start + i as u32), row)?;
        }
        let set = RuleSetRef { circuit, start, count: rows.len() as u32, version, reserved: 0 };
        self.put("RULESETS", &circuit, &set)
    }

    /// Says by which way the circuits of a group are sent.
    pub(crate) fn turn(&self, group: u32, way: u32) -> Result<()> {
        self.put("GROUPS", &group, &way)
    }

    /// A neighbour that may ask under this session.
    pub(crate) fn peer(&self, remote: IpAddr, session: u16) -> Result<()> {
        let peer = Peer { second: 0, spent: 0, answered: 0, told: 0 };
        self.put("PEERS", &peer_key(remote, session), &peer)
    }

    /// Puts a tcx program on an interface of this thread's namespace, until the host goes.
    pub(crate) fn attach(&mut self, program: &str, interface: &str) -> Result<()> {
        let program = self.dataplane.object_mut().program_mut(program).context("no such program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.attach(interface, TcAttachType::Ingress)?;
        Ok(())
    }

    /// The answers told since the last time.
    pub(crate) fn replies(&mut self) -> Result<Vec<Reply>> {
        let map = self.dataplane.object_mut().map_mut("PROBES").context("no map PROBES")?;
        let mut ring = RingBuf::try_from(map)?;
        let mut replies = Vec::new();
        while let Some(record) = ring.next() {
            let reply = Reply::read_from_bytes(&record).map_err(|_| anyhow::anyhow!("{record:02x?}"))?;
            replies.push(reply);
        }
        Ok(replies)
    }

    /// The traced packets told since the last time.
    pub(crate) fn traces(&mut self) -> Result<Vec<Traced>> {
        let map = self.dataplane.object_mut().map_mut("TRACES").context("no map TRACES")?;
        let mut ring = RingBuf::try_from(map)?;
        let mut traces = Vec::new();
        while let Some(record) = ring.next() {
            let one =
                Traced::read_from_bytes(&record).map_err(|_| anyhow::anyhow!("{} bytes", record.len()))?;
            traces.push(one);
        }
        Ok(traces)
    }

    pub(crate) fn dropped(&self, reason: Reason) -> Result<Dropped> {
        let each: Vec<Dropped> = self.per_cpu("REASONS", reason as u32)?;
        Ok(Dropped {
            packets: each.iter().map(|d| d.packets).sum(),
            bytes: each.iter().map(|d| d.bytes).sum(),
        })
    }

    pub(crate) fn dropped_by(&self, circuit: u64, reason: Reason, rule: u32) -> Result<u64> {
        let key = DropKey { circuit, reason: reason as u32, rule };
        Ok(self.get::<_, Dropped>("DROPS", &key)?.map_or(0, |d| d.packets))
    }

    pub(crate) fn all_drops(&self) -> Result<u64> {
        Reason::ALL.iter().map(|reason| Ok(self.dropped(*reason)?.packets)).sum()
    }

    pub(crate) fn stats(&self, slot: u32) -> Result<Stats> {
        let each: Vec<Stats> = self.per_cpu("STATS", slot)?;
        Ok(Stats {
            sent_packets: each.iter().map(|s| s.sent_packets).sum(),
            sent_bytes: each.iter().map(|s| s.sent_bytes).sum(),
            received_packets: each.iter().map(|s| s.received_packets).sum(),
            received_bytes: each.iter().map(|s| s.received_bytes).sum(),
        })
    }

    /// The frame is dropped for this reason, under this circuit and rule, and counted once.
    #[track_caller]
    pub(crate) fn refuses(&self, program: &str, frame: &[u8], circuit: u64, reason: Reason, rule: u32) {
        let before = self.dropped(reason).unwrap();
        let under = self.dropped_by(circuit, reason, rule).unwrap();
        let ran = self.run(program, frame).unwrap();
        let after = self.dropped(reason).unwrap();
        let drop = if program == XDP { XDP_DROP } else { SHOT };
        assert_eq!(
            (ran.verdict, after.packets - before.packets, after.bytes - before.bytes),
            (drop, 1, frame.len() as u64),
            "{program} on {frame:02x?} for {}; all reasons now: {:?}",
            reason.name(),
            self.reasons()
        );
        assert_eq!(
            self.dropped_by(circuit, reason, rule).unwrap() - under,
            1,
            "circuit {circuit}, rule {rule}, {}",
            reason.name()
        );
    }

    pub(crate) fn reasons(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|reason| (reason.name(), self.dropped(*reason).map_or(0, |d| d.packets)))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    /// The frame is sent on.
    #[track_caller]
    pub(crate) fn sends(&self, program: &str, frame: &[u8]) -> Ran {
        let ran = self.run(program, frame).unwrap();
        let sent = if program == XDP { XDP_REDIRECT } else { REDIRECT };
        assert_eq!(ran.verdict, sent, "{program} on {frame:02x?}; drops: {:?}", self.reasons());
        ran
    }

    /// The frame goes on to the kernel, unchanged and uncounted.
    #[track_caller]
    pub(crate) fn leaves_alone(&self, program: &str, frame: &[u8]) {
        let before = self.all_drops().unwrap();
        let ran = self.run(program, frame).unwrap();
        let pass = if program == XDP { XDP_PASS } else { NEXT };
        assert_eq!((ran.verdict, ran.frame.as_slice()), (pass, frame), "{program}: {:?}", self.reasons());
        assert_eq!(self.all_drops().unwrap(), before);
    }
}

pub(crate) fn peer_key(remote: IpAddr, session: u16) -> PeerKey {
    PeerKey { remote: address(remote), session: session.into() }
}

/// A row that matches everything; tests narrow it.
pub(crate) const fn any(id: u32, allow: bool) -> RuleRow {
    RuleRow {
        source: [0; 16],
        source_mask: [0; 16],
        destination: [0; 16],
        destination_mask: [0; 16],
        id,
        port_from: 0,
        port_to: u16::MAX,
        protocol: RuleRow::ANY_PROTOCOL,
        directions: 3,
        allow: allow as u8,
        family: 0,
        reserved: [0; 3],
    }
}
