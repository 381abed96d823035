//! A recording is a bug report: replayed into a fresh core, it ends in the state that was kept.
use crate::support::{Controller, circuit, config, resource};
use controller_core::fabric::Fabric;
use controller_core::io::{Input, Output, Write};
use controller_core::record::{Record, RecordKey};
use controller_core::settings::Settings;
use controller_daemon::Daemon;
use controller_daemon::store::{Embedded, Memory, Store};
use proto_model::Timestamp;
use proto_wire::v1;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Beginning {
    settings: Settings,
    records: Vec<Record>,
    at: Timestamp,
}

#[derive(Deserialize)]
struct Happened {
    at: Timestamp,
    input: Input,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_replays_to_the_state_that_was_kept() {
    let state = tempfile::tempdir().expect("tempdir");
    let recording = state.path().join("inputs.jsonl");
    let mut config = config(state.path());
    config.record = Some(recording.clone());
    let controller = Controller { daemon: Daemon::start(config).await.expect("start"), state };
    let agents = [controller.agent("a", "10.9.0.1").await, controller.agent("b", "10.9.0.2").await];
    let mut admin = controller.admin().await;
    for (id, node) in [("web", "a"), ("db", "b"), ("spare", "b")] {
        admin.register_resource(resource(id, node)).await.expect("register");
    }
    let status = v1::UpdateResourceStatusRequest { resource_id: "spare".into(), status: 4 };
    admin.update_resource_status(status).await.expect("status");
    // Agents may still be on their way: refused or made, the recording has it.
    let request = v1::CreateCircuitRequest { circuit: Some(circuit("web", "db")), ..Default::default() };
    let made = admin.create_circuit(request).await.is_ok();
    drop(agents);
    controller.daemon.stop().await.expect("stop");

    let text = std::fs::read_to_string(&recording).expect("recording");
    let mut lines = text.lines();
    let beginning: Beginning = serde_json::from_str(lines.next().expect("beginning")).expect("beginning");
    let mut replayed =
        Fabric::restore(beginning.settings.clone(), beginning.records, beginning.at).expect("restore");
    let mut promised = Memory::default();
    for line in lines {
        let happened: Happened = serde_json::from_str(line).expect("input");
        replayed.handle(happened.input, happened.at);
        promised.commit(&writes(&mut replayed)).expect("memory");
    }
    let kept = Embedded::open(controller.state.path(), &beginning.settings.region).expect("open");
    let [promised, kept] = [promised.load(), kept.load()].map(|records| by_key(records.expect("load")));
    assert_eq!(promised, kept);
    let resources = kept.keys().filter(|key| matches!(key, RecordKey::Resource(_))).count();
    let circuits = kept.keys().filter(|key| matches!(key, RecordKey::Circuit(_))).count();
    assert_eq!((resources, circuits), (3, usize::from(made)));
}

fn writes(fabric: &mut Fabric) -> Vec<Write> {
    let outputs = std::iter::from_fn(|| fabric.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Write(write) => Some(write),
            _ => None,
        })
        .collect()
}

fn by_key(records: Vec<Record>) -> BTreeMap<RecordKey, Record> {
    records.into_iter().map(|record| (record.key(), record)).collect()
}
