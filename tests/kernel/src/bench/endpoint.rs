//! Measures the endpoint programs by test run: nanoseconds per packet, with few and with many rules on the host.
use crate::bench::bpf;
use crate::bench::dataplane::Dataplane;
use crate::bench::report::Series;
use anyhow::{Result, bail};
use ebpf_abi::flow::{Flow, FlowKey, NextHop};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::maps::Settings;
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::{Direction, mapped};

/// Runs per measurement.
const REPEAT: u32 = 200_000;
const LOOPBACK: u32 = 1;
const CIRCUIT: u64 = 1;
/// Rules of the circuit that is measured, in either case.
pub const OWN_RULES: u32 = 10;
const LABEL: u32 = 7;

const NEAR: [u8; 4] = [100, 64, 0, 1];
const FAR: [u8; 4] = [100, 64, 0, 2];
const OURS: [u8; 4] = [192, 0, 2, 1];
const THEIRS: [u8; 4] = [192, 0, 2, 2];

/// Nanoseconds per packet at 10 rules and at more.
#[derive(Debug, Default)]
pub struct Measured {
    pub few: Series,
    pub many: Series,
}

/// A workload's packet of an established connection: parsed, judged, counted, wrapped and sent.
///
/// # Errors
/// What the kernel says.
pub fn ingress(rounds: usize, rules: u32) -> Result<Measured> {
    let frame = datagram(&[0; 12], 64, NEAR, FAR);
    measure(rounds, rules, "eni_ingress", &frame, 7)
}

/// A circuit's packet of an established connection: parsed through its outer headers, judged, unwrapped and handed over.
///
/// # Errors
/// What the kernel says.
pub fn delivery(rounds: usize, rules: u32) -> Result<Measured> {
    let inner = datagram(&[0; 12], 64, FAR, NEAR);
    let mut payload = vec![8, 0, 0, 0, 0, 0, LABEL as u8, 0];
    payload.extend(inner);
    let frame = wrapped(&payload);
    measure(rounds, rules, "underlay_ingress", &frame, 7)
}

fn measure(rounds: usize, rules: u32, program: &str, frame: &[u8], verdict: i32) -> Result<Measured> {
    let (few, many) = (host(OWN_RULES)?, host(rules)?);
    let mut measured = Measured::default();
    for host in [&few, &many] {
        let ran = bpf::test_run(host.program(program)?, frame, &[], 1)?;
        if ran.verdict != verdict {
            bail!(
                "{program} answers {} instead of {verdict}: the bench measures something else",
                ran.verdict
            );
        }
    }
    for _ in 0..rounds {
        measured.few.add(nanoseconds(&few, program, frame)?);
        measured.many.add(nanoseconds(&many, program, frame)?);
    }
    Ok(measured)
}

/// Most packets of a connection find it established; the frame of a repeated run is changed by the first, so each run
/// is one packet, and the kernel's own clock around the program is what counts.
fn nanoseconds(host: &Dataplane, program: &str, frame: &[u8]) -> Result<f64> {
    let program = host.program(program)?;
    let mut total = 0.0;
    let runs = REPEAT / 100;
    for _ in 0..runs {
        total += bpf::test_run(program, frame, &[], 1)?.took.as_nanos() as f64;
    }
    Ok(total / f64::from(runs))
}

/// One circuit under ten rules, and other circuits with all the others.
fn host(rules: u32) -> Result<Dataplane> {
    let host = Dataplane::load()?;
    host.put("SETTINGS", &0u32, &Settings { port: 4789u16.to_be_bytes(), tracing: 0, reserved: [0; 5] })?;
    host.put("LOCALS", &mapped(OURS), &1u32)?;
    let hop = NextHop {
        local: mapped(OURS),
        remote: mapped(THEIRS),
        ifindex: LOOPBACK,
        source_mac: [2; 6],
        neighbour_mac: [4; 6],
        flags: NextHop::RESOLVED,
        longest: 1514,
    };
    host.put("NEXT_HOPS", &1u32, &hop)?;
    host.put("FLOWS", &FlowKey { eni: LOOPBACK, remote: mapped(FAR) }, &flow())?;
    host.put("LABELS", &LABEL, &label())?;
    for row in 0..rules {
        host.put("RULES", &row, &rule(row + 1))?;
    }
    for circuit in 0..u64::from(rules / OWN_RULES) {
        let set = RuleSetRef {
            circuit: circuit + CIRCUIT,
            start: u32::try_from(circuit)? * OWN_RULES,
            count: OWN_RULES,
            version: 1,
            reserved: 0,
        };
        host.put("RULESETS", &(circuit + CIRCUIT), &set)?;
    }
    Ok(host)
}

/// The last of ten allows.
fn rule(id: u32) -> RuleRow {
    let last = id.is_multiple_of(OWN_RULES);
    RuleRow {
        source: [0; 16],
        source_mask: [0; 16],
        destination: [0; 16],
        destination_mask: [0; 16],
        id,
        port_from: if last { 0 } else { 1 },
        port_to: if last { u16::MAX } else { 1 },
        protocol: RuleRow::ANY_PROTOCOL,
        directions: 3,
        allow: 1,
        family: 0,
        reserved: [0; 3],
    }
}

fn flow() -> Flow {
    Flow {
        circuit: CIRCUIT,
        local: mapped(NEAR),
        remote: mapped(FAR),
        slot: LABEL,
        target: 1,
        label: 9,
        mac: [6; 6],
        gateway: [8; 6],
        direction: Direction::Forward as u8,
        kind: Flow::TUNNEL,
        mtu: 1_450,
        group: 0,
        backup_target: 0,
        backup_label: 0,
        class: 0,
    }
}

fn label() -> LabelEntry {
    LabelEntry {
        label: LABEL,
        kind: LabelEntry::EGRESS,
        direction: Direction::Reverse as u8,
        sealed: 0,
        reserved: 0,
        circuit: CIRCUIT,
        from: mapped(THEIRS),
        to: mapped(OURS),
        target: LOOPBACK,
        out_label: 0,
        mac: [6; 6],
        gateway: [8; 6],
        remote_v6: [0; 16],
        local_v6: [0; 16],
        remote_v4: FAR,
        local_v4: NEAR,
        back: 0,
        mtu: 0,
        class: 0,
        reserved2: [0; 12],
    }
}

/// Ethernet, IPv4 and UDP around so many bytes.
fn datagram(macs: &[u8; 12], payload: usize, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    udp(macs, from, to, [0, 80, 0, 81], &vec![0; payload])
}

fn wrapped(payload: &[u8]) -> Vec<u8> {
    udp(&[0; 12], THEIRS, OURS, [0xc0, 0, 0x12, 0xb5], payload)
}

fn udp(macs: &[u8; 12], from: [u8; 4], to: [u8; 4], ports: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let long = |more: usize| u16::try_from(payload.len() + more).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = macs.to_vec();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(long(28));
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(ports);
    frame.extend(long(8));
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}
