//! The lab itself: links behave as asked, and every lab can be taken down.
use crate::support::eventually;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::net::SocketAddr;
use std::process::Command;
use tests_kernel::lab::link::{Change, Condition, Step};
use tests_kernel::lab::{self, Lab, Options, file, namespace};
use tests_kernel::traffic;

const PAIR: &str = r#"
name = "pair"
[[node]]
name = "a"
[[node]]
name = "b"
[[link]]
ends = ["a", "b"]
"#;

const BARE: Options = Options { register: false, bare: true, without_agents: false };

fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

fn bare(test: &str, topology: &str) -> Result<Lab> {
    Lab::up(file::parse(topology, Some(&name(test)))?, BARE, &ProgressBar::hidden())
}

fn peer(lab: &Lab) -> std::net::IpAddr {
    lab.plan().links[0].ends[1].addresses[0].0
}

#[test]
fn emulated_delay_is_at_least_what_was_asked() -> Result<()> {
    let lab = bare("delay", &format!("{PAIR}delay = \"3ms\"\n"))?;
    for (address, _) in &lab.plan().links[0].ends[1].addresses {
        let pings = traffic::ping(&lab.plan().namespace("a")?, *address, 10, 20)?;
        assert_eq!(pings.received, 10);
        assert!(pings.rtt >= 6.0, "{pings:?}");
    }
    lab.down()
}

#[test]
fn emulated_loss_loses_its_share() -> Result<()> {
    let lab = bare("loss", &format!("{PAIR}loss = \"30%\"\n"))?;
    let pings = traffic::ping(&lab.plan().namespace("a")?, peer(&lab), 200, 2)?;
    // Both ways lose: 49 % of the answers come back; the bounds are more than eight standard deviations away.
    assert!((20..180).contains(&pings.received), "{pings:?}");
    lab.down()
}

#[test]
fn twenty_hosts_come_up_and_go_without_a_trace() -> Result<()> {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/twenty.toml");
    let plan = file::read(topology.as_ref(), Some(&name("twenty")))?;
    let lab = Lab::up(plan, Options { register: true, ..Options::default() }, &ProgressBar::hidden())?;
    let (name, folder) = (lab.plan().name.clone(), lab.plan().folder());
    assert_eq!(lab.plan().hosts.len(), 20);
    lab.down()?;
    assert_eq!(namespace::list(&format!("fwl-{name}-")), Vec::<String>::new());
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn recording_is_played_on_its_link() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("link.csv"), "seconds,rtt_ms,loss\n0,8,0\n60,8,0\n")?;
    let topology = folder.path().join("topology.toml");
    std::fs::write(&topology, format!("{PAIR}series = \"link.csv\"\n"))?;
    let lab = Lab::up(file::read(&topology, Some(&name("series")))?, BARE, &ProgressBar::hidden())?;
    let pings = traffic::ping(&lab.plan().namespace("a")?, peer(&lab), 5, 20)?;
    assert_eq!(pings.received, 5);
    assert!(pings.rtt >= 8.0, "{pings:?}");
    lab.down()
}

#[test]
fn link_without_wishes_needs_no_emulator() -> Result<()> {
    let lab = bare("plain", PAIR)?;
    assert!(lab::process::Process::all(&lab.plan().folder()).is_empty());
    let pings = traffic::ping(&lab.plan().namespace("a")?, peer(&lab), 5, 20)?;
    assert_eq!(pings.received, 5);
    lab.down()
}

#[test]
fn lab_goes_down_after_its_maker_was_killed() -> Result<()> {
    let (name, folder) = (name("killed"), tempfile::tempdir()?);
    let topology = folder.path().join("topology.toml");
    std::fs::write(&topology, format!("{PAIR}delay = \"1ms\"\n"))?;
    // Killed at different moments of its work: before, during and after it makes things.
    for patience in [0u64, 1, 2, 3, 4, 5, 8, 15, 30, 60, 200] {
        let mut maker = Command::new(env!("CARGO_BIN_EXE_lab"));
        let mut maker = maker.arg("up").arg(&topology).args(["--bare", "--name", &name]).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(patience));
        maker.kill()?;
        maker.wait()?;
        for _ in 0..2 {
            let down = Command::new(env!("CARGO_BIN_EXE_lab")).args(["down", &name]).output()?;
            assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        }
        assert_eq!(namespace::list(&format!("fwl-{name}-")), Vec::<String>::new(), "after {patience} ms");
        assert!(!lab::plan::folder(&name).exists());
    }
    Ok(())
}

