//! Circuits whose path dies: they go on by their other path, with no controller, and come back when it is good again.
use crate::support::{
    FLOW, Fabric, PATIENCE, allow_icmp, allow_tcp, allow_udp, block_icmp, count, eventually, settled,
    web_to_db, within,
};
use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use proto_model::Latency;
use proto_wire::v1;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;
use tests_kernel::lab::link::{Change, Step};
use tests_kernel::lab::{Snapshot, namespace};
use tests_kernel::protection::scene::{EDGES, HOSTS, topology};
use tests_kernel::protection::ways::Ways;
use tests_kernel::traffic::{self, Flow};

const NOTHING: Vec<String> = Vec::new();
/// More than the agents wait before they trust a path again.
const HOLD_DOWN: Duration = Duration::from_secs(150);
const MEBIBYTE: usize = 1 << 20;

/// A protected circuit from web to db.
struct Protected {
    fabric: Fabric,
    /// The transit host of its first path.
    transit: String,
    /// Addresses of db, IPv4 first.
    db: [IpAddr; 2],
}

impl Protected {
    fn up(test: &str, topology: &str) -> Result<Self> {
        let fabric = Fabric::up(test, topology)?;
        let db = fabric.addresses("db")?;
        let mut protected = Self { fabric, transit: String::new(), db };
        protected.weave()?;
        Ok(protected)
    }

    fn weave(&mut self) -> Result<v1::Circuit> {
        let circuit = self.fabric.circuit(web_to_db(vec![allow_icmp(), allow_udp(FLOW), allow_tcp(5432)]))?;
        let path = circuit.path.clone().context("no path")?;
        let backup = circuit.backup.clone().with_context(|| format!("no backup: {}", circuit.protection))?;
        assert_eq!((path.nodes.len(), backup.nodes.len()), (3, 3), "{path:?} and {backup:?}");
        assert_ne!(path.nodes[1], backup.nodes[1], "both ways cross the same host");
        self.transit.clone_from(&path.nodes[1]);
        eventually("both ends have a group", || {
            Ok(self.ways()?.iter().all(|ways| ways.protected == 2 && ways.unprotected == 0))
        })?;
        // A path counts once it has answered.
        eventually("packets pass", || self.passes())?;
        Ok(circuit)
    }

    fn ways(&self) -> Result<[Ways; 2]> {
        Ok([Ways::of(&self.fabric.lab, EDGES[0])?, Ways::of(&self.fabric.lab, EDGES[1])?])
    }

    /// Whether both ends send by the backup (or both by the path).
    fn both_on(&self, backup: bool) -> Result<bool> {
        let mut all = true;
        for ways in self.ways()? {
            all &= if backup { ways.all_on_backup()? } else { ways.on_backup()?.is_empty() };
        }
        Ok(all)
    }

    /// Whether the agent of a host has turned its group for this reason.
    fn said(&self, host: &str, why: &str) -> Result<bool> {
        let log = std::fs::read_to_string(self.fabric.lab.agent(host).log())?;
        Ok(log.lines().any(|line| line.contains("protection turned a group") && line.contains(why)))
    }

    /// web reaches db and hears back, both families; asks no controller.
    fn passes(&self) -> Result<bool> {
        let mut pass = true;
        for address in self.db {
            let pings = traffic::ping(&self.fabric.namespace("web"), address, 5, 20)?;
            pass &= pings.received == pings.sent;
        }
        Ok(pass)
    }

    /// The lost way is not in it; that the backup is used is said where it is.
    fn is_explained(&self) -> Result<()> {
        for answer in [false, true] {
            let (protocol, port) = (17, FLOW.into());
            let [source, destination] = ["web", "db"].map(String::from);
            let request = v1::WhyRequest { source, destination, protocol, port, ..v1::WhyRequest::default() };
            let trail = crate::explain::ask(&self.fabric, v1::WhyRequest { answer, ..request })?;
            assert!(trail.hops.iter().all(|hop| hop.node != self.transit), "{trail:?}");
            let first = trail.hops.first().context("a host")?;
            if let Some(v1::ran::Fate::Sent(sent)) = first.ran.as_ref().and_then(|ran| ran.fate.as_ref()) {
                let backup = sent.way() == v1::ran::Way::Backup;
                assert_eq!(backup, first.note.starts_with("by the backup"), "{trail:?}");
                assert_eq!(trail.verdict(), v1::trail::Verdict::Passes, "{trail:?}");
            } else {
                assert!(answer, "{trail:?}");
            }
        }
        Ok(())
    }

