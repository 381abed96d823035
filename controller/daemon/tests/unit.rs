//! The systemd unit as it is shipped keeps what the documentation says.
use std::collections::BTreeMap;

/// Of a section, each key's last value.
fn section(name: &str) -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/systemd/foreweave-controller.service");
    let text = std::fs::read_to_string(path).expect("unit");
    let lines = text.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn a_controller_that_stopped_is_started_again_for_ever_and_not_in_a_hurry() {
    let (unit, service) = (section("Unit"), section("Service"));
    assert_eq!(unit.get("StartLimitIntervalSec").map(String::as_str), Some("0"), "{unit:?}");
    assert_eq!(service.get("Restart").map(String::as_str), Some("on-failure"));
    let pause = service["RestartSec"].strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(pause.expect("seconds") >= 5, "{service:?}");
}

#[test]
fn the_examples_paths_can_be_written_under_the_unit() {
    let service = section("Service");
    let directory = |root: &str, key: &str| format!("{root}/{}", service[key]);
    let state = directory("/var/lib", "StateDirectory");
    let logs = directory("/var/log", "LogsDirectory");
    let example = controller_daemon::config::EXAMPLE;
    assert!(example.contains(&format!("state = \"{state}\"")), "{state}");
    assert!(example.contains(&format!("record = \"{logs}/")), "{logs}");
    assert_eq!(
        (service["StateDirectoryMode"].as_str(), service["LogsDirectoryMode"].as_str()),
        ("0700", "0700")
    );
}
