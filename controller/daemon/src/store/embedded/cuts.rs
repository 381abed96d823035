//! Cuts the power before every single write of the store to its disk, in turn, and looks at what is left.
use super::*;
use controller_core::record::{CircuitRecord, Counters, Life, Record, RecordKey, TokenRecord};
use proto_model::circuit::CircuitSpec;
use proto_model::intent::Bounds;
use proto_model::{CircuitId, NodeName, Timestamp};
use redb::StorageBackend;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk keeps of the writes that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// All: only the process died.
    All,
    Nothing,
    /// All, and the first half of the one in flight.
    Torn,
    /// The first half of the one in flight, none of those before it: disks write in any order.
    TornAlone,
    /// Every second.
    EverySecond,
}

const KEPT: [Kept; 5] = [Kept::All, Kept::Nothing, Kept::Torn, Kept::TornAlone, Kept::EverySecond];

#[derive(Clone, Debug)]
enum Op {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
    Sync,
}

impl Op {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                // A write may reach the disk whose growth of the file did not: the file grows with it.
                image.resize(image.len().max(at + bytes.len()), 0);
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => image.resize(*length, 0),
            Self::Sync => {}
        }
    }

    fn torn(&self) -> Option<Self> {
        match self {
            Self::Write { at, bytes } => {
                Some(Self::Write { at: *at, bytes: bytes[..bytes.len() / 2].to_vec() })
            }
            Self::Length(_) | Self::Sync => None,
        }
    }
}

/// A disk in memory that counts what changes it, and dies before the change number `cut`.
#[derive(Debug, Default)]
struct Platter {
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Op>,
    in_flight: Option<Op>,
    changes: usize,
    cut: Option<usize>,
}

impl Platter {
    fn alive(&self) -> io::Result<()> {
        match &self.in_flight {
            Some(_) => Err(io::Error::other("the power is off")),
            None => Ok(()),
        }
    }

    fn change(&mut self, op: Op) -> io::Result<()> {
        self.alive()?;
        if self.cut == Some(self.changes) {
            self.in_flight = Some(op);
            return self.alive();
        }
        self.changes += 1;
        op.apply(&mut self.seen);
        match op {
            Op::Sync => {
                self.synced.clone_from(&self.seen);
                self.unsynced.clear();
            }
            Op::Write { .. } | Op::Length(_) => self.unsynced.push(op),
        }
        Ok(())
    }