    /// The link from `a` to the first path's transit host, both ways.
    fn change(&self, change: &Change) -> Result<()> {
        self.fabric.lab.change("a", &self.transit, change)
    }

    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.db[0], FLOW)
    }
}

#[test]
fn circuit_leaves_a_dead_path_without_a_controller_and_comes_back_after_the_hold_down() -> Result<()> {
    let protected = Protected::up("dead-path", &topology(""))?;
    let lab = &protected.fabric.lab;
    lab.controller().kill()?;
    protected.change(&Change::Blackhole)?;
    eventually("both ends send by the backup", || protected.both_on(true))?;
    eventually("packets pass", || protected.passes())?;
    protected.change(&Change::Mend)?;
    assert!(protected.both_on(true)?, "a path is trusted at once");
    within(HOLD_DOWN, "both ends are back on the path", || protected.both_on(false))?;
    assert!(protected.passes()?);
    lab.start_controller()?;
    lab.wait_connected(&HOSTS)?;
    eventually("the controller knows", || {
        let request = v1::CircuitRequest { circuit: "web-db".into() };
        let circuit =
            protected.fabric.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner()))?;
        Ok(circuit.state() == v1::circuit::State::Active && circuit.on_backup.is_empty())
    })?;
    lab.change("a", &protected.transit, &Change::Reset)?;
    protected.fabric.lab.down()
}

#[test]
fn both_directions_stay_usable_when_only_one_is_lost() -> Result<()> {
    let mut protected = Protected::up("one-way", &topology(""))?;
    for there in [true, false] {
        if !there {
            // A new circuit begins on its path, which works again.
            protected.fabric.delete("web-db")?;
            protected.weave()?;
        }
        assert!(protected.both_on(false)?, "on the path that is about to be lost");
        let (lab, transit) = (&protected.fabric.lab, protected.transit.as_str());
        let (from, to) = if there { ("a", transit) } else { (transit, "a") };
        lab.change_one_way(from, to, &Change::Blackhole)?;
        eventually("both ends send by the backup", || protected.both_on(true))?;
        eventually("packets pass both ways", || protected.passes())?;
        protected.is_explained()?;
        let flow = Flow::start(
            &protected.fabric.namespace("web"),
            &protected.fabric.namespace("db"),
            protected.target(),
            1_000,
        )?;
        assert!(protected.passes()?);
        let outcome = flow.finish()?;
        assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{from} → {to} is lost: {outcome:?}");
        lab.change_one_way(from, to, &Change::Mend)?;
    }
    protected.fabric.lab.down()
}

/// Of the two ends `a` loses its carrier and `b`, behind a transit host, does not.
#[test]
fn an_end_that_sees_its_carrier_go_turns_to_the_backup_and_tells_the_other_end() -> Result<()> {
    let protected = Protected::up("carrier", &topology(""))?;
    protected.fabric.lab.controller().kill()?;
    protected.change(&Change::Cut)?;
    eventually("both ends send by the backup", || protected.both_on(true))?;
    for (host, why) in
        [("a", "has no carrier; the backup"), ("b", "the far end says that its interface has no")]
    {
        eventually(&format!("{host} says that {why}"), || protected.said(host, why))?;
    }
    eventually("packets pass", || protected.passes())?;
    protected.change(&Change::Mend)?;
    within(HOLD_DOWN, "both ends are back on the path", || protected.both_on(false))?;
    eventually("packets pass again", || protected.passes())?;
    protected.fabric.lab.down()
}

