//! The acts of the demo, in order: each does what a user would do and measures what the project promises.
use super::story::{Story, ask, foreweave, foreweave_ok, hint, inside, last_line};
use crate::lab::{Lab, Snapshot};
use crate::traffic::{self, Pings};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a refused connection is waited for.
const PATIENCE: Duration = Duration::from_millis(800);
/// The hosts' own configuration must stay as it was; these are looked at.
const HOSTS: [&str; 3] = ["edge-a", "edge-b", "transit-1"];

/// The addresses of the two ends in the fabric.
struct Ends {
    web: String,
    db: String,
    v4: IpAddr,
    v6: IpAddr,
}

pub(super) fn opening(story: &mut Story, lab: &Lab, took: Duration) {
    let plan = lab.plan();
    story.say(&format!("{} hosts with an agent each, {} links.", plan.hosts.len(), plan.links.len()));
    story.say(&hint(lab));
    story.claim("the lab is up in under 10 s", took.as_secs_f64() < 10.0, super::seconds(took));
}

pub(super) fn play(story: &mut Story, lab: &Lab) -> Result<()> {
    overlap(story, lab)?;
    let before = hosts(lab)?;
    register(story, lab)?;
    let ends = ends(lab)?;
    discover(story, lab)?;
    plan(story, lab)?;
    create(story, lab, &ends)?;
    through(story, lab, &ends)?;
    refused(story, lab, &ends)?;
    change_rules(story, lab, &ends)?;
    kill(story, lab, &ends)?;
    close(story, lab, &before)
}

fn overlap(story: &mut Story, lab: &Lab) -> Result<()> {
    story.chapter("Two customers, one address");
    story.say("web and db are in networks of their own, which use the same range.");
    let web = inside(lab, "web", &["ip", "-brief", "-4", "address", "show", "eth0"])?;
    let db = inside(lab, "db", &["ip", "-brief", "-4", "address", "show", "eth0"])?;
    let address = |text: &str| text.split_whitespace().nth(2).unwrap_or("none").to_owned();
    let same = address(&web) == address(&db) && address(&web) != "none";
    story.claim("web and db have the same private address", same, address(&web));
    Ok(())
}

fn register(story: &mut Story, lab: &Lab) -> Result<()> {
    story.chapter("Register: who is there, what it offers, what it wants");
    let path = |name: &str| format!("/run/netns/fwl-{}-{name}", lab.plan().name);
    let intent = "service=postgres latency=30ms bandwidth=200mbit";
    let web = path("web");
    let words = ["resource", "register", "web", "--node", "edge-a", "--netns-path", &web, "--intent", intent];
    foreweave_ok(lab, &words)?;
    for (name, node) in [("db", "edge-b"), ("archive", "edge-c")] {
        let path = path(name);
        let words = ["resource", "register", name, "--node", node, "--netns-path", &path];
        foreweave_ok(lab, &[&words[..], &["--service", "postgres=tcp/5432"]].concat())?;
    }
    foreweave_ok(lab, &["resource", "list"])
}

fn ends(lab: &Lab) -> Result<Ends> {
    let address = ask(lab, &["resource", "show", "db"])?;
    let text =
        |family: &str| address["address"][family].as_str().map(str::to_owned).context("db has no address");
    let (v4, v6) = (text("v4")?.parse()?, text("v6")?.parse()?);
    Ok(Ends { web: lab.plan().namespace("web")?, db: lab.plan().namespace("db")?, v4, v6 })
}

fn discover(story: &mut Story, lab: &Lab) -> Result<()> {
    story.chapter("Discover: whatever offers postgres, within 30 ms, with 200 Mbit/s");
    foreweave_ok(lab, &["discover", "--from", "web"])?;
    let answer = ask(lab, &["discover", "--from", "web"])?;
    let discovery = &answer["discoveries"][0];
    let found: Vec<&str> = names(&discovery["found"], |found| &found["resource"]["resource_id"]);
    story.claim("db is found", found == ["db"], format!("found: {}", found.join(", ")));
    let why = discovery["left_out"].as_array().into_iter().flatten();
    let why = why.clone().find(|left| left["resource_id"] == "archive").map(|left| left["why"].to_string());
    story.claim(
        "archive is left out, with the reason",
        why.is_some(),
        why.unwrap_or_else(|| "no reason".into()),
    );
    Ok(())
}

