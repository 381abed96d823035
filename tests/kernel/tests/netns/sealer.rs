//! What encrypts outlives its agent, is replaced without losing a packet, and leaves nothing when it is not needed.
use crate::encryption::sealed;
use crate::support::{Fabric, ROW, allow_icmp, allow_udp, eventually, within};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests_kernel::lab::{binary, namespace};
use tests_kernel::traffic::{self, Flow};

const ENDS: [&str; 2] = ["a", "b"];
const RATE: u32 = 5_000;
/// Until one that does not answer is given up.
const LONG: Duration = Duration::from_secs(60);

/// A fabric with an encrypted circuit that passes packets.
fn up(test: &str) -> Result<Fabric> {
    let fabric = Fabric::up(test, ROW)?;
    let port = fabric.flow_target()?.port();
    fabric.circuit(sealed(vec![allow_icmp(), allow_udp(port)]))?;
    assert!(fabric.both_families_pass()?);
    Ok(fabric)
}

fn flow(fabric: &Fabric) -> Result<Flow> {
    Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), fabric.flow_target()?, RATE)
}

/// The one process that encrypts on a host.
fn sealer(fabric: &Fabric, host: &str) -> Result<u32> {
    match fabric.lab.sealers(host)[..] {
        [pid] => Ok(pid),
        ref other => anyhow::bail!("on {host}: {other:?}"),
    }
}

fn passes(fabric: &Fabric) -> Result<bool> {
    let mut pass = true;
    for address in fabric.addresses("db")? {
        let pings = traffic::ping(&fabric.namespace("web"), address, 3, 20)?;
        pass &= pings.received == pings.sent;
    }
    Ok(pass)
}

/// Indexes of the two interfaces.
pub(crate) fn interfaces(fabric: &Fabric, host: &str) -> Result<Vec<u32>> {
    namespace::inside(&fabric.namespace(host), || {
        let names = ["fw-plain", "fw-cipher"].into_iter();
        Ok(names.filter_map(|name| nix::net::if_::if_nametoindex(name).ok()).collect())
    })
}

fn nothing_left(fabric: &Fabric, host: &str) -> Result<()> {
    assert_eq!(fabric.lab.sealers(host), Vec::<u32>::new(), "on {host}");
    assert_eq!(interfaces(fabric, host)?, Vec::<u32>::new(), "on {host}");
    assert!(!fabric.lab.home(host).join("state/sealer.sock").exists(), "on {host}");
    Ok(())
}

