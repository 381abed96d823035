//! Times a mebibyte over an underlay of 1,280 bytes where no ICMP passes, against one of 1,500 where everything does.
use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::ProgressBar;
use proto_wire::v1;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tests_kernel::lab::{Lab, Options, api, file, namespace};
use tests_kernel::measure::{Row, Spread, print};
use tests_kernel::traffic;

#[derive(Parser)]
struct Arguments {
    /// Transfers per underlay and family.
    #[arg(long, default_value_t = 40)]
    repeats: usize,
    /// 3 transfers, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

const HOSTS: [&str; 3] = ["a", "t", "b"];
const PORT: u16 = 5432;
const MEBIBYTE: usize = 1 << 20;
/// Of every link: slow enough that the wire bounds the transfer, not this machine's processors.
const RATE: &str = "100mbit";
const PATIENCE: Duration = Duration::from_secs(20);
/// What a network drops that "blocks ICMP".
const SILENCE: &str = "table inet silent { \
    chain incoming { type filter hook prerouting priority -300; \
    icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; \
    chain outgoing { type filter hook output priority -300; \
    icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }";

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.repeats = 3;
    }
    let narrow = Stage::up("narrow", 1_280)?;
    let wide = Stage::up("wide", 1_500)?;
    narrow.silence()?;
    let mut rows = Vec::new();
    for (index, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let (mut over_narrow, mut over_wide) = (Vec::new(), Vec::new());
        for _ in 0..arguments.repeats {
            over_narrow.push(narrow.transfer(index)?);
            over_wide.push(wide.transfer(index)?);
        }
        rows.push(Row::compared(
            &format!(
                "1 MiB by TCP over {family}, underlay of 1,280 bytes, ICMP blocked, ms (must be ≤ 1.2 ×)"
            ),
            Spread::of(&over_narrow),
            "underlay of 1,500 bytes, nothing blocked",
            Spread::of(&over_wide),
        ));
    }
    let how = format!(
        "Two labs of three hosts with links of {RATE}, in turn, {} transfers each, a new connection for every one; from the \
         first SYN to the answer to the last byte",
        arguments.repeats
    );
    print("Narrow underlay", &how, &rows, arguments.json);
    narrow.lab.down()?;
    wide.lab.down()
}

/// A lab with a circuit from web to db.
struct Stage {
    lab: Lab,
    db: [IpAddr; 2],
}

impl Stage {
    fn up(name: &str, mtu: u16) -> Result<Self> {
        let plan = file::parse(&topology(mtu), Some(&format!("{name}-{}", std::process::id())))?;
        let lab = Lab::up(plan, Options { register: true, ..Options::default() }, &ProgressBar::hidden())?;
        let request = v1::CreateCircuitRequest {
            circuit: Some(v1::CircuitSpec {
                source: "web".into(),
                destination: "db".into(),
                rules: vec![v1::Rule {
                    action: v1::rule::Action::Allow.into(),
                    protocol: v1::rule::Protocol::Tcp.into(),
                    ..v1::Rule::default()
                }],
                ..v1::CircuitSpec::default()
            }),
            idempotency_key: String::new(),
            wait: PATIENCE.as_nanos() as u64,
        };
        let db = api::ask(lab.plan(), async |mut client| {
            let circuit = client.create_circuit(request).await?.into_inner();
            if circuit.state() != v1::circuit::State::Active {
                bail!("the circuit is {:?}: {}", circuit.state(), circuit.detail);
            }
            let resources = client.list_resources(v1::Empty {}).await?.into_inner().resources;
            let db = resources.into_iter().find(|one| one.resource_id == "db").context("db is registered")?;
            let address = db.address.context("it has an address")?;
            Ok([address.v4.parse()?, address.v6.parse()?])
        })?;
        Ok(Self { lab, db })
    }

    fn silence(&self) -> Result<()> {
        for node in HOSTS.into_iter().chain(["web", "db"]) {
            let output = self.lab.output(node, "nft", &[SILENCE])?;
            if !output.status.success() {
                bail!("nft in {node}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(())
    }

    /// Milliseconds from the connection's first packet until the far end has all of a mebibyte and has said so.
    fn transfer(&self, family: usize) -> Result<f64> {
        let target = SocketAddr::new(self.db[family], PORT);
        let listener = traffic::listen(&self.lab.plan().namespace("db")?, target)?;
        let receiver = std::thread::spawn(move || -> Result<()> {
            let mut stream = listener.accept()?.0;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut vec![0; MEBIBYTE])?;
            Ok(stream.write_all(&[1])?)
        });
        let took = namespace::inside(&self.lab.plan().namespace("web")?, || {
            let began = Instant::now();
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&vec![7; MEBIBYTE])?;
            stream.read_exact(&mut [0])?;
            Ok(began.elapsed())
        })?;
        receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        Ok(took.as_secs_f64() * 1e3)
    }
}

fn topology(mtu: u16) -> String {
    let mut text = "name = \"mtu\"\n".to_owned();
    HOSTS.iter().for_each(|host| text += &format!("[[node]]\nname = \"{host}\"\n"));
    for (one, other) in [("a", "t"), ("t", "b")] {
        text += &format!("[[link]]\nends = [\"{one}\", \"{other}\"]\nrate = \"{RATE}\"\nmtu = {mtu}\n");
    }
    text + "[[workload]]\nname = \"web\"\nnode = \"a\"\n[[workload]]\nname = \"db\"\nnode = \"b\"\n"
}
