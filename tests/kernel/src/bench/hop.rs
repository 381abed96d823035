//! Measures one transit hop: the XDP program against the kernel's own IP forwarding, on one core.
use crate::bench::bpf;
use crate::bench::dataplane::{Dataplane, built};
use crate::bench::report::Series;
use crate::bench::wires::{End, HOP, SINK, SOURCE, Wires};
use anyhow::{Context, Result};
use aya::programs::{Xdp, XdpMode};
use ebpf_abi::Address;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::LabelEntry;
use ebpf_abi::maps::Settings;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use zerocopy::{Immutable, IntoBytes};

pub const LABELS: u32 = 100_000;
/// Frames per measurement: about a second, as starting one costs about 25 ms.
const FRAMES: u32 = 1_500_000;
/// A frame that has not arrived after so long a silence is lost.
const PATIENCE: Duration = Duration::from_millis(100);
/// Outer headers and a 64-byte inner frame.
const LENGTH: usize = 50 + 64;

const SOURCE_IP: [u8; 4] = [10, 201, 1, 1];
const HOP_IP: [u8; 4] = [10, 201, 1, 2];
const HOP_OUT_IP: [u8; 4] = [10, 201, 2, 1];
const SINK_IP: [u8; 4] = [10, 201, 2, 2];

/// As in the generator.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Plan {
    head: [u8; 64],
    labels: u32,
    ifindex: u32,
}

/// Packets per second through the hop.
#[derive(Debug)]
pub struct Measured {
    pub xdp: Series,
    pub kernel: Series,
    /// Generator straight into the sink: what both pay besides the hop.
    pub empty: Series,
    /// Frames that did not arrive, over all runs.
    pub lost: u64,
}

struct Bench {
    wires: Wires,
    generator: Dataplane,
    source: End,
    entry: End,
    lost: u64,
}

/// Alternates the two, so that whatever else the machine does hits both.
///
/// # Errors
/// What cannot be set up, and why.
pub fn measure(rounds: usize) -> Result<Measured> {
    let wires = Wires::new()?;
    let generator = Dataplane::load_file(&built("foreweave-testgen"))?;
    let (source, entry) = (wires.end(SOURCE, "s0")?, wires.end(HOP, "h0")?);
    let mut dataplane = Dataplane::load()?;
    fill(&dataplane, &wires)?;
    let mut bench = Bench { wires, generator, source, entry, lost: 0 };
    let mut pinned = CpuSet::new();
    pinned.set(std::thread::available_parallelism()?.get() - 1)?;
    sched_setaffinity(Pid::from_raw(0), &pinned).context("pinning to one core")?;
    bench.listen()?;
    let (mut xdp, mut kernel, mut empty) = (Series::default(), Series::default(), Series::default());
    bench.by_xdp(&mut dataplane)?;
    bench.by_kernel()?;
    bench.lost = 0;
    for _ in 0..rounds {
        xdp.add(bench.by_xdp(&mut dataplane)?);
        kernel.add(bench.by_kernel()?);
        empty.add(bench.nothing()?);
    }
    Ok(Measured { xdp, kernel, empty, lost: bench.lost })
}

/// 100,000 labels, each with an own outgoing label.
fn fill(dataplane: &Dataplane, wires: &Wires) -> Result<()> {
    let (out, sink) = (wires.end(HOP, "h1")?, wires.end(SINK, "k0")?);
    dataplane.put(
        "SETTINGS",
        &0u32,
        &Settings { port: 4789u16.to_be_bytes(), tracing: 0, reserved: [0; 5] },
    )?;
    dataplane.put("LOCALS", &ebpf_abi::mapped(HOP_IP), &1u32)?;
    let hop = NextHop {
        local: ebpf_abi::mapped(HOP_OUT_IP),
        remote: ebpf_abi::mapped(SINK_IP),
        ifindex: out.ifindex,
        source_mac: out.mac,
        neighbour_mac: sink.mac,
        flags: NextHop::RESOLVED,
        longest: 1514,
    };
    dataplane.put("NEXT_HOPS", &1u32, &hop)?;
    for label in 1..=LABELS {
        dataplane.put("LABELS", &label, &entry(label))?;
    }
    Ok(())
}

fn entry(label: u32) -> LabelEntry {
    const NONE: Address = [0; 16];
    LabelEntry {
        label,
        kind: LabelEntry::TRANSIT,
        direction: 1,
        sealed: 0,
        reserved: 0,
        circuit: u64::from(label),
        from: ebpf_abi::mapped(SOURCE_IP),
        to: ebpf_abi::mapped(HOP_IP),
        target: 1,
        out_label: label + 0x80_0000,
        mac: [0; 6],
        gateway: [0; 6],
        remote_v6: NONE,
        local_v6: NONE,
        remote_v4: [0; 4],
        local_v4: [0; 4],
        back: 0,
        mtu: 0,
        class: 0,
        reserved2: [0; 12],
    }
}