fn names<'a>(
    list: &'a serde_json::Value,
    name: impl Fn(&'a serde_json::Value) -> &'a serde_json::Value,
) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|item| name(item).as_str()).collect()
}

fn plan(story: &mut Story, lab: &Lab) -> Result<()> {
    story.chapter("Plan: which way, at what cost, and what would change where");
    foreweave_ok(lab, &["circuit", "plan", "web", "db", "--latency", "20ms", "--bandwidth", "200mbit"])?;
    story.say("More than any way has:");
    let output = foreweave(lab, &["circuit", "plan", "web", "db", "--bandwidth", "5gbit"])?;
    let text = [output.stdout, output.stderr].concat();
    let feasible = String::from_utf8_lossy(&text).contains("Gbit/s");
    let said = if feasible { "the answer says how much there is".to_owned() } else { last_line(&text) };
    story.claim(
        "an impossible wish is refused with what is possible",
        feasible && !output.status.success(),
        said,
    );
    let circuits = ask(lab, &["circuit", "list"])?;
    let none = circuits["circuits"].as_array().is_none_or(Vec::is_empty);
    story.claim("a plan builds nothing", none, "no circuit is there");
    Ok(())
}

fn create(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    story.chapter("Create: db answers pings and postgres, not ssh, and nothing else either");
    let reached = reaches(&ends.web, ends.v4);
    story.claim(
        "without a circuit nothing passes",
        !reached,
        if reached { "db answers" } else { "no answer" },
    );
    let begun = Instant::now();
    let words = ["circuit", "create", "web", "db", "--latency", "20ms", "--bandwidth", "200mbit"];
    let rules = ["--deny", "tcp/22", "--allow", "tcp/5432", "--allow", "icmp"];
    foreweave_ok(lab, &[&words[..], &rules].concat())?;
    let took = begun.elapsed();
    let circuit = ask(lab, &["circuit", "show", "web-db"])?;
    let hosts = names(&circuit["path"]["nodes"], |node| node);
    let state = circuit["state"].as_str().unwrap_or("unknown").to_owned();
    let measured = format!("{state} after {} ms: {}", took.as_millis(), hosts.join(" → "));
    story.claim(
        "the circuit is active over three hosts",
        state == "STATE_ACTIVE" && hosts.len() == 3,
        measured,
    );
    Ok(())
}

fn reaches(from: &str, to: IpAddr) -> bool {
    traffic::ping(from, to, 1, 200).is_ok_and(|pings| pings.received > 0)
}

fn through(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    story.chapter("Through: packets of both families, and TCP");
    for (family, address) in [("IPv4", ends.v4), ("IPv6", ends.v6)] {
        let text = inside(lab, "web", &["ping", "-n", "-c", "20", "-i", "0.05", "-q", &address.to_string()])?;
        let pings = traffic::parse_ping(&text).context("ping printed no summary")?;
        story.claim(&format!("{family} pings cross the circuit"), pings.sent == pings.received, shown(pings));
    }
    let mut server = Background::start(lab, "db", &["iperf3", "-s", "-1", "-p", "5432"])?;
    let target = ends.v4.to_string();
    let text = inside(lab, "web", &["iperf3", "-c", &target, "-p", "5432", "-t", "3", "-f", "m", "-i", "0"])?;
    server.end();
    let rate = text.lines().find(|line| line.ends_with("receiver")).and_then(rate);
    let measured = rate.map_or("no result".to_owned(), |rate| format!("{rate:.0} Mbit/s"));
    story.claim(
        "TCP reaches the 200 Mbit/s that were reserved",
        rate.is_some_and(|rate| rate >= 190.0),
        measured,
    );
    Ok(())
}

