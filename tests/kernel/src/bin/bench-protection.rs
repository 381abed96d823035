//! Measures protection: how long until a dead, lossy or slow way is left, beside babeld and FRR; and that good ways are not.
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use std::time::Duration;
use tests_kernel::lab::{Options, api};
use tests_kernel::many;
use tests_kernel::measure::{Row, Spread, print};
use tests_kernel::protection::outage::{self, Death, Outages};
use tests_kernel::protection::quality::{self, Decline};
use tests_kernel::protection::routing::{self, Protocol};
use tests_kernel::protection::scene::Scene;
use tests_kernel::protection::{Times, away, count};

#[derive(Parser)]
struct Arguments {
    /// How often each failure is repeated; babeld needs half a minute each time.
    #[arg(long, default_value_t = 30)]
    repeats: usize,
    /// How long the machine is kept busy to provoke false switches.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Circuits on a way that loses packets or becomes slow.
    #[arg(long, default_value_t = 1_000)]
    circuits: usize,
    /// How long two ways alternate in quality, seconds.
    #[arg(long, default_value_t = 180)]
    alternate: u64,
    /// How long the controller stays away, minutes.
    #[arg(long, default_value_t = 12)]
    away: u64,
    /// Only these parts.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// 3 repeats, 100 circuits, half a minute of load and of alternation: to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Blackhole,
    Carrier,
    Routing,
    Loss,
    Delay,
    False,
    Alternate,
    Away,
}

/// What `--quick` makes of it.
const QUICK_SECONDS: u64 = 30;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.repeats, arguments.circuits, arguments.alternate) = (3, 100, QUICK_SECONDS);
    }
    if arguments.repeats == 0 {
        bail!("--repeats 0: at least 1 is needed");
    }
    let mut bench = Bench::new(arguments);
    bench.deaths().context("ways that die")?;
    bench.declines().context("ways that lose or become slow")?;
    bench.good_ways().context("ways that are good")?;
    bench.away().context("without a controller")?;
    bench.routing().context("other routing")?;
    if bench.packets > 0 {
        let note = format!("; of {} packets in all of the above", bench.packets);
        bench.rows.push(count("packets duplicated", bench.duplicates as f64, 0.0, &note));
    }
    let how = format!(
        "Two edge hosts with two disjoint ways between them, a circuit, and a UDP stream through it, a packet per ms each way; an outage is \
         the longest time without a packet, in the worse direction unless said otherwise. {} repeats{}",
        bench.arguments.repeats,
        bench.notes.iter().map(|note| format!(". {note}")).collect::<String>()
    );
    print("Protection", &how, &bench.rows, bench.arguments.json);
    Ok(())
}

struct Bench {
    arguments: Arguments,
    rows: Vec<Row>,
    notes: Vec<String>,
    /// Ours, to compare with.
    silent: Outages,
    carrier: Outages,
    duplicates: u64,
    packets: u64,
}

impl Bench {
    fn new(arguments: Arguments) -> Self {
        let (silent, carrier) = (Outages::default(), Outages::default());
        Self { arguments, rows: Vec::new(), notes: Vec::new(), silent, carrier, duplicates: 0, packets: 0 }
    }

    fn wanted(&self, part: Part) -> bool {
        self.arguments.only.is_empty() || self.arguments.only.contains(&part)
    }

    fn count_packets(&mut self, outages: &Outages) {
        self.duplicates += outages.duplicates;
        self.packets += outages.packets;
    }

