//! Ways that lose packets or become slow: how long until all circuits have left them, and how often good ones are left.
use super::Times;
use super::scene::{LOAD, Scene};
use super::ways::{self, Ways};
use crate::lab::link::{Change, Step};
use crate::lab::{api, namespace};
use crate::many;
use crate::stream::Stream;
use anyhow::{Context, Result, bail};
use proto_wire::v1;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough that the least round-trip time of a path is known.
const SETTLING: Duration = Duration::from_secs(3);

/// What becomes of the first way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decline {
    /// 20 % of the packets of each direction are lost on its first link.
    Loss,
    /// 25 ms more each way on its first link: 50 ms more of round-trip time.
    Delay,
}

impl Decline {
    fn change(self) -> Result<Change> {
        Ok(match self {
            Self::Loss => Change::Loss("20%".parse()?),
            Self::Delay => Change::Delay(Step::parse("+25ms")?),
        })
    }
}

/// Milliseconds until the last of so many circuits had left the way at both ends; and, of the last repeat, how many the
/// controller knew to be on their backup.
///
/// # Errors
/// The circuits do not come about.
pub fn leaving(scene: &Scene, decline: Decline, circuits: usize, repeats: usize) -> Result<(Times, usize)> {
    let (mut times, mut known, mut skipped) = (Times::default(), 0, 0);
    while times.len() < repeats {
        let transit = many_circuits(scene, circuits)?;
        let ways = scene.protected(circuits)?;
        std::thread::sleep(SETTLING);
        let mut early = 0;
        for host in &ways {
            early += host.on_backup()?.len();
        }
        // An emulator that had to wait for the processor is a bad way; what left it early says nothing of this one.
        if early > 0 {
            skipped += 1;
            eprintln!("    {early} groups left the way before anything happened: repeated");
            if skipped > repeats {
                bail!("{skipped} times groups left a good way before anything happened");
            }
            api::ask(scene.lab.plan(), async |mut client| many::delete(&mut client).await)?;
            continue;
        }
        let event = Instant::now();
        scene.lab.change("a", &transit, &decline.change()?)?;
        let took = ways::until_all_left(&ways, event, Duration::from_secs(10))?;
        eprintln!("    {decline:?}: {took:.1?} ms, {} and {} groups", ways[0].used.len(), ways[1].used.len());
        times.add(took);
        known = known_to_the_controller(scene, circuits)?;
        scene.lab.change("a", &transit, &Change::Reset)?;
        api::ask(scene.lab.plan(), async |mut client| many::delete(&mut client).await)?;
    }
    Ok((times, known))
}