/// Mbit/s out of iperf3's line.
fn rate(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Mbits/sec")?;
    words[unit.checked_sub(1)?].parse().ok()
}

fn shown(pings: Pings) -> String {
    format!("{} of {} answered, {:.2} ms", pings.received, pings.sent, pings.rtt)
}

fn refused(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    story.chapter("Refused: ssh is denied by rule 1");
    let ssh = SocketAddr::new(ends.v4, 22);
    let _open = traffic::listen(&ends.db, SocketAddr::new(ends.v4, 22))?;
    story.say(&format!("db listens on {ssh}; web tries to connect."));
    let mut live = Live::start(lab, &["drops", "-f", "--circuit", "web-db"])?;
    let connected = traffic::connects(&ends.web, ssh, PATIENCE)?;
    let line = live.first_line(Duration::from_secs(10));
    println!("     {}\n", line.as_deref().unwrap_or(""));
    let told = line.as_deref().is_some_and(|line| line.contains("denied_by_rule") && line.contains("rule 1"));
    story.claim("tcp/22 does not connect", !connected, if connected { "connected" } else { "timed out" });
    story.claim(
        "the drop is shown live, with its rule",
        told,
        if told { "denied_by_rule rule 1" } else { "not shown" },
    );
    let reason = || -> Result<Option<String>> {
        let drops = ask(lab, &["drops"])?;
        let drops = drops["drops"].as_array().cloned().unwrap_or_default();
        let ours = drops.iter().find(|entry| entry["drop"]["reason"] == "denied_by_rule");
        let line = |entry: &serde_json::Value| {
            let (node, drop) = (&entry["node"], &entry["drop"]);
            format!(
                "{} on {node}, circuit {}, rule {}, {} packets",
                drop["reason"], drop["circuit"], drop["rule"], drop["packets"]
            )
        };
        Ok(ours.map(line).map(|text| text.replace('"', "")))
    };
    let seen = within(Duration::from_secs(15), || reason().ok().flatten());
    foreweave_ok(lab, &["drops"])?;
    let measured = seen.clone().unwrap_or_else(|| "no drop was reported".into());
    story.claim("the drop is counted by reason, circuit and rule", seen.is_some(), measured);
    Ok(())
}

/// Asks again and again until there is an answer or the time is over.
fn within<T>(patience: Duration, ask: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            None if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}

fn change_rules(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    story.chapter("Changed: the rules are replaced while packets flow");
    let ssh = SocketAddr::new(ends.v4, 22);
    let _open = traffic::listen(&ends.db, ssh)?;
    let (pings, changed) = during_pings(ends, || {
        foreweave_ok(lab, &["rule", "replace", "web-db", "allow tcp/22", "allow tcp/5432", "allow icmp"])
    })?;
    changed?;
    story.claim(
        "the rule change loses no packet",
        pings.received == pings.sent && pings.sent > 0,
        shown(pings),
    );
    let connected = within(Duration::from_secs(2), || {
        traffic::connects(&ends.web, ssh, PATIENCE).ok().filter(|connected| *connected)
    });
    let said = if connected.is_some() { "connected" } else { "still refused" };
    story.claim("tcp/22 connects now", connected.is_some(), said);
    foreweave_ok(lab, &["rule", "list", "web-db"])
}

/// 1,000 pings in five seconds; something happens in the middle.
fn during_pings<T>(ends: &Ends, happens: impl FnOnce() -> T) -> Result<(Pings, T)> {
    let (from, to) = (ends.web.clone(), ends.v4);
    let pinging = std::thread::spawn(move || traffic::ping(&from, to, 1_000, 5));
    std::thread::sleep(Duration::from_secs(1));
    let happened = happens();
    let pings = pinging.join().map_err(|_| anyhow::anyhow!("the pinging thread panicked"))??;
    Ok((pings, happened))
}