impl Bench {
    /// The sink counts and drops in XDP, whoever sends.
    fn listen(&mut self) -> Result<()> {
        self.wires.enter(SINK)?;
        let sink = self.wires.end(SINK, "k0")?.ifindex;
        program(&mut self.generator, "sink")?.attach_to_if_index(sink, XdpMode::Driver)?;
        self.wires.leave()
    }

    fn by_xdp(&mut self, dataplane: &mut Dataplane) -> Result<f64> {
        self.wires.enter(HOP)?;
        let xdp = program(dataplane, "underlay_xdp")?;
        let link = xdp.attach_to_if_index(self.entry.ifindex, XdpMode::Driver)?;
        let speed = self.run(HOP_IP, self.source);
        self.wires.enter(HOP)?;
        program(dataplane, "underlay_xdp")?.detach(link)?;
        self.wires.leave()?;
        speed
    }

    /// The hop's interface receives redirected frames only with NAPI, which GRO switches on.
    fn by_kernel(&mut self) -> Result<f64> {
        self.wires.enter(HOP)?;
        let set = std::process::Command::new("ethtool").args(["-K", "h0", "gro", "on"]).output();
        set.context("ethtool (package ethtool) is missing")?;
        let speed = self.run(SINK_IP, self.source);
        self.wires.leave()?;
        speed
    }

    /// From the hop's far interface straight into the sink.
    fn nothing(&mut self) -> Result<f64> {
        let out = self.wires.end(HOP, "h1")?;
        self.run_from(HOP, SINK_IP, out)
    }

    fn run(&mut self, to: [u8; 4], from: End) -> Result<f64> {
        self.run_from(SOURCE, to, from)
    }

    /// Packets per second that arrive, of frames sent out of this interface.
    fn run_from(&mut self, part: &str, to: [u8; 4], from: End) -> Result<f64> {
        self.wires.enter(part)?;
        let plan = Plan { head: head(self.entry.mac, from.mac, to), labels: LABELS, ifindex: from.ifindex };
        self.generator.put("PLAN", &0u32, &plan)?;
        let before = self.sunk()?;
        let mut frame = plan.head.to_vec();
        frame.resize(LENGTH, 0);
        let begun = Instant::now();
        // No context: frames need not arrive anywhere, the generator sends them on at once.
        let context = arrival(LENGTH, 0);
        bpf::live_frames(self.generator.program("generate")?, &frame, &context, FRAMES)?;
        let (arrived, took) = self.drained(before, begun)?;
        self.lost += u64::from(FRAMES).saturating_sub(arrived);
        self.wires.leave()?;
        Ok(arrived as f64 / took)
    }

    /// What arrived, and in how many seconds: frames still queued on the way are waited for.
    fn drained(&self, before: u64, begun: Instant) -> Result<(u64, f64)> {
        let mut seen = (self.sunk()? - before, begun.elapsed());
        while seen.0 < u64::from(FRAMES) && begun.elapsed() - seen.1 < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
            let arrived = self.sunk()? - before;
            if arrived > seen.0 {
                seen = (arrived, begun.elapsed());
            }
        }
        Ok((seen.0, seen.1.as_secs_f64()))
    }

    fn sunk(&self) -> Result<u64> {
        Ok(self.generator.per_cpu::<u64>("SUNK", 0)?.iter().sum())
    }
}

fn program<'a>(of: &'a mut Dataplane, name: &str) -> Result<&'a mut Xdp> {
    Ok(of.object_mut().program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// An `xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn arrival(length: usize, ifindex: u32) -> Vec<u8> {
    [0u32, length as u32, 0, ifindex, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Ethernet, IPv4, UDP and VXLAN headers of the frames.
fn head(to_mac: [u8; 6], from_mac: [u8; 6], to: [u8; 4]) -> [u8; 64] {
    let mut head = [0u8; 64];
    head[..6].copy_from_slice(&to_mac);
    head[6..12].copy_from_slice(&from_mac);
    head[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    head[16..18].copy_from_slice(&(LENGTH as u16 - 14).to_be_bytes());
    head[20..24].copy_from_slice(&[0x40, 0, 64, 17]);
    head[26..30].copy_from_slice(&SOURCE_IP);
    head[30..34].copy_from_slice(&to);
    let sum: u32 = head[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    head[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    head[34..38].copy_from_slice(&[0xc0, 0, 0x12, 0xb5]);
    head[38..40].copy_from_slice(&(LENGTH as u16 - 34).to_be_bytes());
    head[42] = 8;
    head
}