#[test]
fn second_lab_of_the_same_name_is_refused() -> Result<()> {
    let first = bare("twice", PAIR)?;
    let refusal = bare("twice", PAIR).expect_err("a second one");
    assert!(format!("{refusal:#}").contains("lab down"), "{refusal:#}");
    let pings = traffic::ping(&first.plan().namespace("a")?, peer(&first), 2, 20)?;
    assert_eq!(pings.received, 2, "the first one was touched");
    first.down()
}

#[test]
fn unknown_node_is_refused_with_the_known_ones() -> Result<()> {
    let lab = bare("who", PAIR)?;
    let refusal = lab.exec("c", "true").err().context("there is no c")?;
    assert!(format!("{refusal:#}").contains("it has controller, a, b"), "{refusal:#}");
    lab.down()
}

#[test]
fn shells_inside_end_with_the_lab() -> Result<()> {
    let lab = bare("shell", PAIR)?;
    let mut sleeper = lab.exec("a", "sleep")?.arg("600").spawn()?;
    lab.down()?;
    assert!(!sleeper.wait()?.success(), "it slept on");
    Ok(())
}

/// Pings that come back, of five, to each address of b.
fn answered(lab: &Lab) -> Result<Vec<u32>> {
    let from = lab.plan().namespace("a")?;
    let addresses = lab.plan().links[0].ends[1].addresses.iter();
    addresses
        .map(|(address, _)| Ok(traffic::ping(&from, *address, 5, 20).map_or(0, |p| p.received)))
        .collect()
}

/// Whether the interface of a host says that someone is at the other end.
fn carrier(lab: &Lab, end: usize) -> Result<bool> {
    let end = &lab.plan().links[0].ends[end];
    let shown = lab.output(&end.host, "ip", &["-o", "link", "show", "dev", &end.interface])?;
    Ok(String::from_utf8(shown.stdout)?.contains("LOWER_UP"))
}

#[test]
fn link_loses_everything_silently_and_passes_again_when_mended() -> Result<()> {
    for (test, more) in
        [("hole", ""), ("hole-rate", "rate = \"100mbit\"\n"), ("hole-tap", "emulate = true\n")]
    {
        let lab = bare(test, &format!("{PAIR}{more}"))?;
        assert_eq!(answered(&lab)?, [5, 5], "{test}");
        lab.change("a", "b", &Change::Blackhole)?;
        assert_eq!(answered(&lab)?, [0, 0], "{test}");
        assert!(carrier(&lab, 0)? && carrier(&lab, 1)?, "{test}: the carrier shall stay");
        assert_eq!(lab.changed_links()?.len(), 2);
        lab.change("b", "a", &Change::Mend)?;
        assert_eq!(answered(&lab)?, [5, 5], "{test}");
        assert_eq!(lab.changed_links()?, Vec::<String>::new());
        lab.down()?;
    }
    Ok(())
}

#[test]
fn one_way_of_a_link_can_be_lost_alone() -> Result<()> {
    for (test, more) in [("one", ""), ("one-tap", "emulate = true\n")] {
        let lab = bare(test, &format!("{PAIR}{more}"))?;
        let target = SocketAddr::new(peer(&lab), 9000);
        let names = [lab.plan().namespace("a")?, lab.plan().namespace("b")?];
        // Neighbours know each other, or nothing could be sent the good way either.
        assert_eq!(answered(&lab)?, [5, 5]);
        lab.change_one_way("b", "a", &Change::Blackhole)?;
        assert_eq!(answered(&lab)?, [0, 0], "{test}: no answer comes back");
        let flow = traffic::Flow::start(&names[0], &names[1], target, 500)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        let outcome = flow.finish()?;
        assert!(outcome.sent > 0 && outcome.lost() == 0, "{test}: {outcome:?}");
        lab.down()?;
    }
    Ok(())
}

