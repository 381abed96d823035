//! What the fabric makes of its underlay: superpackets, native XDP, neighbours that change, links that come and go.
use crate::support::{Fabric, ROW, allow_icmp, allow_tcp, eventually, web_to_db};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use tests_kernel::lab::namespace;
use tests_kernel::traffic;

const BULK: usize = 32 << 20;

fn unshaped() -> String {
    ROW.replace("rate = \"1gbit\"", "")
}

/// The interface of a host on its first, second … underlay network.
fn interface(fabric: &Fabric, host: &str, index: usize) -> Result<String> {
    let host = fabric.lab.plan().host(host).context("a host of this lab")?;
    Ok(host.underlays[index].interface.clone())
}

/// Bytes and packets that a host sent out of an interface.
fn sent(fabric: &Fabric, host: &str, interface: &str) -> Result<(u64, u64)> {
    let output = fabric.lab.output(host, "ip", &["-s", "-j", "link", "show", "dev", interface])?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let count = |name: &str| links[0]["stats64"]["tx"][name].as_u64().with_context(|| format!("tx {name}"));
    Ok((count("bytes")?, count("packets")?))
}

/// One TCP stream from web to db.
fn transfer(fabric: &Fabric, to: SocketAddr) -> Result<usize> {
    let listener = traffic::listen(&fabric.namespace("db"), to)?;
    let receiver = std::thread::spawn(move || -> Result<usize> {
        let (mut stream, mut received, mut buffer) = (listener.accept()?.0, 0, vec![0; 1 << 16]);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received),
                some => received += some,
            }
        }
    });
    let mut stream = namespace::inside(&fabric.namespace("web"), || Ok(TcpStream::connect(to)?))?;
    stream.write_all(&vec![7; BULK])?;
    drop(stream);
    receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?
}

#[test]
fn superpackets_stay_whole_from_end_to_end() -> Result<()> {
    let fabric = Fabric::up("gso", &unshaped())?;
    fabric.circuit(web_to_db(vec![allow_tcp(5432)]))?;
    let way_out = interface(&fabric, "a", 0)?;
    let way_on = interface(&fabric, "t", 1)?;
    for address in fabric.addresses("db")? {
        let before = [sent(&fabric, "a", &way_out)?, sent(&fabric, "t", &way_on)?];
        assert_eq!(transfer(&fabric, SocketAddr::new(address, 5432))?, BULK);
        let after = [sent(&fabric, "a", &way_out)?, sent(&fabric, "t", &way_on)?];
        for (before, after) in before.into_iter().zip(after) {
            let (bytes, packets) = (after.0 - before.0, after.1 - before.1);
            assert!(bytes as usize > BULK, "{bytes} bytes crossed the underlay");
            assert!(bytes / packets > 4_500, "{bytes} bytes in {packets} frames: cut to the MTU of 1500");
        }
    }
    fabric.lab.down()
}

#[test]
fn circuit_crosses_hosts_with_native_xdp() -> Result<()> {
    let fabric = Fabric::up("xdp", &unshaped())?;
    for host in ["a", "t", "b"] {
        let file = fabric.lab.home(host).join("agent.toml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, text.replace("network = ", "transit = \"xdp\"\nnetwork = "))?;
        fabric.lab.kill_agent(host)?;
        fabric.lab.start_agent(host)?;
    }
    fabric.lab.wait_connected(&["a", "t", "b"])?;
    for index in [0, 1] {
        let link = interface(&fabric, "t", index)?;
        let shown = fabric.lab.output("t", "ip", &["-o", "link", "show", "dev", &link])?;
        let shown = String::from_utf8(shown.stdout)?;
        assert!(shown.contains(" xdp"), "no native XDP program: {shown}");
    }
    fabric.circuit(web_to_db(vec![allow_icmp(), allow_tcp(5432)]))?;
    eventually("packets pass", || fabric.both_families_pass())?;
    // A veth pair leaves checksums to hardware that it does not have, and XDP's redirect forgets that they are missing;
    // on a wire they are always there.
    for node in ["web", "db"] {
        let at = fabric.addresses(node)?[0].to_string();
        let shown = fabric.lab.output(node, "ip", &["-o", "address", "show", "to", &at])?;
        let shown = String::from_utf8(shown.stdout)?;
        let eni = shown.split_whitespace().nth(1).context("the interface of the resource")?;
        let set = fabric.lab.output(node, "ethtool", &["-K", eni, "tx", "off"])?;
        assert!(set.status.success(), "{set:?}");
    }
    for address in fabric.addresses("db")? {
        assert_eq!(transfer(&fabric, SocketAddr::new(address, 5432))?, BULK);
    }
    fabric.lab.down()
}

#[test]
fn neighbour_that_changes_its_mac_is_followed_without_a_controller() -> Result<()> {
    let fabric = Fabric::up("mac", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    let addresses = fabric.addresses("db")?;
    let passes = || -> Result<bool> {
        let mut all = true;
        for address in addresses {
            all &=
                traffic::ping(&fabric.namespace("web"), address, 2, 50).is_ok_and(|p| p.received == p.sent);
        }
        Ok(all)
    };
    fabric.lab.controller().kill()?;
    // The agents that follow the change have been told nothing since they started.
    for host in ["a", "b"] {
        fabric.lab.kill_agent(host)?;
        fabric.lab.start_agent(host)?;
    }
    for (index, mac) in [(0, "02:00:00:00:aa:01"), (1, "02:00:00:00:aa:02")] {
        let link = interface(&fabric, "t", index)?;
        let changed = fabric.lab.output("t", "ip", &["link", "set", "dev", &link, "address", mac])?;
        assert!(changed.status.success(), "{changed:?}");
    }
    eventually("packets go to the new MACs", passes)?;
    fabric.lab.down()
}

#[test]
fn underlay_link_that_went_down_carries_again_when_it_is_up() -> Result<()> {
    let fabric = Fabric::up("flap", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    let link = interface(&fabric, "t", 0)?;
    for state in ["down", "up"] {
        let set = fabric.lab.output("t", "ip", &["link", "set", "dev", &link, state])?;
        assert!(set.status.success(), "{set:?}");
        if state == "down" {
            let v4 = fabric.addresses("db")?[0];
            let pings = traffic::ping(&fabric.namespace("web"), v4, 3, 20)?;
            assert_eq!(pings.received, 0, "the only link is down");
        }
    }
    eventually("packets pass again", || fabric.both_families_pass())?;
    fabric.lab.down()
}
