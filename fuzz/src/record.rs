//! Stored records: reading never panics, and what is read is written and read back as the same.
use controller_core::record::Record;

/// The bytes behind a record's checksum.
pub fn check(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let written = serde_json::to_vec(&record).expect("a record can be written");
    let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again.key(), record.key());
    assert_eq!(again, record);
}