/// Waits until no link is known to have lost a probe: measured loss chooses paths, and all circuits are to take one.
fn recovered(scene: &Scene) -> Result<()> {
    let begun = Instant::now();
    api::ask(scene.lab.plan(), async |mut client| {
        loop {
            let links = client.list_links(v1::Empty {}).await?.into_inner().links;
            let seen = links.iter().flat_map(|link| &link.measured).filter_map(|one| one.measured.as_ref());
            let lost: u32 = seen.map(|seen| seen.loss_forward + seen.loss_backward).sum();
            if lost == 0 {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("after 60 s links still lose {lost} probes of a million in all");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

/// Creates them; returns the transit host of their first way, which must be one for all.
fn many_circuits(scene: &Scene, circuits: usize) -> Result<String> {
    recovered(scene)?;
    api::ask(scene.lab.plan(), async |mut client| {
        many::create(&mut client, circuits, &super::scene::model()).await?;
        let all = client.list_circuits(v1::Empty {}).await?.into_inner().circuits;
        let mut transits: BTreeMap<String, usize> = BTreeMap::new();
        for circuit in all {
            let path = circuit.path.context("a circuit without a path")?;
            *transits.entry(path.nodes.get(1).cloned().unwrap_or_default()).or_default() += 1;
        }
        if transits.len() != 1 {
            bail!("the circuits begin on several ways: {transits:?}");
        }
        transits.into_keys().next().context("no circuit")
    })
}

/// Circuits of which the controller says within 10 s that both ends are on the backup.
fn known_to_the_controller(scene: &Scene, circuits: usize) -> Result<usize> {
    let begun = Instant::now();
    api::ask(scene.lab.plan(), async |mut client| {
        loop {
            let all = client.list_circuits(v1::Empty {}).await?.into_inner().circuits;
            let known = all.iter().filter(|circuit| circuit.on_backup.len() == 2).count();
            if known == circuits || begun.elapsed() > Duration::from_secs(10) {
                return Ok(known);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// What was seen while nothing was wrong, or quality went up and down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Of the group that turned most.
    pub turns: u32,
    pub packets: u64,
    pub lost: u64,
    pub duplicates: u64,
}

/// A circuit with traffic for so long, and `meanwhile` with its first transit host until `stop`.
fn observe(scene: &Scene, meanwhile: impl FnOnce(&str, &AtomicBool) -> Result<()> + Send) -> Result<Seen> {
    let transit = scene.weave()?;
    let sides = scene.sides()?;
    let ways: Vec<Ways> = scene.protected(1)?.into();
    let stream = Stream::start(&sides[0], &sides[1])?;
    std::thread::sleep(SETTLING);
    let stop = AtomicBool::new(false);
    let turns = std::thread::scope(|scope| {
        let watching = scope.spawn(|| ways::watch_turns(&ways, &stop));
        let done = meanwhile(&transit, &stop);
        stop.store(true, Ordering::Relaxed);
        let turns = watching.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        done.and(turns)
    })?;
    let traces = stream.finish()?;
    scene.unweave()?;
    Ok(Seen {
        turns: turns.into_values().max().unwrap_or(0),
        packets: traces.iter().map(|trace| trace.sent).sum(),
        lost: traces.iter().map(super::super::stream::Trace::lost).sum(),
        duplicates: traces.iter().map(|trace| trace.duplicates).sum(),
    })
}

/// All cores busy, twice over, and a TCP stream as fast as it goes through the circuit; nothing is wrong with any path.
///
/// # Errors
/// No circuit, no stream.
pub fn saturated(scene: &Scene, time: Duration) -> Result<Seen> {
    let far = scene.sides()?[1].clone();
    let target = SocketAddr::new(far.address.ip(), LOAD);
    let near = scene.lab.plan().namespace("web")?;
    observe(scene, |_, stop| {
        let burners = 2 * std::thread::available_parallelism().map_or(2, usize::from);
        let listener = crate::traffic::listen(&far.namespace, target)?;
        let stream =
            namespace::inside(&near, || Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5))?))?;
        std::thread::scope(|scope| {
            for _ in 0..burners {
                scope.spawn(|| burn(stop));
            }
            let load = [scope.spawn(|| drain(&listener)), scope.spawn(|| fill(stream, stop))];
            let begun = Instant::now();
            while begun.elapsed() < time {
                std::thread::sleep(Duration::from_millis(200));
            }
            stop.store(true, Ordering::Relaxed);
            for thread in load {
                thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            }
            Ok(())
        })
    })
}

fn burn(stop: &AtomicBool) {
    let mut word = 1u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..10_000 {
            word = std::hint::black_box(word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn fill(mut stream: TcpStream, stop: &AtomicBool) -> Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let data = vec![7; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&data).context("the TCP stream stands still")?;
    }
    Ok(())
}

fn drain(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Every 5 s the other way is the bad one: 20 % loss and 50 ms more of round-trip time.
///
/// # Errors
/// No circuit, no emulator.
pub fn alternating(scene: &Scene, time: Duration) -> Result<Seen> {
    observe(scene, |transit, _| {
        let other = if transit == "t1" { "t2" } else { "t1" };
        let begun = Instant::now();
        let mut bad = [transit, other];
        while begun.elapsed() < time {
            scene.lab.change("a", bad[0], &Decline::Loss.change()?)?;
            scene.lab.change("a", bad[0], &Decline::Delay.change()?)?;
            scene.lab.change("a", bad[1], &Change::Reset)?;
            std::thread::sleep(Duration::from_secs(5));
            bad.reverse();
        }
        scene.lab.change("a", transit, &Change::Reset)?;
        scene.lab.change("a", other, &Change::Reset)
    })
}
