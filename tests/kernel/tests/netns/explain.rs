//! Why a packet passes or not, and where packets go: asked of real hosts, about real packets.
use crate::support::{Fabric, PATIENCE, ROW, allow_icmp, allow_tcp, eventually, web_to_db};
use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::label::LabelEntry;
use proto_wire::v1;
use proto_wire::v1::trace_event::Event;
use proto_wire::v1::traced_packet::{Act, Hook};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tests_kernel::traffic;

const TCP: u32 = 6;
const ICMP: u32 = 1;

fn why(fabric: &Fabric, protocol: u32, port: u32, answer: bool, ipv6: bool) -> Result<v1::Trail> {
    ask(fabric, v1::WhyRequest { protocol, port, answer, ipv6, ..web_and_db() })
}

fn web_and_db() -> v1::WhyRequest {
    let [source, destination] = ["web", "db"].map(String::from);
    v1::WhyRequest { source, destination, protocol: ICMP, ..v1::WhyRequest::default() }
}

pub(crate) fn ask(fabric: &Fabric, request: v1::WhyRequest) -> Result<v1::Trail> {
    fabric.ask(async |mut client| Ok(client.why(request).await?.into_inner()))
}

fn nodes(trail: &v1::Trail) -> Vec<&str> {
    trail.hops.iter().map(|hop| hop.node.as_str()).collect()
}

fn reason(trail: &v1::Trail) -> Option<&str> {
    match trail.hops.last()?.ran.as_ref()?.fate.as_ref()? {
        v1::ran::Fate::Dropped(dropped) => Some(&dropped.reason),
        v1::ran::Fate::Sent(_) | v1::ran::Fate::Delivered(_) | v1::ran::Fate::NotOurs(_) => None,
    }
}

#[test]
fn why_says_what_the_hosts_do_without_doing_it() -> Result<()> {
    let fabric = Fabric::up("why", ROW)?;
    let none = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!((none.verdict(), none.hops.len()), (v1::trail::Verdict::Dropped, 0), "{none:?}");
    assert!(none.advice.contains("foreweave circuit create web db"), "{}", none.advice);

    let circuit = fabric.circuit(web_to_db(vec![allow_icmp(), allow_tcp(5432)]))?;
    for (protocol, port) in [(TCP, 5432), (ICMP, 0)] {
        for ipv6 in [false, true] {
            let passes = why(&fabric, protocol, port, false, ipv6)?;
            assert_eq!(passes.verdict(), v1::trail::Verdict::Passes, "{passes:?}");
            assert_eq!(nodes(&passes), ["a", "t", "b"]);
            let connections: Vec<_> =
                passes.hops.iter().filter_map(|hop| Some(hop.ran.as_ref()?.connection())).collect();
            use v1::ran::Connection::{Unspecified, WouldOpen};
            assert_eq!(connections, [WouldOpen, Unspecified, WouldOpen], "transit looks at no connection");
        }
    }
    let denied = why(&fabric, TCP, 22, false, false)?;
    assert_eq!((denied.verdict(), reason(&denied)), (v1::trail::Verdict::Dropped, Some("denied_by_rule")));
    assert_eq!(nodes(&denied), ["a"]);
    assert!(denied.advice.contains("foreweave rule add web-db \"allow tcp/22\""), "{}", denied.advice);
    let answer = why(&fabric, TCP, 5432, true, false)?;
    assert_eq!((nodes(&answer), reason(&answer)), (vec!["b"], Some("no_connection")));

    // A rule that ends by itself counts until then, and is shown with its end.
    let brief = v1::Rule { lifetime: 8_000_000_000, ..allow_tcp(22) };
    fabric.replace_rules("web-db", vec![allow_icmp(), allow_tcp(5432), brief])?;
    eventually("the rule is in force", || {
        let open = why(&fabric, TCP, 22, false, false)?;
        let rule = open.hops.first().map(|hop| hop.rule.starts_with("allow tcp/22 until "));
        Ok(open.verdict() == v1::trail::Verdict::Passes && rule == Some(true))
    })?;
    eventually("the rule ends", || {
        Ok(reason(&why(&fabric, TCP, 22, false, false)?) == Some("denied_by_rule"))
    })?;

    // All of this was asked and none of it done: no drop was counted, and what was foretold comes true.
    assert_eq!(fabric.drops(circuit.id, "denied_by_rule")?, 0);
    let target = SocketAddr::new(fabric.addresses("db")?[0], 5432);
    let _open = traffic::listen(&fabric.namespace("db"), target)?;
    assert!(traffic::connects(&fabric.namespace("web"), target, PATIENCE)?);
    assert!(fabric.both_families_pass()?);
    fabric.lab.down()
}

