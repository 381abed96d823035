//! Kills a process that commits to the store at any moment, and looks at what it left.
use controller_core::io::Write;
use controller_core::record::{Counters, Keys, NodeRecord, Record, TokenRecord};
use controller_daemon::store::{Embedded, Store};
use proto_model::{Name, NodeName, Timestamp};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const STATE: &str = "FOREWEAVE_TEST_CRASH_STATE";
/// Records per transaction.
const PARTS: u64 = 5;

fn region() -> Name {
    "local".parse().expect("name")
}

/// Transaction `i` puts the counter at `i`, and `PARTS` records that all say `i`.
fn transaction(i: u64) -> Vec<Write> {
    let node = |part: u64| NodeName(format!("n{part}").parse().expect("name"));
    let token = |part: u64| TokenRecord { hash: [part as u8; 32], node: node(part), expires: Timestamp(i) };
    let mut writes = vec![Write::Put(Record::Counters(Counters { next_circuit: i }))];
    writes.extend((0..PARTS).map(|part| Write::Put(Record::Token(token(part)))));
    let fresh = NodeRecord {
        name: NodeName(format!("t{i}").parse().expect("name")),
        enrolled: None,
        keys: Keys::Unknown,
        underlays: vec![],
        seal_keys: vec![],
        policy: Default::default(),
    };
    writes.push(Write::Put(Record::Node(fresh)));
    writes
}

/// The child: commits until it is killed, and says each number after its commit. Without the variable it does nothing.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let mut store = Embedded::open(Path::new(&state), &region()).expect("open");
    let kept = store.load().expect("load");
    let last = kept.iter().find_map(|record| match record {
        Record::Counters(counters) => Some(counters.next_circuit),
        _ => None,
    });
    for i in last.map_or(0, |last| last + 1).. {
        store.commit(&transaction(i)).expect("commit");
        // Not println: the test harness would keep it back.
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        writeln!(out, "committed {i}").and_then(|()| out.flush()).expect("parent is there");
    }
}

/// Runs the child, kills it with SIGKILL after `life`, and returns the last number that it said.
fn run_and_kill(state: &Path, life: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_that_commits_until_it_is_killed", "--nocapture", "--test-threads", "1"])
        .env(STATE, state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn");
    let said = BufReader::new(child.stdout.take().expect("stdout"));
    let reader = std::thread::spawn(move || {
        let numbers = said.lines().map_while(Result::ok);
        numbers.filter_map(|line| line.rsplit_once("committed ").and_then(|(_, n)| n.parse().ok())).last()
    });
    std::thread::sleep(life);
    child.kill().expect("kill -9");
    child.wait().expect("reap");
    reader.join().expect("reader")
}

#[test]
fn every_acknowledged_transaction_survives_kill_9_and_none_is_there_in_part() {
    let state = tempfile::tempdir().expect("tempdir");
    let mut acknowledged = None;
    let mut killed_while_committing = 0;
    for round in 0..40_u64 {
        // Lives of all lengths: some end while the file is made, most in the middle of a commit.
        let said: Option<u64> = run_and_kill(state.path(), Duration::from_micros(2_000 + round * 1_700));
        acknowledged = said.or(acknowledged);
        if !state.path().join("store.redb").exists() {
            assert_eq!(acknowledged, None, "round {round}");
            continue;
        }
        let records = Embedded::open(state.path(), &region()).and_then(|store| store.load()).expect("reopen");
        let found = whole_transactions(&records, round);
        assert!(
            found >= acknowledged,
            "round {round}: {acknowledged:?} was acknowledged, {found:?} is there"
        );
        killed_while_committing += u32::from(said.is_some());
        acknowledged = found;
    }
    assert!(killed_while_committing >= 5, "only {killed_while_committing} rounds got as far as a commit");
}

/// The last transaction that is there, after a check that all of it is, and all before it.
fn whole_transactions(records: &[Record], round: u64) -> Option<u64> {
    let mut last = None;
    let mut nodes = 0;
    let mut parts = Vec::new();
    for record in records {
        match record {
            Record::Counters(counters) => last = Some(counters.next_circuit),
            Record::Node(_) => nodes += 1,
            Record::Token(token) => parts.push(token.expires.0),
            other => panic!("round {round}: nobody wrote {other:?}"),
        }
    }
    let expected = last.map_or(Vec::new(), |last| vec![last; PARTS as usize]);
    assert_eq!(parts, expected, "round {round}: a part of a transaction");
    assert_eq!(nodes, last.map_or(0, |last| last + 1), "round {round}: an earlier transaction is missing");
    last
}
