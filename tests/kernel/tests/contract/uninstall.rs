//! Uninstalling takes everything of the fabric, and nothing else.
use crate::world::{World, ip, put_all, within};
use agent_daemon::config::Config;
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