#[test]
fn why_finds_the_host_whose_kernel_lacks_what_it_should_have() -> Result<()> {
    let fabric = Fabric::up("lack", ROW)?;
    fabric.circuit(web_to_db(vec![allow_tcp(5432)]))?;
    let transit = pinned(&fabric, "t", "LABELS")?;
    let mut labels: Array<_, [u8; size_of::<LabelEntry>()]> = Array::try_from(Map::Array(transit))?;
    let held: Vec<u32> =
        (0..labels.len()).filter(|index| labels.get(index, 0).is_ok_and(|row| row[..4] != [0; 4])).collect();
    assert!(held.len() >= 2, "both directions have a label");
    for index in &held {
        labels.set(*index, [0; size_of::<LabelEntry>()], 0)?;
    }
    let lost = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!((nodes(&lost), reason(&lost)), (vec!["a", "t"], Some("unknown_label")), "{lost:?}");
    assert!(lost.sentence.starts_with("dropped at t:"), "{}", lost.sentence);

    let flows = pinned(&fabric, "a", "FLOWS")?;
    let mut flows: HashMap<_, [u8; size_of::<FlowKey>()], [u8; size_of::<Flow>()]> =
        HashMap::try_from(Map::HashMap(flows))?;
    let open: Vec<_> = flows.keys().collect::<Result<_, _>>()?;
    for key in &open {
        flows.remove(key)?;
    }
    let closed = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!((nodes(&closed), reason(&closed)), (vec!["a"], Some("no_circuit")), "{closed:?}");
    assert!(closed.sentence.contains("the gate of web-db is closed"), "{}", closed.sentence);

    fabric.lab.kill_agent("t")?;
    eventually("the controller notices", || Ok(fabric.node_state("t")? == v1::node::State::Lost))?;
    fabric.lab.down()
}

#[test]
fn why_does_not_take_a_program_at_its_word_that_hangs_nowhere() -> Result<()> {
    let fabric = Fabric::up("bare", ROW)?;
    fabric.circuit(web_to_db(vec![allow_tcp(5432)]))?;
    let passes = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!(passes.verdict(), v1::trail::Verdict::Passes, "{passes:?}");
    let host = passes.hops[0].ran.as_ref().context("a's part")?.interface.clone();
    // The pin is all that holds a link.
    for pin in std::fs::read_dir(fabric.lab.plan().pins("b"))? {
        let pin = pin?.path();
        if pin.to_string_lossy().ends_with("_tcx") {
            std::fs::remove_file(pin)?;
        }
    }
    let bare = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!((bare.verdict(), nodes(&bare)), (v1::trail::Verdict::Unknown, vec!["a", "t"]), "{bare:?}");
    assert!(bare.sentence.contains("underlay_ingress is not attached to "), "{}", bare.sentence);

    let gone = fabric.lab.output("a", "tc", &["qdisc", "del", "dev", &host, "clsact"])?;
    assert!(gone.status.success(), "{gone:?}");
    let bare = why(&fabric, TCP, 5432, false, false)?;
    assert_eq!((bare.verdict(), nodes(&bare)), (v1::trail::Verdict::Unknown, Vec::new()), "{bare:?}");
    assert!(bare.sentence.contains(&format!("eni_ingress is not attached to {host},")), "{}", bare.sentence);
    fabric.lab.down()
}