    fn deaths(&mut self) -> Result<()> {
        if !self.wanted(Part::Blackhole) && !self.wanted(Part::Carrier) {
            return Ok(());
        }
        let registered = Options { register: true, ..Options::default() };
        let scene = Scene::up("dies", "", registered)?;
        if self.wanted(Part::Blackhole) {
            eprintln!("  silent blackhole of the first way, controller killed");
            let outages = outage::of_circuits(&scene, Death::Silent, self.arguments.repeats)?;
            let what = "circuit, silent blackhole of its first way, controller killed: outage";
            self.rows.extend(outage::rows(what, &outages, [Some(150.0), Some(250.0)], "≤ 100"));
            self.count_packets(&outages);
            self.silent = outages;
        }
        if self.wanted(Part::Carrier) {
            eprintln!("  carrier loss of the local link, controller killed");
            let outages = outage::of_circuits(&scene, Death::Carrier, self.arguments.repeats)?;
            let what = "circuit, carrier loss of the local link: outage";
            let away = format!("{what} away from that host");
            self.rows.push(outages.ways[0].row(&away, 50.0, Some(20.0), "≤ 5"));
            self.rows.push(outages.ways[0].row(&away, 99.0, Some(20.0), "≤ 5"));
            let towards = format!("{what} towards it, whose sender sees no carrier go");
            self.rows.push(outages.ways[1].row(&towards, 50.0, Some(20.0), "≤ 5"));
            self.rows.push(outages.ways[1].row(&towards, 99.0, Some(20.0), "≤ 5"));
            self.count_packets(&outages);
            self.carrier = outages;
        }
        scene.lab.down()
    }

    fn declines(&mut self) -> Result<()> {
        if !self.wanted(Part::Loss) && !self.wanted(Part::Delay) {
            return Ok(());
        }
        let circuits = self.arguments.circuits;
        let scene = Scene::up("fades", "delay = \"2ms\"", Options::default())?;
        api::ask(scene.lab.plan(), async |mut client| many::register(&mut client, circuits).await)?;
        let parts = [
            (Part::Loss, Decline::Loss, "20 % loss each way on the first way", 2_000.0),
            (Part::Delay, Decline::Delay, "50 ms more of round-trip time on the first way", 1_000.0),
        ];
        for (part, decline, what, limit) in parts {
            if self.wanted(part) {
                eprintln!("  {what}, {circuits} circuits");
                let (times, known) = quality::leaving(&scene, decline, circuits, self.arguments.repeats)?;
                let what = format!("{what}: until the last of {circuits} circuits left it at both ends");
                let aim = format!("≤ 500; the controller knew of {known} of {circuits}");
                self.rows.push(times.row(&what, 50.0, Some(limit), ""));
                self.rows.push(times.row(&what, 99.0, Some(limit), &aim));
            }
        }
        scene.lab.down()
    }

    fn good_ways(&mut self) -> Result<()> {
        let registered = Options { register: true, ..Options::default() };
        if self.wanted(Part::False) {
            let quick = Duration::from_secs(QUICK_SECONDS);
            let time =
                if self.arguments.quick { quick } else { Duration::from_secs(60 * self.arguments.minutes) };
            eprintln!("  both cores saturated for {} s", time.as_secs());
            // No emulator: it would be starved as well, and a starved link is a bad link.
            let scene = Scene::up("busy", "", registered)?;
            let seen = quality::saturated(&scene, time)?;
            scene.lab.down()?;
            let what = format!(
                "false switches in {:.1} min with all cores busy twice over and a TCP stream",
                time.as_secs_f64() / 60.0
            );
            let note = format!("; {} of {} packets of the stream lost", seen.lost, seen.packets);
            self.rows.push(count(&what, f64::from(seen.turns), 0.0, &note));
            self.duplicates += seen.duplicates;
            self.packets += seen.packets;
        }
        if self.wanted(Part::Alternate) {
            let time = Duration::from_secs(self.arguments.alternate);
            eprintln!("  two ways alternate in quality for {} s", time.as_secs());
            let scene = Scene::up("flaps", "delay = \"2ms\"", registered)?;
            let seen = quality::alternating(&scene, time)?;
            scene.lab.down()?;
            let per_minute = f64::from(seen.turns) / (time.as_secs_f64() / 60.0).max(1.0);
            let note = format!(
                "; {} moves in {} s, {} of {} packets lost",
                seen.turns,
                time.as_secs(),
                seen.lost,
                seen.packets
            );
            let what = "moves per minute while two ways take turns every 5 s at 20 % loss and 50 ms more of round-trip time";
            self.rows.push(count(what, per_minute, 1.0, &note));
            self.duplicates += seen.duplicates;
            self.packets += seen.packets;
        }
        Ok(())
    }