fn kill(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    story.chapter("Killed: an agent dies with -9 while packets flow");
    let (pings, happened) = during_pings(ends, || -> Result<Duration> {
        for host in ["transit-1", "edge-a"] {
            let pid = lab.agent(host).pid().context("the agent runs")?;
            println!("   $ kill -9 {pid}   # the agent of {host}");
            lab.kill_agent(host)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        for host in ["transit-1", "edge-a"] {
            println!("   $ foreweave-agent run …   # on {host}, again");
            lab.start_agent(host)?;
        }
        lab.wait_connected(&["transit-1", "edge-a"])?;
        Ok(begun.elapsed())
    })?;
    story.claim(
        "packets cross while no agent runs",
        pings.received == pings.sent && pings.sent > 0,
        shown(pings),
    );
    story.measure("the agents are back in contact", happened.map(|took| (true, super::seconds(took))));
    let state = within(Duration::from_secs(10), || {
        let circuit = ask(lab, &["circuit", "show", "web-db"]).ok()?;
        (circuit["state"] == "STATE_ACTIVE").then(|| "active".to_owned())
    });
    story.claim("the circuit is active", state.is_some(), state.unwrap_or_else(|| "not active".into()));
    controller_too(story, lab, ends)
}

fn controller_too(story: &mut Story, lab: &Lab, ends: &Ends) -> Result<()> {
    let (pings, happened) = during_pings(ends, || -> Result<()> {
        println!(
            "   $ kill -9 {}   # the controller",
            lab.controller().pid().context("the controller runs")?
        );
        lab.controller().signal(Signal::SIGKILL)?;
        lab.controller().kill()?;
        lab.start_controller()
    })?;
    happened?;
    story.claim(
        "packets cross while no controller runs",
        pings.received == pings.sent && pings.sent > 0,
        shown(pings),
    );
    let known = within(Duration::from_secs(10), || {
        let circuit = ask(lab, &["circuit", "show", "web-db"]).ok()?;
        (circuit["state"] == "STATE_ACTIVE").then_some(())
    });
    let said = if known.is_some() { "web-db is active" } else { "web-db is not active" };
    story.claim("the controller remembers the circuit", known.is_some(), said);
    Ok(())
}

/// The network configuration of the hosts.
fn hosts(lab: &Lab) -> Result<Vec<Snapshot>> {
    HOSTS.iter().map(|host| Snapshot::of_namespace(&lab.plan().namespace(host)?)).collect()
}

fn close(story: &mut Story, lab: &Lab, before: &[Snapshot]) -> Result<()> {
    story.chapter("Deleted: the hosts are as they were");
    foreweave_ok(lab, &["circuit", "delete", "web-db"])?;
    for name in ["web", "db", "archive"] {
        foreweave_ok(lab, &["resource", "remove", name])?;
    }
    let left = within(Duration::from_secs(10), || {
        let differences = differences(lab, before).ok()?;
        differences.is_empty().then_some(())
    });
    let shown = match left {
        Some(()) => "no difference".to_owned(),
        None => differences(lab, before)?.join("; "),
    };
    story.claim("links, addresses, routes and rules of the hosts are as before", left.is_some(), shown);
    Ok(())
}

fn differences(lab: &Lab, before: &[Snapshot]) -> Result<Vec<String>> {
    let now = hosts(lab)?;
    Ok(before.iter().zip(&now).flat_map(|(before, now)| before.differences(now)).collect())
}

/// A command that runs beside the story.
struct Background(Child);

impl Background {
    fn start(lab: &Lab, node: &str, words: &[&str]) -> Result<Self> {
        println!("   $ [{node}] {} &", words.join(" "));
        let mut command = lab.exec(node, words[0])?;
        let child = command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Until it listens: iperf3 has no way to tell.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self(child.with_context(|| words[0].to_owned())?))
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

/// A `foreweave` command that goes on printing.
struct Live {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Live {
    fn start(lab: &Lab, words: &[&str]) -> Result<Self> {
        println!("   $ foreweave {} &", words.join(" "));
        let mut child = lab.foreweave()?.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let (said, lines) = std::sync::mpsc::channel();
        let output = child.stdout.take().context("its output")?;
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)).map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        // Until it watches: what happens before that is counted, but not shown.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { child, lines })
    }

    fn first_line(&mut self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
