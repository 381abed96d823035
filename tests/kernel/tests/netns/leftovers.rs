//! Whatever ends leaves nothing behind.
use crate::support::{Fabric, ROW, allow_icmp, eventually, settled, web_to_db};
use anyhow::{Context, Result};
use tests_kernel::lab::{Owned, Snapshot};

const NOTHING: Vec<String> = Vec::new();

#[test]
fn deleted_circuits_and_removed_resources_leave_hosts_as_they_were() -> Result<()> {
    let look = || Ok(Snapshot::of_machine()?.concerning(&Fabric::name("left")));
    let machine = look()?;
    let fabric = Fabric::up("left", ROW)?;
    for resource in ["web", "db"] {
        fabric.remove(resource)?;
    }
    let inside = |node: &str| Snapshot::of_namespace(&fabric.namespace(node));
    let nodes = ["a", "t", "b", "web", "db"];
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before: Vec<Snapshot> = nodes.iter().map(|node| inside(node)).collect::<Result<_>>()?;
    for _ in 0..3 {
        fabric.lab.register()?;
        fabric.circuit(web_to_db(vec![allow_icmp()]))?;
        assert!(fabric.both_families_pass()?);
        fabric.delete("web-db")?;
        for resource in ["web", "db"] {
            fabric.remove(resource)?;
        }
    }
    for (node, before) in nodes.iter().zip(&before) {
        assert_eq!(settled(before, || inside(node))?, NOTHING, "on {node}");
    }
    let owned = Owned::by(&Fabric::name("left"))?;
    assert!(!owned.is_empty());
    fabric.lab.down()?;
    assert_eq!(settled(&machine, look)?, NOTHING);
    eventually("the BPF objects are freed", || Ok(owned.left()?.is_empty()))?;
    Ok(())
}

#[test]
fn uninstall_leaves_nothing_of_the_agent() -> Result<()> {
    let fabric = Fabric::up("gone", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let pins = fabric.lab.plan().pins("a");
    assert!(pins.join(ebpf_abi::maps::pin("FLOWS")).exists());
    let owned = Owned::by_agent(&pins)?;
    assert!(!owned.is_empty());
    fabric.lab.kill_agent("a")?;
    fabric.lab.uninstall("a")?;
    eventually("the host's BPF objects are freed", || Ok(owned.left()?.is_empty()))?;
    assert!(!pins.exists(), "{} is still there", pins.display());
    for node in ["a", "web"] {
        let text = fabric.lab.output(node, "ip", &["-o", "link"])?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(!text.contains("foreweave:") && !text.contains(": fw"), "on {node}: {text}");
    }
    let routes = fabric.lab.output("web", "ip", &["route", "show", "proto", "187"])?;
    assert_eq!(String::from_utf8_lossy(&routes.stdout), "");
    let state = fabric.lab.home("a").join("state");
    let files = std::fs::read_dir(&state).map(|entries| entries.count());
    assert!(matches!(files, Err(_) | Ok(0)), "files in {}", state.display());
    fabric.lab.down()
}

#[test]
fn lab_goes_down_with_circuits_in_force() -> Result<()> {
    let look = || Ok(Snapshot::of_machine()?.concerning(&Fabric::name("full")));
    let before = look()?;
    let fabric = Fabric::up("full", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let folder = fabric.lab.plan().folder();
    let owned = Owned::by(&Fabric::name("full"))?;
    assert!(!owned.is_empty());
    fabric.lab.down()?;
    assert!(!folder.exists());
    let left = settled(&before, look).context("looking again")?;
    assert_eq!(left, NOTHING);
    eventually("the BPF objects are freed", || Ok(owned.left()?.is_empty()))
}
