//! The file that `foreweave capture` writes is one that others read.
use controller_cli::capture::File;
use pcap_file::pcapng::{Block, PcapNgReader};
use proto_model::trace::{Act, Hook, Traced};
use proto_model::{CircuitId, Label, NodeName, Timestamp};
use std::path::Path;

const AT: u64 = 1_800_000_000_123_456_789;

fn packet(hook: Hook, act: Act, bytes: &[u8]) -> Traced {
    Traced {
        at: Timestamp(AT),
        circuit: CircuitId(7),
        hook,
        act,
        interface: "eth0".into(),
        label: Label::new(3),
        out_label: Label::new(9),
        identity: 42,
        source: None,
        destination: None,
        protocol: 17,
        source_port: 0,
        destination_port: 0,
        sealed: false,
        length: 1500,
        segment: 0,
        missed: 0,
        bytes: bytes.to_vec(),
    }
}

/// A UDP datagram from 192.0.2.1 to 192.0.2.2, port 4789.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0xf6, 0xc7, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend([0xd0, 0, 0x12, 0xb5, 0, 16, 0, 0, 8, 0, 0, 0, 0, 0, 9, 0]);
    frame
}

fn write(path: &Path) {
    let mut file = File::begin(path, File::open(path).expect("writable"), "web-db", 128).expect("a file");
    let [a, t] = ["edge-a", "transit"].map(|name| name.parse::<NodeName>().expect("name"));
    let drop = Act::Dropped { reason: "denied_by_rule".into(), rule: 0 };
    let last = Traced { at: Timestamp(AT + 900_000_000), ..packet(Hook::Eni, drop, &frame()[..40]) };
    let second = Traced { at: Timestamp(AT + 1), ..packet(Hook::Xdp, Act::PassedOn, &frame()) };
    // Hosts tell in batches.
    file.add(t, second).expect("written");
    file.add(a.clone(), packet(Hook::Eni, Act::Entered, &frame())).expect("written");
    file.add(a, last).expect("written");
    file.finish().expect("written");
}

#[test]
fn there_is_one_interface_per_host_and_hook_and_a_comment_at_each_packet() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web-db.pcapng");
    write(&path);
    let mut reader = PcapNgReader::new(std::fs::File::open(&path).expect("there")).expect("pcapng");
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a block") {
            Block::InterfaceDescription(interface) => interfaces.push(format!("{:?}", interface.options)),
            Block::EnhancedPacket(packet) => packets.push((
                packet.interface_id,
                packet.timestamp.as_nanos(),
                packet.original_len,
                packet.data.len(),
                format!("{:?}", packet.options),
            )),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(interfaces.len(), 2);
    assert!(
        interfaces[0].contains("edge-a/eth0") && interfaces[1].contains("transit/eth0"),
        "{interfaces:?}"
    );
    let shape: Vec<_> = packets.iter().map(|packet| (packet.0, packet.1, packet.2, packet.3)).collect();
    let at = u128::from(AT);
    assert_eq!(shape, [(0, at, 1500, 50), (1, at + 1, 1500, 50), (0, at + 900_000_000, 1500, 40)]);
    assert!(packets[0].4.contains("circuit web-db (c7): entered under label 9"), "{packets:?}");
    assert!(packets[1].4.contains("passed on (xdp, label 3 → 9)"), "{packets:?}");
    assert!(packets[2].4.contains("dropped: denied_by_rule, rule 0 (default deny)"), "{packets:?}");
}

#[test]
fn tcpdump_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web-db.pcapng");
    write(&path);
    let output = std::process::Command::new("tcpdump").arg("-nr").arg(&path).output();
    let output = output.expect("tcpdump is not installed; run: cargo xtask setup");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
    // What is inside a tunnel stands on lines of its own.
    let packets = text.lines().filter(|line| line.contains(" IP 192.0.2.1.")).count();
    assert_eq!(packets, 3, "{text}{complaints}");
    assert!(text.contains("192.0.2.1.53248 > 192.0.2.2.4789: VXLAN"), "{text}{complaints}");
}

#[test]
fn tcpdump_reads_a_file_without_a_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.pcapng");
    let file = File::begin(&path, File::open(&path).expect("writable"), "web-db", 128).expect("a file");
    file.finish().expect("written");
    let output = std::process::Command::new("tcpdump").arg("-nr").arg(&path).output();
    let output = output.expect("tcpdump is not installed; run: cargo xtask setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let refused = File::open(Path::new("/nowhere/x.pcapng")).expect_err("no such folder");
    assert!(refused.what().contains("/nowhere/x.pcapng"), "{refused:?}");
    assert_eq!(refused.exit_code(), 2);
}