    fn left(&self, kept: Kept) -> Vec<u8> {
        let mut image = self.synced.clone();
        let torn = self.in_flight.iter().filter_map(Op::torn);
        let ops: Vec<Op> = match kept {
            Kept::All => self.unsynced.clone(),
            Kept::Nothing => Vec::new(),
            Kept::Torn => self.unsynced.iter().cloned().chain(torn).collect(),
            Kept::TornAlone => torn.collect(),
            Kept::EverySecond => self.unsynced.iter().skip(1).step_by(2).cloned().collect(),
        };
        ops.iter().for_each(|op| op.apply(&mut image));
        image
    }
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn holding(image: &[u8], cut: Option<usize>) -> Self {
        let (seen, synced) = (image.to_vec(), image.to_vec());
        Self(Arc::new(Mutex::new(Platter { seen, synced, cut, ..Platter::default() })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn store(&self) -> Result<Embedded, StoreError> {
        Embedded::adopt("disk".into(), &region(), || Database::builder().create_with_backend(self.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let platter = self.platter();
        platter.alive().map(|()| platter.seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        platter.alive()?;
        let at = offset as usize;
        let bytes = platter.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("beyond the end"))?);
        Ok(())
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.platter().change(Op::Length(length as usize))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.platter().change(Op::Sync)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.platter().change(Op::Write { at: offset as usize, bytes: bytes.to_vec() })
    }
}

fn region() -> Name {
    "local".parse().expect("name")
}

fn counters(next_circuit: u64) -> Write {
    Write::Put(Record::Counters(Counters { next_circuit }))
}

fn token(number: u8, expires: u64) -> Write {
    let node = NodeName(format!("n{number}").parse().expect("name"));
    Write::Put(Record::Token(TokenRecord { hash: [number; 32], node, expires: Timestamp(expires) }))
}

/// A record of about `size` bytes.
fn circuit(id: u64, size: usize) -> Write {
    let spec = CircuitSpec {
        name: format!("circuit-{id}").parse().expect("name"),
        source: "web".parse().expect("name"),
        destination: "db".parse().expect("name"),
        bounds: Bounds::default(),
        priority: 0,
        pinned_path: None,
        expires: None,
        starts: None,
    };
    Write::Put(Record::Circuit(CircuitRecord {
        id: CircuitId(id),
        spec,
        life: Life::Suspended { why: "w".repeat(size) },
        rules: Vec::new(),
        rules_version: 0,
        next_rule: 1,
        revert: None,
        reverted: None,
        created: Timestamp(0),
        since: Timestamp(0),
        retiring: None,
        leaving: Vec::new(),
    }))
}

fn gone(id: u64) -> Write {
    Write::Delete(RecordKey::Circuit(CircuitId(id)))
}

/// Puts, overwrites and deletes; records from a few bytes to more than the file has at first, so that it grows.
fn script() -> Vec<Vec<Write>> {
    let tokens = |expires| (0..20).map(move |number| token(number, expires));
    let mut script = vec![
        vec![counters(1)],
        tokens(1).chain([counters(2)]).collect(),
        vec![counters(3), circuit(1, 200), circuit(2, 9_000)],
        vec![counters(4), circuit(3, 40_000)],
        tokens(2).chain([gone(1), circuit(2, 20)]).collect(),
        vec![counters(5), circuit(4, 100_000), gone(3)],
        (0..20).map(|number| Write::Delete(RecordKey::Token([number; 32]))).collect(),
        vec![circuit(4, 40), circuit(5, 20_000), counters(6)],
    ];
    script.push([2, 4, 5].map(gone).to_vec());
    script.push(vec![counters(7), circuit(6, 5_000)]);
    script
}

type Records = BTreeMap<RecordKey, Record>;

fn perform(records: &mut Records, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put(record) => records.insert(record.key(), record.clone()),
            Write::Delete(key) => records.remove(key),
        };
    }
}

/// What is kept after 0, 1, 2 … transactions.
fn states(script: &[Vec<Write>]) -> Vec<Records> {
    let mut states = vec![Records::new()];
    for writes in script {
        let mut next = states[states.len() - 1].clone();
        perform(&mut next, writes);
        states.push(next);
    }
    states
}

/// An empty store, as the first start leaves it; before that, the file has another name.
fn fresh() -> Vec<u8> {
    let disk = Disk::default();
    let database = Database::builder().create_with_backend(disk.clone()).expect("create");
    begin(&database, &region()).expect("begin");
    drop(database);
    disk.platter().left(Kept::All)
}

/// Runs the script until the power goes; how many transactions were acknowledged.
fn run(disk: &Disk, script: &[Vec<Write>]) -> usize {
    let Ok(mut store) = disk.store() else { return 0 };
    script.iter().take_while(|writes| store.commit(writes).is_ok()).count()
}

fn loaded(store: &Embedded) -> Records {
    store.load().expect("load").into_iter().map(|record| (record.key(), record)).collect()
}

/// Many cuts leave the same image; one look at it is enough.
fn digest(image: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(image);
    hasher.finish()
}

/// Opens what is left: all of each acknowledged transaction, all or nothing of the next; and works on.
fn judge(image: &[u8], states: &[Records], acknowledged: usize, case: &str) {
    let disk = Disk::holding(image, None);
    let mut store = disk.store().unwrap_or_else(|why| panic!("{case}: {why}"));
    let mut found = loaded(&store);
    let next = states.get(acknowledged + 1);
    assert!(
        found == states[acknowledged] || Some(&found) == next,
        "{case}: {acknowledged} were acknowledged"
    );
    let more = [counters(99), circuit(98, 30_000), token(97, 96)];
    store.commit(&more).unwrap_or_else(|why| panic!("{case}: afterwards: {why}"));
    perform(&mut found, &more);
    assert!(loaded(&store) == found, "{case}: afterwards");
    drop(store);
    let again = disk.store().unwrap_or_else(|why| panic!("{case}: reopened: {why}"));
    assert!(loaded(&again) == found, "{case}: reopened");
}

#[test]
fn power_cut_before_any_write_keeps_every_acknowledged_transaction_whole() {
    let (script, image) = (script(), fresh());
    let states = states(&script);
    let whole = Disk::holding(&image, None);
    assert_eq!(run(&whole, &script), script.len());
    let changes = whole.platter().changes;
    assert!(changes > 10 * script.len(), "{changes} changes of the disk are too few to be worth it");
    let mut in_flight_kept = 0;
    let mut judged = BTreeSet::new();
    for cut in 0..changes {
        let disk = Disk::holding(&image, Some(cut));
        let acknowledged = run(&disk, &script);
        assert!(disk.platter().in_flight.is_some(), "change {cut} was not reached");
        in_flight_kept += usize::from(acknowledged < script.len());
        for kept in KEPT {
            let left = disk.platter().left(kept);
            if judged.insert((acknowledged, digest(&left))) {
                judge(
                    &left,
                    &states,
                    acknowledged,
                    &format!("cut at change {cut} of {changes}, {kept:?} kept"),
                );
            }
        }
    }
    assert!(in_flight_kept > changes / 2, "most cuts must fall into a transaction, {in_flight_kept} did");
}

/// The opening after a cut writes too, and may be cut off in turn.
#[test]
fn power_cut_while_a_cut_off_store_is_repaired_loses_nothing() {
    let (script, image) = (script(), fresh());
    let states = states(&script);
    let whole = Disk::holding(&image, None);
    run(&whole, &script);
    let changes = whole.platter().changes;
    let mut judged = BTreeSet::new();
    let mut repairs = 0;
    for cut in (0..changes).step_by(7) {
        let disk = Disk::holding(&image, Some(cut));
        let acknowledged = run(&disk, &script);
        let left = disk.platter().left(Kept::All);
        for second in 0.. {
            let disk = Disk::holding(&left, Some(second));
            drop(disk.store());
            if disk.platter().in_flight.is_none() {
                break;
            }
            repairs += 1;
            for kept in KEPT {
                let left = disk.platter().left(kept);
                let case = format!("cut at change {cut}, again at {second} of the repair, {kept:?} kept");
                if judged.insert((acknowledged, digest(&left))) {
                    judge(&left, &states, acknowledged, &case);
                }
            }
        }
    }
    assert!(repairs > 20, "only {repairs} cuts fell into a repair");
}