#[test]
fn agents_killed_while_on_the_backup_stay_there_and_lose_nothing() -> Result<()> {
    let protected = Protected::up("killed-on-backup", &topology(""))?;
    let fabric = &protected.fabric;
    protected.change(&Change::Blackhole)?;
    eventually("both ends send by the backup", || protected.both_on(true))?;
    eventually("packets pass", || protected.passes())?;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), protected.target(), 2_000)?;
    for host in EDGES.into_iter().chain(HOSTS) {
        fabric.lab.kill_agent(host)?;
        assert!(protected.both_on(true)?, "after the agent of {host} was killed");
        fabric.lab.start_agent(host)?;
        fabric.lab.wait_connected(&[host])?;
        assert!(protected.both_on(true)?, "after the agent of {host} was started");
    }
    eventually("the controller knows that both ends are on the backup", || {
        let request = v1::CircuitRequest { circuit: "web-db".into() };
        let circuit = fabric.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner()))?;
        Ok(circuit.on_backup.len() == 2)
    })?;
    let outcome = flow.finish()?;
    assert!(outcome.sent > 1_000, "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert!(protected.both_on(true)?);
    protected.fabric.lab.down()
}

/// Labels in use on a host, and groups that are turned.
fn in_use(fabric: &Fabric, host: &str) -> Result<(usize, usize)> {
    let pins = fabric.lab.plan().pins(host);
    let open = |name: &str| -> Result<Map> {
        Ok(Map::Array(MapData::from_pin(pins.join(name)).with_context(|| name.to_owned())?))
    };
    let labels: Array<_, [u8; 128]> = Array::try_from(open(&ebpf_abi::maps::pin("LABELS"))?)?;
    let groups: Array<_, u32> = Array::try_from(open("map_groups")?)?;
    let mut used = (0, 0);
    for label in labels.iter() {
        used.0 += usize::from(label?[..4] != [0; 4]);
    }
    for group in groups.iter() {
        used.1 += usize::from(group? != 0);
    }
    Ok(used)
}

#[test]
fn deleted_protected_circuit_leaves_nothing_even_while_on_its_backup() -> Result<()> {
    let mut protected = Protected::up("deleted", &topology(""))?;
    protected.fabric.delete("web-db")?;
    let nodes = HOSTS.into_iter().chain(["web", "db"]).collect::<Vec<_>>();
    let before: Vec<Snapshot> = nodes
        .iter()
        .map(|node| Snapshot::of_namespace(&protected.fabric.namespace(node)))
        .collect::<Result<_>>()?;
    for turned in [false, true] {
        protected.weave()?;
        if turned {
            protected.change(&Change::Blackhole)?;
            eventually("both ends send by the backup", || protected.both_on(true))?;
            protected.change(&Change::Mend)?;
        }
        let fabric = &protected.fabric;
        for host in HOSTS {
            assert!(in_use(fabric, host)?.0 > 0, "no label on {host}: both paths should be built");
        }
        fabric.delete("web-db")?;
        for host in HOSTS {
            eventually(&format!("{host} has no label in use and no group turned"), || {
                Ok(in_use(fabric, host)? == (0, 0))
            })?;
        }
        for (node, before) in nodes.iter().zip(&before) {
            let now = || Snapshot::of_namespace(&fabric.namespace(node));
            assert_eq!(settled(before, now)?, NOTHING, "on {node}, turned: {turned}");
        }
    }
    protected.fabric.lab.down()
}

