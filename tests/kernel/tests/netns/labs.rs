//! The lab itself: links behave as asked, and every lab can be taken down.
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::process::Command;
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
