//! The scene of the demo in which a link becomes slow: a circuit leaves it before its bound breaks, and others stay.
use super::story::{Story, ask, foreweave_ok};
use crate::lab::{Lab, Options, Plan, file};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/foresight.toml");
/// So that the scene is short: as a rule it is looked a minute ahead.
const CONTROLLER: &str = "\n[reroute]\nhorizon = \"10s\"\nrest = \"5s\"\n";
/// Milliseconds, of the circuit that moves; that of the other one is never reached.
const BOUND: f64 = 40.0;
/// When the recording begins to climb, seconds after its start.
pub(super) const CLIMBS_AT: f64 = 42.0;
/// Pings ten times a second until the old path is well above the bound.
const PINGS: u32 = 620;

pub(super) fn plan() -> Result<Plan> {
    let mut plan = file::read(Path::new(TOPOLOGY), None)?;
    plan.controller = CONTROLLER.to_owned();
    Ok(plan)
}

pub(super) fn play(story: &mut Story, plan: Plan) -> Result<Lab> {
    story.chapter("Foresight: a link becomes slow, and a circuit leaves it before its bound breaks");
    story.say("Two ways between two hosts. The short one replays a recording: it wobbles, then climbs by 1.5 ms each second.");
    story.say("Nobody configured a round-trip time: the agents measure, the controller forecasts, 10 s ahead in this scene.");
    let lab = Lab::up(plan, Options { register: true, ..Options::default() }, &ProgressBar::hidden())?;
    if let Err(failure) = act(story, &lab) {
        story.claim("the scene runs to its end", false, format!("{failure:#}"));
    }
    Ok(lab)
}

fn act(story: &mut Story, lab: &Lab) -> Result<()> {
    measured(lab)?;
    foreweave_ok(lab, &["circuit", "create", "web", "db", "--latency", "40ms", "--allow", "icmp"])?;
    foreweave_ok(lab, &["circuit", "create", "logs", "archive", "--latency", "120ms", "--allow", "icmp"])?;
    let (web, logs) = (path(lab, "web-db")?, path(lab, "logs-archive")?);
    let both = web.contains("short") && logs.contains("short");
    story.claim("both circuits begin on the short way", both, format!("{web}; {logs}"));
    let pinging = [Pinging::start(lab, "web", "db")?, Pinging::start(lab, "logs", "archive")?];
    story.say(&format!("Both are pinged for {} s …", PINGS / 10));
    let [web, logs] = pinging.map(Pinging::end);
    told(story, lab, &web?, &logs?)
}