#[test]
fn link_that_is_cut_loses_its_carrier_and_gets_it_back() -> Result<()> {
    for (test, more, ends) in [("cut", "", 1), ("cut-tap", "emulate = true\n", 2)] {
        let lab = bare(test, &format!("{PAIR}{more}"))?;
        lab.change("a", "b", &Change::Cut)?;
        for end in 0..ends {
            assert!(!carrier(&lab, end)?, "{test}: end {end} has a carrier");
        }
        assert_eq!(answered(&lab)?, [0, 0], "{test}");
        lab.change("a", "b", &Change::Mend)?;
        // The kernel tells of carriers once per second at most, and asks for neighbours that it missed later again.
        eventually("pings come back", || Ok(answered(&lab)? == [5, 5]))?;
        assert!(carrier(&lab, 0)? && carrier(&lab, 1)?);
        lab.down()?;
    }
    Ok(())
}

#[test]
fn emulated_link_changes_its_delay_and_loss_while_it_is_up() -> Result<()> {
    let lab = bare("change", &format!("{PAIR}delay = \"1ms\"\n"))?;
    let from = lab.plan().namespace("a")?;
    let rtt = || Ok::<f64, anyhow::Error>(traffic::ping(&from, peer(&lab), 5, 50)?.rtt);
    lab.change("a", "b", &Change::Delay(Step::parse("+24ms")?))?;
    let both = rtt()?;
    assert!(both >= 50.0, "{both} ms");
    lab.change_one_way("a", "b", &Change::Delay(Step::parse("1ms")?))?;
    let one = rtt()?;
    assert!(one >= 26.0, "{one} ms");
    eventually("one slow direction is quicker than two", || Ok(rtt()? < both))?;
    lab.change("a", "b", &Change::Loss("100%".parse()?))?;
    assert_eq!(answered(&lab)?, [0, 0]);
    lab.change("a", "b", &Change::Reset)?;
    assert_eq!(answered(&lab)?, [5, 5]);
    assert_eq!(lab.condition(0)?, Condition::of(&lab.plan().links[0]));
    lab.down()
}

#[test]
fn impossible_changes_are_refused_with_what_is_there() -> Result<()> {
    let lab = bare("refuse", PAIR)?;
    let refusal = |outcome: Result<()>| format!("{:#}", outcome.expect_err("refused"));
    let unknown = refusal(lab.change("a", "c", &Change::Cut));
    assert!(unknown.contains("it has a – b (a-b)"), "{unknown}");
    let network = lab.find_link("a", "b", Some("z")).map(drop);
    assert!(refusal(network).contains("in network z"));
    // Kernels with netem do it without an emulator.
    if let Err(slow) = lab.change("a", "b", &Change::Delay(Step::parse("1ms")?)) {
        let slow = format!("{slow:#}");
        assert!(slow.contains("emulate = true") && slow.contains("--emulate"), "{slow}");
    }
    lab.change("a", "b", &Change::Reset)?;
    assert!(refusal(lab.change_one_way("a", "b", &Change::Cut)).contains("direction"));
    assert_eq!(answered(&lab)?, [5, 5], "a refused change changed something");
    assert_eq!(lab.changed_links()?, Vec::<String>::new());
    lab.down()
}

#[test]
fn command_changes_a_link_and_says_how_it_is_now() -> Result<()> {
    let lab = bare("words", PAIR)?;
    let link = |words: &[&str]| {
        let name = lab.plan().name.clone();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["link", &name, "a", "b"]).args(words).output()
    };
    let cut = link(&["blackhole", "--one-way"])?;
    let said = String::from_utf8(cut.stdout)?;
    assert!(
        cut.status.success() && said.contains("a → b: everything is lost") && !said.contains("b → a"),
        "{said}"
    );
    let reset = link(&["reset"])?;
    assert!(String::from_utf8(reset.stdout)?.contains("as the topology says"));
    for (words, why) in
        [(["loss", "120%"], "0 to 100 %"), (["delay", "soon"], "20ms"), (["rate", "fast"], "200mbit")]
    {
        let refused = link(&words)?;
        let said = String::from_utf8(refused.stderr)?;
        assert!(!refused.status.success() && said.contains(why), "{words:?}: {said}");
    }
    lab.down()
}
