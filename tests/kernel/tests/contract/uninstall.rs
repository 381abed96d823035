//! Uninstalling takes everything of the fabric, and nothing else.
use crate::world::{World, ip, put_all, within};
use agent_daemon::config::Config;
use agent_daemon::kernel::{Attach, Linux, Options};
use agent_daemon::uninstall::{Removed, uninstall};
use tests_sim::contract::everything;

fn config(world: &World, state: &std::path::Path) -> Config {
    let text = format!("state = {state:?}\npins = {:?}\n", world.pins());
    Config::parse(&text).expect("valid")
}

#[test]
fn uninstalling_leaves_nothing_and_can_be_repeated() {
    within(|world| {
        let at = world.make("web");
        let state = tempfile::tempdir().expect("a directory");
        std::fs::write(state.path().join("identity.toml"), "").expect("written");
        ip("link add fw64400009 type veth peer name other");
        put_all(&mut world.linux(), &everything(&at));
        let removed = uninstall(&config(world, state.path())).expect("uninstalled");
        assert_eq!(removed.interfaces, ["fw64400001", "fw64400002"]);
        assert!(removed.identity && removed.pins.iter().any(|pin| pin == "link_under0_tcx"));
        assert!(!world.pins().exists() && !state.path().exists());
        assert!(ip("-o link").contains("fw64400009"), "somebody else's of that name stays");
        let programs = std::process::Command::new("bpftool").args(["net", "show", "dev", "under0"]).output();
        let programs = String::from_utf8_lossy(&programs.expect("bpftool runs").stdout).into_owned();
        assert!(!programs.contains("underlay_"), "{programs}");
        assert_eq!(uninstall(&config(world, state.path())).expect("repeated"), Removed::default());
        ip("link del fw64400009");
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

fn tc(arguments: &str) -> String {
    run_tc(&arguments.split_whitespace().collect::<Vec<_>>())
}

fn run_tc(arguments: &[&str]) -> String {
    let output = std::process::Command::new("tc").args(arguments).output().expect("tc runs");
    assert!(output.status.success(), "tc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn uninstalling_takes_filters_off_underlays_and_leaves_those_of_others() {
    within(|world| {
        let options = Options { attach: Attach::Clsact, ..world.options() };
        let state = tempfile::tempdir().expect("a directory");
        let filters = "filter show dev under0 ingress";
        drop(Linux::open(&options).expect("the kernel opens"));
        assert!(tc(filters).contains("underlay_ingress"), "it stays when the agent goes");
        let bytecode =
            ["filter", "add", "dev", "under0", "egress", "prio", "7", "bpf", "bytecode", "1,6 0 0 0"];
        run_tc(&bytecode);
        assert_eq!(uninstall(&config(world, state.path())).expect("uninstalled").filters, ["under0"]);
        assert_eq!(tc(filters), "");
        assert!(tc("filter show dev under0 egress").contains("pref 7"), "somebody else's stays");
        tc("filter del dev under0 egress prio 7");
        drop(Linux::open(&options).expect("the kernel opens"));
        assert_eq!(uninstall(&config(world, state.path())).expect("uninstalled").filters, ["under0"]);
        assert!(!tc("qdisc show dev under0").contains("clsact"), "what is empty goes");
    });
}