#[test]
fn a_killed_agent_costs_no_packet_of_an_encrypted_circuit() -> Result<()> {
    let fabric = up("sealer-kill")?;
    let before = ENDS.map(|host| sealer(&fabric, host).expect("one"));
    let taps = interfaces(&fabric, "a")?;
    let flow = flow(&fabric)?;
    for _ in 0..2 {
        for host in ENDS {
            fabric.lab.kill_agent(host)?;
            // Nobody but the sealer is there.
            std::thread::sleep(Duration::from_millis(300));
            fabric.lab.start_agent(host)?;
            fabric.lab.wait_connected(&[host])?;
        }
    }
    let outcome = flow.finish()?;
    assert!(outcome.sent > u64::from(RATE), "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert_eq!(ENDS.map(|host| sealer(&fabric, host).expect("one")), before, "the same go on");
    assert_eq!(interfaces(&fabric, "a")?, taps);
    // The new agents have them in hand.
    fabric.delete("web-db")?;
    ENDS.into_iter().try_for_each(|host| nothing_left(&fabric, host))?;
    fabric.lab.down()
}

/// The same program in another file, which counts as another build.
fn another_build(folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("foreweave-agent");
    std::fs::copy(binary("foreweave-agent")?, &copy).context("a copy of the agent")?;
    Ok(copy)
}

#[test]
fn another_build_takes_over_sessions_in_use_without_losing_a_packet() -> Result<()> {
    let fabric = up("sealer-relief")?;
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let others = [another_build(folders[0].path())?, another_build(folders[1].path())?];
    let flow = flow(&fabric)?;
    for host in ENDS {
        let mut former = fabric.lab.sealers(host);
        // The second one comes while the first one still needs the former one's sessions.
        for other in &others {
            let agent = fabric.lab.agent(host);
            agent.signal(Signal::SIGTERM)?;
            agent.wait_gone(Duration::from_secs(10))?;
            fabric.lab.start_agent_of(host, other)?;
            fabric.lab.wait_connected(&[host])?;
            let now = fabric.lab.sealers(host);
            assert!(now.iter().any(|pid| !former.contains(pid)), "{former:?} are not relieved: {now:?}");
            former.extend(now);
        }
        eventually("one sealer is left", || Ok(fabric.lab.sealers(host).len() == 1))?;
    }
    let outcome = flow.finish()?;
    assert!(outcome.sent > u64::from(RATE), "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert!(passes(&fabric)?);
    fabric.lab.down()
}

#[test]
fn a_killed_sealer_is_replaced_by_its_agent() -> Result<()> {
    let fabric = up("sealer-dead")?;
    let taps = interfaces(&fabric, "a")?;
    for host in ENDS {
        let (former, agent) = (sealer(&fabric, host)?, fabric.lab.agent(host).pid());
        fabric.lab.kill_sealers(host)?;
        eventually("packets pass again", || passes(&fabric))?;
        assert_ne!(sealer(&fabric, host)?, former);
        assert_eq!(fabric.lab.agent(host).pid(), agent, "the same agent");
    }
    assert_eq!(interfaces(&fabric, "a")?, taps, "the agent held them");
    fabric.lab.down()
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("process {pid}"))
}

/// As many questioners as may wait to be let in. A stopped process keeps their places when they are gone.
fn crowd(state: &Path) -> Result<usize> {
    let folder = std::fs::File::open(state)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/sealer.sock", folder.as_raw_fd()).as_str())?;
    for waiting in 0..1_000 {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let questioner = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        match connect(questioner.as_raw_fd(), &address) {
            Ok(()) => {}
            Err(nix::Error::EAGAIN) => return Ok(waiting),
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("there is room for 1,000 questioners")
}

#[test]
fn a_sealer_that_does_not_answer_is_replaced() -> Result<()> {
    let fabric = up("sealer-still")?;
    let taps = interfaces(&fabric, "a")?;
    // By the agent that runs.
    let (former, agent) = (sealer(&fabric, "a")?, fabric.lab.agent("a").pid());
    signal(former, Signal::SIGSTOP)?;
    within(LONG, "another one is there", || Ok(sealer(&fabric, "a")? != former))?;
    eventually("packets pass again", || passes(&fabric))?;
    assert_eq!(fabric.lab.agent("a").pid(), agent, "the same agent");
    // By one that is started, also when nobody can be let in any more.
    for full in [false, true] {
        let former = sealer(&fabric, "a")?;
        fabric.lab.kill_agent("a")?;
        signal(former, Signal::SIGSTOP)?;
        if full {
            assert!(crowd(&fabric.lab.home("a").join("state"))? > 0);
        }
        fabric.lab.start_agent("a")?;
        within(LONG, "another one is there", || Ok(sealer(&fabric, "a")? != former))?;
        fabric.lab.wait_connected(&["a"])?;
        eventually("packets pass again", || passes(&fabric))?;
    }
    assert_eq!(interfaces(&fabric, "a")?, taps);
    // By `uninstall`.
    fabric.lab.kill_agent("a")?;
    signal(sealer(&fabric, "a")?, Signal::SIGSTOP)?;
    crowd(&fabric.lab.home("a").join("state"))?;
    fabric.lab.uninstall("a")?;
    nothing_left(&fabric, "a")?;
    fabric.lab.down()
}

#[test]
fn interfaces_that_somebody_removed_are_made_again() -> Result<()> {
    let fabric = up("sealer-bare")?;
    let former = sealer(&fabric, "a")?;
    assert!(fabric.lab.output("a", "ip", &["link", "delete", "fw-plain"])?.status.success());
    eventually("packets pass again", || passes(&fabric))?;
    assert_ne!(sealer(&fabric, "a")?, former);
    fabric.lab.down()
}

#[test]
fn uninstalling_ends_the_sealer_of_an_agent_that_is_gone() -> Result<()> {
    let fabric = up("sealer-gone")?;
    fabric.lab.kill_agent("a")?;
    sealer(&fabric, "a")?;
    fabric.lab.uninstall("a")?;
    nothing_left(&fabric, "a")?;
    fabric.lab.kill_agent("b")?;
    fabric.lab.kill_sealers("b")?;
    assert_eq!(interfaces(&fabric, "b")?.len(), 2, "they outlive both");
    fabric.lab.uninstall("b")?;
    nothing_left(&fabric, "b")?;
    fabric.lab.down()
}

#[test]
fn a_check_shows_the_sealer() -> Result<()> {
    let fabric = up("sealer-check")?;
    let config = fabric.lab.home("a").join("agent.toml");
    let output = namespace::command(&fabric.namespace("a"), binary("foreweave-agent")?)?
        .args(["check", "--json", "--config"])
        .arg(config)
        .output()?;
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let all = findings.as_array().context("findings")?;
    let found = all.iter().find(|finding| finding["what"] == "sealer").context("a sealer")?;
    let says = found["says"].as_str().context("a sentence")?;
    let pid = sealer(&fabric, "a")?;
    assert!(says.contains(&format!("process {pid}, ")), "{says}");
    assert!(says.ends_with("1 circuits, 1 with a session"), "{says}");
    fabric.lab.down()
}
