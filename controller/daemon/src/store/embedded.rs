//! The store in one file (redb): crash-safe, one durable transaction per commit.
use super::{Store, StoreError, decode, encode, key_text};
use crate::files;
use controller_core::io::Write;
use controller_core::record::Record;
use proto_model::Name;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const FACTS: TableDefinition<'_, &str, &str> = TableDefinition::new("facts");
/// Of the file; the records have a schema number each.
const FORMAT: u64 = 1;
const NAME: &str = "store.redb";

#[derive(Debug)]
pub struct Embedded {
    /// Taken out at the end only.
    database: Option<Database>,
    file: String,
}

impl Embedded {
    /// Opens the store in the directory `state`, or makes it.
    pub fn open(state: &Path, region: &Name) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        let file = path.display().to_string();
        if !path.exists() {
            create(state, region).map_err(|why| StoreError::Failed {
                file: file.clone(),
                what: "cannot be made",
                why: format!("{why:#}"),
            })?;
        }
        Self::adopt(file, region, || Database::open(&path))
    }

    /// Takes what `open` opens as a store, after a look at all of it.
    fn adopt(
        file: String,
        region: &Name,
        open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StoreError> {
        let mut in_use = false;
        let opened = guarded(&file, || {
            let mut database = open().map_err(|why| {
                in_use = matches!(why, redb::DatabaseError::DatabaseAlreadyOpen);
                text(why)
            })?;
            // Reads all pages, as loading does anyway: bit rot must show now, not at some later commit.
            database.check_integrity().map_err(text)?;
            Ok(database)
        });
        if in_use {
            return Err(StoreError::InUse { file });
        }
        let store = Self { database: Some(opened?), file };
        store.check(region)?;
        Ok(store)
    }

    fn check(&self, region: &Name) -> Result<(), StoreError> {
        let file = self.file.clone();
        let facts = guarded(&self.file, || {
            let table = self.database()?.begin_read().map_err(text)?.open_table(FACTS).map_err(text)?;
            let fact = |name: &str| -> Result<Option<String>, String> {
                Ok(table.get(name).map_err(text)?.map(|value| value.value().to_owned()))
            };
            Ok((fact("format")?, fact("region")?))
        })?;
        let (Some(format), Some(found)) = facts else {
            return Err(StoreError::Foreign { file, why: "it says neither format nor region".into() });
        };
        match format.parse::<u64>() {
            Ok(FORMAT) if found == region.as_str() => Ok(()),
            Ok(FORMAT) => Err(StoreError::OtherRegion { file, found, wanted: region.to_string() }),
            Ok(newer) if newer > FORMAT => Err(StoreError::Newer { file, found: newer, known: FORMAT }),
            Ok(_) | Err(_) => Err(StoreError::Foreign { file, why: format!("its format is \"{format}\"") }),
        }
    }

    fn database(&self) -> Result<&Database, String> {
        self.database.as_ref().ok_or_else(|| "it is closed".into())
    }

    fn failed(&self, why: String) -> StoreError {
        StoreError::Failed { file: self.file.clone(), what: "cannot be written", why }
    }
}

/// Under another name first: a half-made file never carries the store's.
fn create(state: &Path, region: &Name) -> anyhow::Result<()> {
    let unfinished = state.join(format!("{NAME}.new"));
    if unfinished.exists() {
        std::fs::remove_file(&unfinished)?;
    }
    files::private_file(&unfinished, &[])?;
    let database = Database::create(&unfinished)?;
    begin(&database, region)?;
    drop(database);
    files::rename(&unfinished, &state.join(NAME))
}

fn begin(database: &Database, region: &Name) -> anyhow::Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut facts = transaction.open_table(FACTS)?;
        facts.insert("format", FORMAT.to_string().as_str())?;
        facts.insert("region", region.as_str())?;
        transaction.open_table(RECORDS)?;
    }
    Ok(transaction.commit()?)
}

fn text(why: impl std::fmt::Display) -> String {
    why.to_string()
}

/// The storage engine may give up deep inside a damaged file; whatever happens there becomes an error.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(said.unwrap_or_else(|| "the storage engine gave up".into()))
    })
}