#[test]
fn why_follows_an_encrypted_packet_to_its_end_and_says_who_sees_ciphertext() -> Result<()> {
    let fabric = Fabric::up("why-seal", ROW)?;
    let bounds = v1::Bounds { encrypted: true, ..v1::Bounds::default() };
    let spec = v1::CircuitSpec { bounds: Some(bounds), ..web_to_db(vec![allow_icmp(), allow_tcp(5432)]) };
    let circuit = fabric.circuit(spec)?;
    eventually("keys are agreed on", || fabric.both_families_pass())?;
    use v1::ran::Sealing::Sealed;
    for ipv6 in [false, true] {
        for answer in [false, true] {
            // The pings above opened no connection with this identifier.
            let trail = why(&fabric, ICMP, 0, answer, ipv6)?;
            if answer {
                assert_eq!((nodes(&trail), reason(&trail)), (vec!["b"], Some("no_connection")), "{trail:?}");
                continue;
            }
            assert_eq!(trail.verdict(), v1::trail::Verdict::Passes, "{trail:?}");
            assert_eq!(nodes(&trail), ["a", "t", "b"]);
            let ran: Vec<_> = trail.hops.iter().filter_map(|hop| hop.ran.clone()).collect();
            assert!(ran.iter().all(|ran| ran.sealing() == Sealed), "{trail:?}");
            assert_eq!((ran[0].rule, ran[1].rule, ran[2].rule), (1, 0, 1), "transit reads no packet");
            assert_eq!((ran[0].program.as_str(), ran[2].program.as_str()), ("eni_ingress", "plain_ingress"));
            let notes: Vec<_> = trail.hops.iter().map(|hop| hop.note.as_str()).collect();
            assert_eq!(notes, ["encrypts it", "sees ciphertext only", "decrypts it"]);
        }
    }
    let denied = why(&fabric, TCP, 22, false, false)?;
    assert_eq!((nodes(&denied), reason(&denied)), (vec!["a"], Some("denied_by_rule")));
    assert_eq!(fabric.drops(circuit.id, "denied_by_rule")?, 0);
    for (host, device, program, before) in
        [("b", "fw-plain", "plain_ingress", vec!["a", "t"]), ("a", "fw-cipher", "cipher_ingress", Vec::new())]
    {
        let gone = fabric.lab.output(host, "tc", &["qdisc", "del", "dev", device, "clsact"])?;
        assert!(gone.status.success(), "{gone:?}");
        let bare = why(&fabric, TCP, 5432, false, false)?;
        assert_eq!((bare.verdict(), nodes(&bare)), (v1::trail::Verdict::Unknown, before), "{bare:?}");
        let said = format!("{program} is not attached to {device}");
        assert!(bare.sentence.contains(&said), "{}", bare.sentence);
    }
    fabric.lab.down()
}

#[test]
fn why_knows_how_long_a_packet_may_be() -> Result<()> {
    let fabric = Fabric::up("why-size", ROW)?;
    let circuit = fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let mtu = circuit.mtu;
    for ipv6 in [false, true] {
        for (size, passes) in [(mtu, true), (mtu + 1, false)] {
            let trail = ask(&fabric, v1::WhyRequest { size, ipv6, ..web_and_db() })?;
            assert_eq!(trail.verdict() == v1::trail::Verdict::Passes, passes, "{size}: {trail:?}");
            assert!(passes || reason(&trail) == Some("too_big"), "{trail:?}");
            assert!(passes || trail.sentence.contains(&format!("at most {mtu} pass")), "{}", trail.sentence);
        }
    }
    fabric.lab.down()
}

fn pinned(fabric: &Fabric, host: &str, map: &str) -> Result<MapData> {
    let name = match ebpf_abi::maps::version(map) {
        1 => format!("map_{}", map.to_lowercase()),
        version => format!("map_{}_v{version}", map.to_lowercase()),
    };
    let path = fabric.lab.plan().pins(host).join(name);
    MapData::from_pin(&path).with_context(|| path.display().to_string())
}

