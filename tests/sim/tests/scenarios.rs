//! Did a recorded behaviour change? `cargo xtask bless` (or `FOREWEAVE_BLESS=1`) accepts what is as what shall be.
use std::fs;
use std::path::{Path, PathBuf};
use tests_sim::scenario::{Recording, Wishes};

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    paths.sort();
    paths
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    let text = fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()))
}

#[test]
fn every_recorded_behaviour_is_as_it_was() {
    let bless = std::env::var_os("FOREWEAVE_BLESS").is_some();
    let all = scenarios();
    assert!(all.len() >= 4, "only {} scenarios are there", all.len());
    let mut changed = Vec::new();
    for scenario in all {
        let recording: Recording = read(&scenario.join("input.json"));
        let wishes = recording.replay();
        let expected = scenario.join("expected.json");
        if bless {
            let text = serde_json::to_string_pretty(&wishes).expect("every output can be text");
            fs::write(&expected, text + "\n").unwrap_or_else(|why| panic!("{}: {why}", expected.display()));
            continue;
        }
        let before: Wishes = read(&expected);
        if let Some(at) = (0..before.len().max(wishes.len())).find(|at| before.get(*at) != wishes.get(*at)) {
            let show = |wishes: &Wishes| serde_json::to_string_pretty(&wishes.get(at)).expect("text");
            changed.push(format!(
                "{}: after input {at}\nit was {}\nit is {}",
                scenario.display(),
                show(&before),
                show(&wishes)
            ));
        }
    }
    assert!(changed.is_empty(), "{}\nIf that is right: cargo xtask bless", changed.join("\n\n"));
}
