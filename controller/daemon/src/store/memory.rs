//! A store that forgets: for tests, and for the recording of what a run would have kept.
use super::{Store, StoreError};
use controller_core::io::Write;
use controller_core::record::{Record, RecordKey};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Memory {
    records: BTreeMap<RecordKey, Record>,
}

impl Store for Memory {
    fn load(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.values().cloned().collect())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        for write in writes {
            match write {
                Write::Put(record) => self.records.insert(record.key(), record.clone()),
                Write::Delete(key) => self.records.remove(key),
            };
        }
        Ok(())
    }
}
