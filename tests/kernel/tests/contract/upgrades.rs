//! A new build takes over what an older one left, whatever moment it is killed at; an older one stops at a newer one's.
use crate::world::{clear, put_all, within};
use agent_core::kernel_state::{Entry, Kernel, KernelState, Target};
use agent_daemon::kernel::Linux;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tests_sim::contract::everything;

fn bpftool(arguments: &str) -> Value {
    let output = Command::new("bpftool").arg("-j").args(arguments.split(' ')).output().expect("bpftool runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "bpftool {arguments}: {said}");
    serde_json::from_str(&said).unwrap_or(Value::Null)
}

fn bytes(value: &Value) -> Vec<String> {
    let bytes = value.as_array().expect("bytes").iter();
    bytes.map(|byte| byte.as_str().expect("a byte").trim_start_matches("0x").to_owned()).collect()
}

/// The rows of FLOWS in layout 1 as first released: without what came at the end, and zeroes where the MTU is.
fn rows_of_layout_1(pins: &Path) -> Vec<(Vec<String>, Vec<String>)> {
    let dump = bpftool(&format!("map dump pinned {}/map_flows_v3", pins.display()));
    let row = |row: &Value| {
        let mut value = bytes(&row["value"]);
        value.truncate(66);
        value.resize(72, "00".into());
        (bytes(&row["key"]), value)
    };
    dump.as_array().expect("rows").iter().map(row).collect()
}

/// Puts the pins as the first release left them.
fn go_back(pins: &Path) {
    let rows = rows_of_layout_1(pins);
    assert!(!rows.is_empty());
    let former = pins.join("map_flows");
    std::fs::remove_file(&former).expect("the marker");
    let at = former.display();
    bpftool(&format!("map create {at} type hash key 20 value 72 entries 65536 name FLOWS"));
    for (key, value) in rows {
        let (key, value) = (key.join(" "), value.join(" "));
        bpftool(&format!("map update pinned {at} key hex {key} value hex {value}"));
    }
    std::fs::remove_file(pins.join("map_flows_v3")).expect("the new map");
}

/// What layout 1 could say.
fn without_second_ways(state: KernelState) -> KernelState {
    let plain = |entry: Entry| match entry {
        Entry::Flow(mut flow) => {
            (flow.mtu, flow.class) = (0, 0);
            if let Target::NextHop { backup, .. } = &mut flow.target {
                *backup = None;
            }
            Entry::Flow(flow)
        }
        other => other,
    };
    state.into_iter().map(|(key, entry)| (key, plain(entry))).collect()
}

fn name_of(pin: &Path) -> String {
    bpftool(&format!("map show pinned {}", pin.display()))["name"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn flows_of_the_first_layout_are_carried_over_and_the_rest_stays() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        let before = world.linux().observe().expect("observed");
        let conntrack =
            bpftool(&format!("map show pinned {}/map_conntrack", world.pins().display()))["id"].clone();
        go_back(world.pins());
        let mut linux = world.linux();
        assert_eq!(linux.observe().expect("observed"), without_second_ways(before));
        let now = bpftool(&format!("map show pinned {}/map_conntrack", world.pins().display()))["id"].clone();
        assert_eq!(conntrack, now, "connections are in the same map");
        assert_eq!(name_of(&world.pins().join("map_flows")), "UPGRADED_TO_V2", "older builds stop here");
        clear(&mut linux);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

/// What flows could say in layout 2, and labels in their first.
fn without_classes(mut entry: Entry) -> Entry {
    if let Entry::Flow(flow) = &mut entry {
        flow.class = 0;
    }
    if let Entry::Label(label) = &mut entry {
        label.class = 0;
    }
    entry
}

#[test]
fn flows_and_labels_from_before_there_were_classes_are_carried_over() {
    within(|world| {
        let at = world.make("web");
        let entries: Vec<Entry> = everything(&at).into_iter().map(without_classes).collect();
        put_all(&mut world.linux(), &entries);
        let before = world.linux().observe().expect("observed");
        let pin = |name: &str| world.pins().join(name);
        let id = |name: &str| bpftool(&format!("map show pinned {}", pin(name).display()))["id"].clone();
        let ids = [id("map_flows_v3"), id("map_labels_v2")];
        std::fs::rename(pin("map_flows_v3"), pin("map_flows_v2")).expect("the former pin");
        std::fs::rename(pin("map_labels_v2"), pin("map_labels")).expect("in the marker's place");
        let mut linux = world.linux();
        assert_eq!(linux.observe().expect("observed"), before);
        assert_ne!([id("map_flows_v3"), id("map_labels_v2")], ids, "in new maps");
        assert!(!pin("map_flows_v2").exists());
        assert_eq!(name_of(&pin("map_labels")), "UPGRADED_TO_V2", "older builds stop here");
        clear(&mut linux);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn an_upgrade_that_was_killed_while_it_filled_the_new_map_begins_anew() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        let before = world.linux().observe().expect("observed");
        go_back(world.pins());
        let half = world.pins().join("map_flows_v3_new");
        bpftool(&format!("map create {} type hash key 20 value 80 entries 65536 name FLOWS", half.display()));
        let mut linux = world.linux();
        assert_eq!(linux.observe().expect("observed"), without_second_ways(before));
        assert!(!half.exists());
        clear(&mut linux);
    });
}

#[test]
fn an_upgrade_that_was_killed_after_it_filled_the_new_map_goes_on_with_that() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        let before = world.linux().observe().expect("observed");
        let former = world.pins().join("map_flows");
        std::fs::remove_file(&former).expect("the marker");
        bpftool(&format!(
            "map create {} type hash key 20 value 72 entries 65536 name FLOWS",
            former.display()
        ));
        let mut linux = world.linux();
        assert_eq!(
            linux.observe().expect("observed"),
            before,
            "the former map, empty here, is not asked any more"
        );
        assert_eq!(name_of(&former), "UPGRADED_TO_V2");
        clear(&mut linux);
    });
}

#[test]
fn a_build_that_finds_a_newer_layout_touches_nothing_and_says_both_numbers() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        let before = world.linux().observe().expect("observed");
        let newer = world.pins().join("map_flows_v4");
        bpftool(&format!(
            "map create {} type hash key 20 value 96 entries 65536 name FLOWS",
            newer.display()
        ));
        let pins = world.pinned();
        let refusal = Linux::open(&world.options()).expect_err("a newer build runs this host").to_string();
        for part in ["layout 4", "up to 3", "uninstall", "Nothing was touched"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert_eq!(world.pinned(), pins);
        std::fs::remove_file(&newer).expect("removed");
        assert_eq!(world.linux().observe().expect("observed"), before);
        clear(&mut world.linux());
    });
}
