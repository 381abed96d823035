//! Stored records: reading never panics, what is read is written and read back as the same, and a controller that is
//! given them starts or says why it does not.
use controller_core::fabric::Fabric;
use controller_core::io::Input;
use controller_core::record::Record;
use controller_core::settings::Settings;
use proto_model::Timestamp;

/// How often a restored controller is woken: enough for every retry and grace period to come once.
const TICKS: usize = 50;

/// One record per line, as they stand behind their checksums.
pub fn check(bytes: &[u8]) {
    let records: Vec<Record> = bytes.split(|byte| *byte == b'\n').filter_map(read).collect();
    if !records.is_empty() {
        restore(records);
    }
}

fn read(line: &[u8]) -> Option<Record> {
    let record = serde_json::from_slice::<Record>(line).ok()?;
    let written = serde_json::to_vec(&record).expect("a record can be written");
    let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again.key(), record.key());
    assert_eq!(again, record);
    Some(record)
}

/// Whether the controller started.
pub fn restore(records: Vec<Record>) -> bool {
    let mut now = Timestamp(1_000_000_000_000);
    let Ok(mut fabric) = Fabric::restore(Settings::default(), records, now) else { return false };
    for _ in 0..TICKS {
        while fabric.poll_output().is_some() {}
        let Some(next) = fabric.next_deadline() else { break };
        now = now.max(next);
        fabric.handle(Input::Tick, now);
    }
    true
}
