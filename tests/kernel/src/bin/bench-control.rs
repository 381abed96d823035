//! Measures control: from the call to the first delivered packet, circuits per second, memory of the agent.
use anyhow::{Context, Result, bail};
use clap::Parser;
use proto_wire::v1;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests_kernel::bench::line;
use tests_kernel::lab::{Lab, Options, api, namespace};
use tests_kernel::many::{self, AT_ONCE, PATIENCE};
use tests_kernel::measure::{Row, Spread, percentile, print};
use tests_kernel::pretend;

#[derive(Parser)]
struct Arguments {
    /// How often a circuit is set up for the first row.
    #[arg(long, default_value_t = 200)]
    repeat: u64,
    /// Circuits for the rate and for the memory.
    #[arg(long, default_value_t = 10_000)]
    circuits: usize,
    /// 10 set-ups and 400 circuits, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

const PORT: u16 = 9000;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.repeat, arguments.circuits) = (10, 400);
    }
    let mut rows = set_up(arguments.repeat)?;
    rows.extend(rate(arguments.circuits)?);
    rows.extend(memory(arguments.circuits)?);
    let how = format!(
        "{} set-ups in a lab of three hosts; {} circuits between pairs of resources, {AT_ONCE} requests at a time, durable store on",
        arguments.repeat, arguments.circuits
    );
    print("Control", &how, &rows, arguments.json);
    Ok(())
}

// ---- from the call to the first packet

