//! A circuit's limit: what passes, what does not, and what that is told with.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use ebpf_abi::flow::Flow;
use ebpf_abi::share::Meter;

const CIRCUIT: u64 = 5;
const CLASS: u16 = 9;
const RATE: u64 = 8_000_000;

fn host(limit: Option<u64>) -> Host {
    let host = Host::new().unwrap();
    for v6 in [false, true] {
        let (key, flow) = Host::flow(CIRCUIT, v6, true);
        host.put("FLOWS", &key, &Flow { class: CLASS, ..flow }).unwrap();
    }
    host.rules(CIRCUIT, 1, &[any(9, true)]).unwrap();
    if let Some(rate) = limit {
        host.put("METERS", &u32::from(CLASS), &Meter::of(rate)).unwrap();
    }
    host
}

fn packet(v6: bool) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    let mut udp = frame::udp(1000, 2000);
    udp.resize(1_008, 0);
    udp[4..6].copy_from_slice(&1_008u16.to_be_bytes());
    frame::ip_frame(&frame::ip(near, far, 17, &udp))
}

fn paid(host: &Host) -> u64 {
    host.get::<u32, Meter>("METERS", &u32::from(CLASS)).unwrap().unwrap().paid
}

/// Nothing comes in between: a bucket that is paid for long beyond its burst takes no packet.
fn fill(host: &Host, rate: u64) {
    host.put("METERS", &u32::from(CLASS), &Meter { paid: u64::MAX / 2, ..Meter::of(rate) }).unwrap();
}

#[test]
fn what_is_over_the_limit_is_dropped_by_name_and_circuit_in_both_families() {
    let host = host(Some(RATE));
    for v6 in [false, true] {
        host.sends(ENI, &packet(v6));
    }
    fill(&host, RATE);
    for v6 in [false, true] {
        host.refuses(ENI, &packet(v6), CIRCUIT, Reason::OverLimit, 0);
    }
    assert_eq!(paid(&host), u64::MAX / 2, "what is dropped is not paid for");
}

#[test]
fn both_families_pay_into_one_bucket_by_their_bytes() {
    let host = host(Some(RATE));
    host.sends(ENI, &packet(false));
    let first = paid(&host);
    assert!(first > 0);
    // While the bucket is ahead of the clock, each packet adds what it takes: 8 bits per byte at 8 Mbit/s.
    host.put(
        "METERS",
        &u32::from(CLASS),
        &Meter { paid: first + (1 << 40), burst: 1 << 41, ..Meter::of(RATE) },
    )
    .unwrap();
    for (v6, header) in [(false, 20), (true, 40)] {
        let before = paid(&host);
        host.sends(ENI, &packet(v6));
        assert!((paid(&host) - before).abs_diff((1_008 + header) * 1_000) <= 1, "IPv6: {v6}");
    }
}

#[test]
fn a_bucket_that_was_empty_for_long_catches_up_with_the_clock() {
    let host = host(Some(RATE));
    host.sends(ENI, &packet(false));
    let clock = paid(&host);
    host.put("METERS", &u32::from(CLASS), &Meter { paid: 5, ..Meter::of(RATE) }).unwrap();
    host.sends(ENI, &packet(false));
    assert!(paid(&host) >= clock, "{} is before {clock}", paid(&host));
}

#[test]
fn a_class_without_a_limit_passes_everything() {
    let host = host(None);
    for v6 in [false, true] {
        for _ in 0..100 {
            host.sends(ENI, &packet(v6));
        }
    }
    assert_eq!(host.all_drops().unwrap(), 0);
}