    fn away(&mut self) -> Result<()> {
        if !self.wanted(Part::Away) {
            return Ok(());
        }
        let seconds = if self.arguments.quick { QUICK_SECONDS } else { 60 * self.arguments.away };
        eprintln!("  no controller for {seconds} s");
        let scene = Scene::up("away", "", Options { register: true, ..Options::default() })?;
        let seen = away::hold(&scene, Duration::from_secs(seconds))?;
        scene.lab.down()?;
        let what = format!("controller away for {:.1} min", seconds as f64 / 60.0);
        let note = format!("; of {} packets in all, the way in use died meanwhile", seen.packets);
        self.rows.push(count(
            &format!("{what}: packets lost while no way was dead"),
            seen.lost_while_good as f64,
            0.0,
            &note,
        ));
        self.rows.push(Row::alone(
            &format!("{what}: outage when the way in use died in the middle, ms"),
            Spread::one(seen.outage),
            "one run",
        ));
        let [allowed, came, without] = seen.rules;
        let note = format!("; {came} of {allowed} connections that a rule allows came about");
        self.rows.push(count(
            &format!("{what}: connections that no rule allows"),
            f64::from(without),
            0.0,
            &note,
        ));
        if came < allowed {
            bail!("{came} of {allowed} connections that a rule allows came about");
        }
        self.rows.push(count(
            &format!("{what}: growth of the agent that grew most, MB"),
            seen.growth,
            5.0,
            "",
        ));
        let writes = format!("{what}: steps on all kernels from its return until 20 s after it");
        let note = format!("; {} while it was away", seen.meanwhile);
        self.rows.push(count(&writes, seen.writes as f64, 0.0, &note));
        self.duplicates += seen.duplicates;
        self.packets += seen.packets;
        Ok(())
    }

    fn routing(&mut self) -> Result<()> {
        if !self.wanted(Part::Routing) {
            return Ok(());
        }
        for protocol in [Protocol::Frr, Protocol::Babel] {
            if let Some(missing) = protocol.missing() {
                eprintln!("  {missing}");
                self.notes.push(missing.to_owned());
                continue;
            }
            let repeats = self.arguments.repeats;
            for (death, what) in
                [(Death::Silent, "silent blackhole"), (Death::Carrier, "carrier loss of the local link")]
            {
                eprintln!("  {}, {what}", protocol.name());
                let outages = routing::outages(protocol, death, repeats)?;
                self.compare(death, &format!("{what}: outage"), protocol, &outages);
            }
        }
        Ok(())
    }

    /// Ours against theirs, where ours was measured in this run.
    fn compare(&mut self, death: Death, what: &str, protocol: Protocol, theirs: &Outages) {
        let never = |times: &Times, patience: Duration| match times.never {
            0 => String::new(),
            never => format!(", {never} times not within {} s, which counts as that", patience.as_secs()),
        };
        let mut other = format!("{}, {} repeats", protocol.name(), theirs.both.len());
        other += &never(&theirs.both, protocol.patience());
        let ours = match death {
            Death::Silent => &self.silent,
            Death::Carrier => &self.carrier,
        };
        let mut pairs = vec![(format!("{what}, p50, ms"), 50.0, &ours.both, &theirs.both)];
        pairs.push((format!("{what}, p99, ms"), 99.0, &ours.both, &theirs.both));
        if death == Death::Carrier {
            pairs.push((
                format!("{what} away from that host, p99, ms"),
                99.0,
                &ours.ways[0],
                &theirs.ways[0],
            ));
        }
        let millis = |patience: Duration| patience.as_secs_f64() * 1e3;
        for (what, percent, ours, theirs) in pairs {
            let theirs = theirs.with_never(percent, millis(protocol.patience()));
            self.rows.push(match ours.is_empty() {
                true => Row::alone(&what, theirs, &other),
                false => {
                    let what = format!("circuit, {what}{}", never(ours, outage::PATIENCE));
                    let ours = ours.with_never(percent, millis(outage::PATIENCE));
                    Row::compared(&what, ours, &other, theirs)
                }
            });
        }
    }
}