#[test]
fn mebibyte_passes_a_smaller_backup_with_icmp_blocked_also_right_after_the_switch() -> Result<()> {
    // The second way is the dearer one, and holds 1280 bytes of IPv6 besides the tunnel's headers.
    let small = topology("").replace("\"t2\"]\n", "\"t2\"]\nmtu = 1350\nprice = \"0.1$/GB\"\n");
    let small = small
        .replace("ends = [\"t2\", \"b\"]\n", "ends = [\"t2\", \"b\"]\nmtu = 1350\nprice = \"0.1$/GB\"\n");
    assert_eq!(small.matches("mtu = 1350").count(), 2);
    let mut protected = Protected::up("mtu", &small)?;
    block_icmp(&protected.fabric, &["a", "t1", "t2", "b", "web", "db"])?;
    for index in [0, 1] {
        if index == 1 {
            protected.fabric.delete("web-db")?;
            protected.change(&Change::Mend)?;
            protected.weave()?;
        }
        // Measured links may choose another path by now; then nothing of this would go over the smaller one.
        assert_eq!(protected.transit, "t1", "before IPv{}", if index == 0 { 4 } else { 6 });
        assert!(protected.both_on(false)?, "both ends begin on the larger way");
        let target = SocketAddr::new(protected.db[index], 5432);
        let listener = traffic::listen(&protected.fabric.namespace("db"), target)?;
        let receiver = std::thread::spawn(move || count(&listener));
        let mut stream = namespace::inside(&protected.fabric.namespace("web"), || {
            Ok(TcpStream::connect_timeout(&target, PATIENCE)?)
        })?;
        stream.set_write_timeout(Some(4 * PATIENCE))?;
        stream.write_all(&vec![7; MEBIBYTE])?;
        protected.change(&Change::Blackhole)?;
        // The connection that was there before the switch, while it happens and after it.
        stream.write_all(&vec![7; MEBIBYTE])?;
        eventually("both ends send by the backup", || protected.both_on(true))?;
        stream.write_all(&vec![7; MEBIBYTE])?;
        drop(stream);
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        assert_eq!(received, 3 * MEBIBYTE, "to {target}");
        // And one that begins on the smaller path.
        let listener = traffic::listen(&protected.fabric.namespace("db"), target)?;
        let receiver = std::thread::spawn(move || count(&listener));
        let mut stream = namespace::inside(&protected.fabric.namespace("web"), || {
            Ok(TcpStream::connect_timeout(&target, PATIENCE)?)
        })?;
        stream.set_write_timeout(Some(4 * PATIENCE))?;
        stream.write_all(&vec![7; MEBIBYTE])?;
        drop(stream);
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        assert_eq!(received, MEBIBYTE, "to {target}, begun on the backup");
    }
    protected.fabric.lab.down()
}

#[test]
fn links_are_measured_near_their_emulated_delay() -> Result<()> {
    let slow = topology("").replacen("[[link]]\n", "[[link]]\ndelay = \"6ms\"\n", 1);
    let fabric = Fabric::up("measured", &slow)?;
    let measured = |network: &str| -> Result<Vec<u64>> {
        let output = fabric.lab.foreweave()?.args(["--json", "link", "list"]).output()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let links = answer["links"].as_array().context("links")?;
        let link = links.iter().find(|link| link["id"]["network"] == network).context("the link")?;
        let ends = link["measured"].as_array().into_iter().flatten();
        Ok(ends.filter_map(|end| end["measured"]["rtt_min"].as_u64()).filter(|rtt| *rtt > 0).collect())
    };
    eventually("both ends of every link have measured it", || {
        Ok(["a-t1", "t1-b", "a-t2", "t2-b"]
            .iter()
            .all(|link| measured(link).is_ok_and(|ends| ends.len() == 2)))
    })?;
    // Nothing is faster than the emulator, and what it does not delay is faster than what it does, however busy the
    // machine is.
    let (slow, fast) = (measured("a-t1")?, measured("t2-b")?);
    assert!(slow.iter().all(|rtt| *rtt >= 12_000_000), "{slow:?} ns with 12 ms of delay");
    assert!(
        fast.iter().all(|rtt| rtt < slow.iter().min().unwrap_or(&0)),
        "{fast:?} ns without, {slow:?} with"
    );
    fabric.lab.down()
}

/// The controller moves it before its agents have a reason to: 12 ms more are not slow enough for them.
#[test]
fn a_circuit_moves_to_a_better_path_and_loses_nothing() -> Result<()> {
    let mut protected = Protected::up("better-path", &topology("delay = \"2ms\""))?;
    for (one, other) in [("a", "t1"), ("t1", "b"), ("a", "t2"), ("t2", "b")] {
        let output = protected.fabric.lab.foreweave()?.args(["link", "set", one, other]).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Until it is known how far measurements go astray.
    std::thread::sleep(Duration::from_secs(30));
    let fabric = &protected.fabric;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), protected.target(), 2_000)?;
    protected.change(&Change::Delay(Step::To(Latency::from_millis(8))))?;
    let shown = || {
        let request = v1::CircuitRequest { circuit: "web-db".into() };
        fabric.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner()))
    };
    within(Duration::from_secs(120), "the circuit has moved", || Ok(!shown()?.moved.is_empty()))?;
    let moved = shown()?;
    assert_ne!(moved.path.context("no path")?.nodes[1], protected.transit);
    assert!(moved.moved.contains("it cost"), "{}", moved.moved);
    std::thread::sleep(Duration::from_secs(3));
    let outcome = flow.finish()?;
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert!(protected.passes()?);
    protected.transit.clear();
    protected.fabric.lab.down()
}