fn guarded<T>(file: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, StoreError> {
    caught(read).map_err(|why| StoreError::Foreign { file: file.to_owned(), why })
}

/// Closing writes a little; a damaged file must not turn that into a panic while another error is on its way.
impl Drop for Embedded {
    fn drop(&mut self) {
        let database = self.database.take();
        let close = || {
            drop(database);
            Ok(())
        };
        if let Err(why) = caught(close) {
            tracing::error!(file = self.file, why, "the store was not closed cleanly");
        }
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<Vec<Record>, StoreError> {
        let raw = guarded(&self.file, || {
            let table = self.database()?.begin_read().map_err(text)?.open_table(RECORDS).map_err(text)?;
            let mut raw = Vec::new();
            for entry in table.iter().map_err(text)? {
                let (key, value) = entry.map_err(text)?;
                raw.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(raw)
        })?;
        let damaged =
            |key: &str, why| StoreError::Damaged { file: self.file.clone(), key: key.to_owned(), why };
        raw.iter().map(|(key, value)| decode(key, value).map_err(|why| damaged(key, why))).collect()
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let perform = || -> Result<(), String> {
            let transaction = self.database()?.begin_write().map_err(text)?;
            {
                let mut table = transaction.open_table(RECORDS).map_err(text)?;
                for write in writes {
                    match write {
                        Write::Put(record) => {
                            let key = key_text(&record.key());
                            let value = encode(&key, record)?;
                            table.insert(key.as_str(), value.as_slice()).map_err(text)?;
                        }
                        Write::Delete(key) => {
                            table.remove(key_text(key).as_str()).map_err(text)?;
                        }
                    }
                }
            }
            transaction.commit().map_err(text)
        };
        if writes.is_empty() {
            return Ok(());
        }
        caught(perform).map_err(|why| self.failed(why))
    }
}

#[cfg(test)]
mod cuts;

#[cfg(test)]
mod tests {
    use super::*;
    use controller_core::record::{Counters, RecordKey};

    fn region() -> Name {
        "local".parse().expect("name")
    }

    fn counters(next_circuit: u64) -> Write {
        Write::Put(Record::Counters(Counters { next_circuit }))
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut store = Embedded::open(state.path(), &region()).expect("first start");
        store.commit(&[counters(1), counters(7)]).expect("commit");
        drop(store);
        let mut store = Embedded::open(state.path(), &region()).expect("reopen");
        assert_eq!(store.load().expect("load"), [Record::Counters(Counters { next_circuit: 7 })]);
        store.commit(&[Write::Delete(RecordKey::Counters)]).expect("delete");
        assert_eq!(store.load().expect("load"), []);
    }

    #[test]
    fn a_store_of_another_region_is_refused() {
        let state = tempfile::tempdir().expect("tempdir");
        drop(Embedded::open(state.path(), &region()).expect("first start"));
        let fault = Embedded::open(state.path(), &"other".parse().expect("name")).expect_err("other region");
        assert!(fault.to_string().contains("\"local\""), "{fault}");
    }

    #[test]
    fn a_store_that_is_open_already_says_so() {
        let state = tempfile::tempdir().expect("tempdir");
        let _held = Embedded::open(state.path(), &region()).expect("first start");
        let fault = Embedded::open(state.path(), &region()).expect_err("second");
        assert!(fault.to_string().contains("another foreweave-controller"), "{fault}");
    }

    #[test]
    fn damaged_files_give_an_error_that_names_the_file() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut store = Embedded::open(state.path(), &region()).expect("first start");
        for i in 0..200 {
            store.commit(&[counters(i)]).expect("commit");
        }
        drop(store);
        let path = state.path().join(NAME);
        let whole = std::fs::read(&path).expect("read");
        let cuts = [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1];
        let mut wrong: Vec<Vec<u8>> = cuts.iter().map(|cut| whole[..*cut].to_vec()).collect();
        wrong.push(b"this is no store".repeat(1000));
        wrong.push(vec![0; whole.len()]);
        for (i, bytes) in wrong.iter().enumerate() {
            std::fs::write(&path, bytes).expect("write");
            // A cut tail may hold nothing that counts; then the store opens and must give back what was kept.
            match Embedded::open(state.path(), &region()).and_then(|store| store.load()) {
                Ok(records) => {
                    assert_eq!(records, [Record::Counters(Counters { next_circuit: 199 })], "case {i}")
                }
                Err(fault) => assert!(fault.to_string().contains(NAME), "case {i}: {fault}"),
            }
        }
    }

    #[test]
    fn a_flipped_byte_never_changes_a_record_unnoticed() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut store = Embedded::open(state.path(), &region()).expect("first start");
        store.commit(&[counters(4711)]).expect("commit");
        drop(store);
        let path = state.path().join(NAME);
        let whole = std::fs::read(&path).expect("read");
        let kept = [Record::Counters(Counters { next_circuit: 4711 })];
        for at in (0..whole.len()).filter(|at| whole[*at] != 0).step_by(131) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).expect("write");
            if let Ok(records) = Embedded::open(state.path(), &region()).and_then(|store| store.load()) {
                assert_eq!(records, kept, "byte {at}");
            }
        }
    }
}
