//! A controller that stays away: packets pass, a dead way is left, rules hold, agents do not grow, and nothing is written when it is back.
use super::scene::{EDGES, HOSTS, LOAD, Scene};
use crate::lab::link::Change;
use crate::lab::{Lab, namespace};
use crate::stream::{Side, Stream};
use crate::traffic;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where each agent is asked for its metrics, in its own namespace.
const METRICS: &str = "127.0.0.1:9448";
/// Until what an agent needs anyway is there.
const SETTLING: Duration = Duration::from_secs(30);
/// After the controller is back.
const RETURN: Duration = Duration::from_secs(20);
/// How long a new connection may take that a rule allows.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default)]
pub struct Away {
    pub packets: u64,
    /// Of them, while nothing was wrong with any way.
    pub lost_while_good: u64,
    pub duplicates: u64,
    /// Longest time without a packet, in the worse direction, when the way in use died meanwhile, ms.
    pub outage: f64,
    /// Of the agent that grew most, MB.
    pub growth: f64,
    /// Steps of all agents on their kernels while the controller was away.
    pub meanwhile: u64,
    /// And from its return until it had been back for a while.
    pub writes: u64,
    /// Connections that a rule allows, and that came about, first and last; and that none allows, and came about all the
    /// same.
    pub rules: [u32; 3],
}

/// Without a controller for so long, with traffic all the time; the way in use dies in the middle and is mended again.
///
/// # Errors
/// The fabric does not work in the first place, or the way that died is never left.
pub fn hold(scene: &Scene, time: Duration) -> Result<Away> {
    export_metrics(&scene.lab)?;
    let transit = scene.weave()?;
    let sides = scene.sides()?;
    std::thread::sleep(SETTLING);
    let (before, small) = (steps(&scene.lab)?, sizes(&scene.lab)?);
    let mut away = Away::default();
    scene.lab.controller().kill()?;
    let part = time / 4;
    away.rules = rules(&scene.lab, &sides)?;
    let first = Stream::start(&sides[0], &sides[1])?;
    std::thread::sleep(part);
    away.count(first)?;
    let second = Stream::start(&sides[0], &sides[1])?;
    if !second.flows(500, Duration::from_secs(10)) {
        bail!("nothing flows before the way in use dies");
    }
    let event = Instant::now();
    scene.lab.change("a", &transit, &Change::Blackhole)?;
    std::thread::sleep(Duration::from_millis(20));
    let left = second.flows(100, Duration::from_secs(10));
    std::thread::sleep(part);
    scene.lab.change("a", &transit, &Change::Reset)?;
    std::thread::sleep(part);
    let traces = second.finish()?;
    if !left {
        bail!("the way that died was not left within 10 s");
    }
    let gaps = traces.iter().filter_map(|trace| trace.longest_gap(event));
    away.outage = gaps.max().map_or(0.0, |gap| gap.as_secs_f64() * 1e3 - 1.0);
    away.packets += traces.iter().map(|trace| trace.sent).sum::<u64>();
    away.duplicates += traces.iter().map(|trace| trace.duplicates).sum::<u64>();
    let third = Stream::start(&sides[0], &sides[1])?;
    std::thread::sleep(part);
    away.count(third)?;
    let again = rules(&scene.lab, &sides)?;
    away.rules.iter_mut().zip(again).for_each(|(sum, more)| *sum += more);
    let grown = sizes(&scene.lab)?.into_iter().zip(small).map(|(now, before)| now - before);
    away.growth = grown.fold(f64::MIN, f64::max);
    let back = steps(&scene.lab)?;
    away.meanwhile = back - before;
    scene.revive_controller()?;
    std::thread::sleep(RETURN);
    away.writes = steps(&scene.lab)? - back;
    scene.unweave()?;
    Ok(away)
}

impl Away {
    fn count(&mut self, stream: Stream) -> Result<()> {
        for trace in stream.finish()? {
            self.packets += trace.sent;
            self.lost_while_good += trace.lost();
            self.duplicates += trace.duplicates;
        }
        Ok(())
    }
}

/// A connection each way that a rule allows or forbids: allowed, came about, came about without a rule.
fn rules(lab: &Lab, sides: &[Side; 2]) -> Result<[u32; 3]> {
    let (near, far) = (lab.plan().namespace("web")?, &sides[1]);
    let mut outcome = [1, 0, 0];
    for (at, port) in [(1, LOAD), (2, LOAD + 1)] {
        let target = SocketAddr::new(far.address.ip(), port);
        let listener = traffic::listen(&far.namespace, target)?;
        outcome[at] = u32::from(traffic::connects(&near, target, PATIENCE)?);
        drop(listener);
    }
    Ok(outcome)
}

/// Restarts the agents so that they serve their metrics.
fn export_metrics(lab: &Lab) -> Result<()> {
    for host in HOSTS {
        let file = lab.home(host).join("agent.toml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, format!("metrics = \"{METRICS}\"\n{text}"))?;
        lab.kill_agent(host)?;
        lab.start_agent(host)?;
    }
    lab.wait_connected(&HOSTS)
}

/// Performed by all agents.
fn steps(lab: &Lab) -> Result<u64> {
    let mut sum = 0;
    for host in HOSTS {
        let text = namespace::inside(&lab.plan().namespace(host)?, fetch).with_context(|| host.to_owned())?;
        let counts = text.lines().filter(|line| line.starts_with("foreweave_agent_steps_total"));
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        sum += counts.sum::<u64>();
    }
    // Each end has at least an interface and flows.
    if sum < EDGES.len() as u64 {
        bail!("the agents tell of {sum} steps: their metrics are not what is looked for");
    }
    Ok(sum)
}

fn fetch() -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&METRICS.parse()?, PATIENCE).context("the metrics")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Megabytes (10⁶ bytes) of each agent in the order of the hosts.
fn sizes(lab: &Lab) -> Result<Vec<f64>> {
    HOSTS.iter().map(|host| size(lab, host)).collect()
}

fn size(lab: &Lab, host: &str) -> Result<f64> {
    let pid = lab.agent(host).pid().with_context(|| format!("the agent of {host} runs"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