/// Follows web-db while web pings db, and returns what was told.
fn followed(fabric: &Fabric, snaplen: u32, pings: u32) -> Result<Vec<v1::trace_event::Packet>> {
    let request = v1::TraceRequest {
        circuit: "web-db".into(),
        filter: Some(v1::TraceFilter { protocol: Some(ICMP), port: None }),
        snaplen,
        lasts: PATIENCE.as_nanos() as u64,
        nodes: Vec::new(),
    };
    let (web, db) = (fabric.namespace("web"), fabric.addresses("db")?[0]);
    let pinger = move || traffic::ping(&web, db, pings, 50).map(|outcome| outcome.received);
    let expected = pings as usize * 6;
    fabric.ask(async move |mut client| {
        let mut stream = client.trace(request).await?.into_inner();
        let first = stream.message().await?.and_then(|event| event.event);
        let Some(Event::Began(began)) = first else { anyhow::bail!("{first:?} came first") };
        assert_eq!(began.nodes, ["a", "t", "b"]);
        // The hosts are told now; a packet before that is not seen.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let received = tokio::task::spawn_blocking(pinger).await??;
        assert_eq!(received, pings);
        let mut seen = Vec::new();
        while seen.len() < expected {
            match stream.message().await?.and_then(|event| event.event) {
                Some(Event::Packet(packet)) => seen.push(packet),
                other => anyhow::bail!("{other:?} after {} records", seen.len()),
            }
        }
        Ok(seen)
    })
}

#[test]
fn trace_follows_a_ping_over_three_hosts_and_back_and_ends_without_a_trace() -> Result<()> {
    let fabric = Fabric::up("trace", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let seen = followed(&fabric, 0, 3)?;
    let mut journeys: BTreeMap<u64, Vec<(u64, String, Act)>> = BTreeMap::new();
    for packet in &seen {
        let record = packet.packet.as_ref().context("a record")?;
        assert!(record.bytes.is_empty(), "nobody asked for bytes");
        journeys.entry(record.identity).or_default().push((record.at, packet.node.clone(), record.act()));
    }
    assert_eq!(journeys.len(), 6, "three requests and three replies: {journeys:?}");
    for journey in journeys.values_mut() {
        // One machine, one clock.
        journey.sort();
        let steps: Vec<_> = journey.iter().map(|(_, node, act)| (node.as_str(), *act)).collect();
        let there = [("a", Act::Entered), ("t", Act::PassedOn), ("b", Act::Delivered)];
        let back = [("b", Act::Entered), ("t", Act::PassedOn), ("a", Act::Delivered)];
        assert!(steps == there || steps == back, "{steps:?}");
    }
    // Whoever followed has gone: the hosts are told, and no map holds the circuit.
    for host in ["a", "t", "b"] {
        eventually("the host lets go", || {
            let traced: HashMap<_, u64, [u8; size_of::<ebpf_abi::trace::Wanted>()]> =
                HashMap::try_from(Map::HashMap(pinned(&fabric, host, "TRACED")?))?;
            Ok(traced.keys().count() == 0)
        })?;
    }
    assert!(fabric.both_families_pass()?);
    fabric.lab.down()
}

#[test]
fn capture_shows_the_inner_frame_at_the_ends_and_both_headers_in_between() -> Result<()> {
    let fabric = Fabric::up("capture", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let seen = followed(&fabric, 256, 1)?;
    let of = |node: &str, hook: &[Hook]| -> Vec<v1::TracedPacket> {
        let here =
            seen.iter().filter(|packet| packet.node == node).filter_map(|packet| packet.packet.clone());
        here.filter(|packet| hook.contains(&packet.hook())).collect()
    };
    let request = of("a", &[Hook::Eni]).pop().context("web's request at a")?;
    let passing: Vec<_> = of("t", &[Hook::Tcx, Hook::Xdp]);
    let same =
        passing.iter().find(|packet| packet.identity == request.identity).context("the request at t")?;
    // Ethernet, IPv4, UDP to 4789, VXLAN with the label; then what web sent, but for the Ethernet addresses.
    let frame = &same.bytes;
    assert_eq!((frame[23], &frame[36..38]), (17, &4789u16.to_be_bytes()[..]));
    assert_eq!(u32::from_be_bytes([0, frame[46], frame[47], frame[48]]), same.label);
    assert_eq!(frame[50 + 14..], request.bytes[14..]);
    assert_eq!(request.length as usize, request.bytes.len());
    fabric.lab.down()
}