fn set_up(repeat: u64) -> Result<Vec<Row>> {
    eprintln!("  circuit set-up, {repeat} times");
    let lab = line::up("setup", None, Options { register: true, ..Options::default() })?;
    let resources = api::ask(lab.plan(), async |mut client| {
        Ok(client.list_resources(v1::Empty {}).await?.into_inner().resources)
    })?;
    let db = resources.iter().find(|resource| resource.resource_id == "db").context("db is registered")?;
    let target: IpAddr = db.address.as_ref().context("db has an address")?.v4.parse()?;
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listening = namespace::inside(&lab.plan().namespace("db")?, || Ok(UdpSocket::bind(any)?))?;
    listening.set_read_timeout(Some(Duration::from_secs(10)))?;
    let sending = namespace::inside(&lab.plan().namespace("web")?, || Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    // The number of the set-up under way; 0: be silent.
    let round = AtomicU64::new(0);
    let times = std::thread::scope(|scope| {
        scope.spawn(|| send(&sending, SocketAddr::new(target, PORT), &round));
        let times =
            (1..=repeat).map(|number| once(&lab, &listening, &round, number)).collect::<Result<Vec<f64>>>();
        round.store(u64::MAX, Ordering::Relaxed);
        times
    })?;
    lab.down()?;
    let (least, most) = (percentile(&times, 0.0), percentile(&times, 1.0));
    let row = |name: &str, share: f64, must: &str| {
        let spread = Spread { median: percentile(&times, share), least, most };
        Row::alone(
            &format!("create_circuit over 3 hosts, call to first delivered packet, {name}, ms"),
            spread,
            must,
        )
    };
    Ok(vec![row("p50", 0.5, "must be ≤ 50"), row("p99", 0.99, "must be ≤ 150")])
}

/// A packet every 100 µs while a set-up is under way; before the circuit is there, the kernel may refuse it.
fn send(socket: &UdpSocket, to: SocketAddr, round: &AtomicU64) {
    loop {
        match round.load(Ordering::Relaxed) {
            u64::MAX => return,
            0 => {}
            number => drop(socket.send_to(&number.to_be_bytes(), to)),
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Milliseconds from the call to the first packet at the other end.
fn once(lab: &Lab, listening: &UdpSocket, round: &AtomicU64, number: u64) -> Result<f64> {
    let create = v1::CreateCircuitRequest {
        circuit: Some(spec("web", "db")),
        idempotency_key: String::new(),
        wait: PATIENCE,
    };
    api::ask(lab.plan(), async |mut client| {
        // The connection is there before the clock runs: a controller's clients keep theirs.
        client.get_status(v1::Empty {}).await?;
        round.store(number, Ordering::Relaxed);
        let begun = Instant::now();
        let receiving = listening.try_clone()?;
        let arrival = tokio::task::spawn_blocking(move || first(&receiving, number));
        client.create_circuit(create).await.context("create")?;
        let arrived = arrival.await??;
        round.store(0, Ordering::Relaxed);
        let delete = v1::DeleteCircuitRequest { circuit: "web-db".into(), wait: PATIENCE };
        client.delete_circuit(delete).await.context("delete")?;
        Ok(arrived.duration_since(begun).as_secs_f64() * 1e3)
    })
}

/// When the first packet of this set-up came.
fn first(socket: &UdpSocket, number: u64) -> Result<Instant> {
    let mut packet = [0; 8];
    loop {
        socket.recv(&mut packet).context("no packet came through the circuit")?;
        if u64::from_be_bytes(packet) == number {
            return Ok(Instant::now());
        }
    }
}

fn spec(source: &str, destination: &str) -> v1::CircuitSpec {
    let udp = v1::Rule {
        action: v1::rule::Action::Allow.into(),
        protocol: v1::rule::Protocol::Udp.into(),
        ports: Some(v1::rule::Ports { from: PORT.into(), to: PORT.into() }),
        ..v1::Rule::default()
    };
    v1::CircuitSpec {
        source: source.into(),
        destination: destination.into(),
        rules: vec![udp],
        ..v1::CircuitSpec::default()
    }
}

// ---- circuits per second

fn rate(circuits: usize) -> Result<Vec<Row>> {
    eprintln!("  {circuits} circuits with pretended agents");
    let lab = line::up("rate", None, Options { without_agents: true, ..Options::default() })?;
    let config = api::Config::read(&lab.plan().folder().join("controller/admin.toml"))?;
    let (accepted, active) = namespace::inside(&lab.plan().controller_namespace(), || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(pretended(&lab, config, circuits))
    })?;
    lab.down()?;
    let per_second = |time: Duration| Spread::one(circuits as f64 / time.as_secs_f64());
    let row = |what: &str, time, note: &str| Row::alone(what, per_second(time), note);
    Ok(vec![
        row("circuits accepted per second, pretended agents", accepted, "must be ≥ 500; one run"),
        row("circuits active per second, pretended agents", active, "one run"),
    ])
}

/// How long until all were accepted, and until all were active.
async fn pretended(lab: &Lab, config: api::Config, circuits: usize) -> Result<(Duration, Duration)> {
    let mut client = api::connect(&lab.plan().folder().join("controller/admin.toml")).await?;
    for (index, host) in lab.plan().hosts.iter().enumerate() {
        let request = v1::CreateTokenRequest { node: host.name.clone(), lifetime: 0 };
        let token = client.create_token(request).await?.into_inner().token;
        let underlay = |(number, underlay): (usize, &tests_kernel::lab::plan::Underlay)| v1::Underlay {
            interface: underlay.interface.clone(),
            network: underlay.network.clone(),
            addresses: vec![format!("10.{index}.{number}.1")],
            mtu: 1500,
            speed: None,
            shape: false,
        };
        let underlays = host.underlays.iter().enumerate().map(underlay).collect();
        let (config, name) = (config.clone(), host.name.clone());
        tokio::spawn(async move {
            // Ends with the lab; before that it is worth a line.
            if let Err(failure) = pretend::agent(config, token, underlays).await {
                eprintln!("  the pretended agent of {name} ended: {failure:#}");
            }
        });
    }
    connected(&mut client, lab.plan().hosts.len() as u32).await?;
    create_all(&mut client, circuits).await
}

async fn connected(client: &mut api::Client, hosts: u32) -> Result<()> {
    for _ in 0..500 {
        if client.get_status(v1::Empty {}).await?.into_inner().nodes_connected == hosts {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the agents did not connect within 10 s")
}

/// Registers what the circuits need, and creates them.
async fn create_all(client: &mut api::Client, circuits: usize) -> Result<(Duration, Duration)> {
    many::register(client, circuits).await?;
    many::create(client, circuits, &spec("", "")).await
}

// ---- memory

fn memory(circuits: usize) -> Result<Vec<Row>> {
    eprintln!("  {circuits} circuits with real agents");
    let lab = line::up("memory", None, Options::default())?;
    // What starting needed has been given back after a moment, or never will be.
    std::thread::sleep(Duration::from_secs(3));
    let idle = resident(&lab)?;
    let (_, active) = api::ask(lab.plan(), async |mut client| create_all(&mut client, circuits).await)?;
    std::thread::sleep(Duration::from_secs(3));
    let full = resident(&lab)?;
    lab.down()?;
    let full_row =
        format!("resident memory of an agent with {circuits} circuits, of each of three hosts, MB");
    Ok(vec![
        Row::alone("resident memory of an idle agent, of each of three hosts, MB", idle, "must be ≤ 30"),
        Row::alone(&full_row, full, "must be ≤ 60"),
        Row::alone(
            "circuits active per second, real agents on the same machine",
            Spread::one(circuits as f64 / active.as_secs_f64()),
            "one run",
        ),
    ])
}

/// Megabytes (10⁶ bytes) of each host's agent.
fn resident(lab: &Lab) -> Result<Spread> {
    let mut values = Vec::new();
    for host in &lab.plan().hosts {
        let pid = lab.agent(&host.name).pid().with_context(|| format!("the agent of {} runs", host.name))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        values.push(kibibytes * 1024.0 / 1e6);
    }
    Ok(Spread::of(&values))
}