/// The links are measured a few seconds after the agents have met.
fn measured(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    loop {
        let links = ask(lab, &["link", "list"])?;
        let links = links["links"].as_array().cloned().unwrap_or_default();
        let known = |link: &serde_json::Value| {
            link["measured"]
                .as_array()
                .is_some_and(|ends| ends.iter().any(|end| end["measured"]["rtt_mean"] != 0))
        };
        if links.len() == 4 && links.iter().all(known) {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("not all links were measured within 20 s: {links:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn path(lab: &Lab, circuit: &str) -> Result<String> {
    let shown = ask(lab, &["circuit", "show", circuit])?;
    let nodes = shown["path"]["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.iter().filter_map(|node| node.as_str()).collect::<Vec<_>>().join(" → "))
}

fn told(story: &mut Story, lab: &Lab, web: &Replies, logs: &Replies) -> Result<()> {
    foreweave_ok(lab, &["explain", "web-db", "--chart", "--past", "80s"])?;
    let explained = ask(lab, &["explain", "web-db"])?;
    let past = explained["insight"]["past"].as_array().cloned().unwrap_or_default();
    let moves: Vec<_> = past.iter().filter(|entry| entry["what"] == "WHAT_MOVED").collect();
    let why = moves.first().and_then(|entry| entry["why"].as_str()).unwrap_or("it did not move");
    let alone = moves.len() == 1 && past.iter().all(|entry| entry["what"] != "WHAT_SWITCHED");
    story.claim("web-db moved once, of the controller's own accord", alone, why);
    before_it_broke(story, lab, moves.first().and_then(|entry| entry["at"].as_u64()))?;
    // A machine that is busy otherwise holds up single pings.
    let kept = web.lost() == 0 && web.above(BOUND).count() * 100 <= web.times.len();
    story.claim("no ping of web-db was lost, and 99 of 100 were within its bound of 40 ms", kept, web.said());
    let stayed = path(lab, "logs-archive")?;
    let moved = ask(lab, &["circuit", "show", "logs-archive"])?["moved"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    let said = format!("{stayed}; of its pings, {} took longer than 40 ms", logs.above(BOUND).count());
    // The short way is above 40 ms for the last seconds.
    let stays = stayed.contains("short") && !moved && logs.above(BOUND).count() * 20 > logs.times.len();
    story.claim("logs-archive stays: it saw the same, and its bound is 120 ms", stays, said);
    Ok(())
}

/// By the agents' own measurements of the path that it left.
fn before_it_broke(story: &mut Story, lab: &Lab, moved: Option<u64>) -> Result<()> {
    let series = ask(lab, &["explain", "web-db", "--chart", "--past", "80s"])?;
    let lines = series["lines"].as_array().cloned().unwrap_or_default();
    let short = |line: &&serde_json::Value| line["path"]["nodes"].to_string().contains("short");
    let points =
        lines.iter().find(short).and_then(|line| line["points"].as_array().cloned()).unwrap_or_default();
    let above =
        |point: &&serde_json::Value| point["mean"].as_u64().is_some_and(|mean| mean as f64 > BOUND * 1e6);
    let broke = points.iter().find(above).and_then(|point| point["at"].as_u64());
    let ahead = broke.zip(moved).map(|(broke, moved)| (broke as f64 - moved as f64) / 1e9);
    let said = match (ahead, broke) {
        (Some(ahead), _) => format!("{ahead:.1} s before"),
        (None, Some(_)) => "it did not move".into(),
        (None, None) => "the short way was never above 40 ms".into(),
    };
    story.claim(
        "it moved before the short way was above 40 ms",
        ahead.is_some_and(|ahead| ahead > 0.0),
        said,
    );
    let calm = moved.zip(points.first().and_then(|point| point["at"].as_u64()));
    let wobble = calm.map(|(moved, first)| moved.saturating_sub(first) as f64 / 1e9);
    let said = wobble.map_or("it did not move".into(), |after| {
        format!("it moved {after:.0} s after the first measurement")
    });
    // The recording begins a little before the first measurement.
    let stayed = wobble.is_some_and(|after| after > CLIMBS_AT - 15.0);
    story.claim("the wobble before that moved nothing", stayed, said);
    Ok(())
}

/// What pings saw.
struct Replies {
    sent: u32,
    /// Milliseconds, by number.
    times: Vec<(u32, f64)>,
}

impl Replies {
    fn lost(&self) -> usize {
        (self.sent as usize).saturating_sub(self.times.len())
    }

    fn above(&self, bound: f64) -> impl Iterator<Item = (u32, f64)> {
        self.times.iter().copied().filter(move |(_, time)| *time > bound)
    }

    fn said(&self) -> String {
        let slow: Vec<_> =
            self.above(BOUND).map(|(number, time)| format!("number {number}: {time:.1} ms")).collect();
        let few = slow.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if few.is_empty() { String::new() } else { format!(" ({few})") };
        format!("{} pings, {} lost, {} above 40 ms{more}", self.sent, self.lost(), slow.len())
    }
}

struct Pinging(Child);

impl Pinging {
    fn start(lab: &Lab, from: &str, to: &str) -> Result<Self> {
        let shown = ask(lab, &["resource", "show", to])?;
        let address: IpAddr = shown["address"]["v4"].as_str().context("it has no address")?.parse()?;
        let mut command = lab.exec(from, "ping")?;
        let words = ["-n", "-W", "1", "-i", "0.1", "-c", &PINGS.to_string()].map(str::to_owned);
        command.args(words).arg(address.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(command.stderr(Stdio::null()).spawn().context("ping did not start")?))
    }

    fn end(mut self) -> Result<Replies> {
        let mut text = String::new();
        let output = self.0.stdout.as_mut().context("its output")?;
        std::io::Read::read_to_string(output, &mut text)?;
        self.0.wait()?;
        replies(&text).with_context(|| format!("ping printed no summary: {text}"))
    }
}

impl Drop for Pinging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line for each reply, and a summary.
fn replies(text: &str) -> Option<Replies> {
    let time = |line: &str| {
        let after = |mark: &str| line.split_once(mark)?.1.split_whitespace().next();
        Some((after("icmp_seq=")?.parse().ok()?, after("time=")?.parse().ok()?))
    };
    let sent = crate::traffic::parse_ping(text)?.sent;
    Some(Replies { sent, times: text.lines().filter_map(time).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_pings_are_named() {
        let text = "64 bytes from 100.64.0.2: icmp_seq=1 ttl=64 time=8.50 ms\n\
                    64 bytes from 100.64.0.2: icmp_seq=3 ttl=64 time=69.4 ms\n\n\
                    --- 100.64.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33% packet loss, time 803ms\n\
                    rtt min/avg/max/mdev = 8.599/12.177/22.075/4.992 ms\n";
        let replies = replies(text).expect("a summary");
        assert_eq!((replies.sent, replies.lost()), (3, 1));
        assert_eq!(replies.said(), "3 pings, 1 lost, 1 above 40 ms (number 3: 69.4 ms)");
    }

    #[test]
    fn the_scene_has_links_of_which_nothing_is_told() {
        let plan = plan().expect("a plan");
        assert!(plan.links.iter().all(|link| link.measured) && plan.controller.contains("horizon"));
    }
}
