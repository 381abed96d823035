//! Kills the controller's binary at any moment of its first start; the next start must repair what it left.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn spawn(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_foreweave-controller"))
        .args(["run", "--config"])
        .arg(config)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn")
}

fn configure(directory: &Path) -> std::path::PathBuf {
    let config = directory.join("controller.toml");
    let state = directory.join("state");
    let text = format!("region = \"local\"\nlisten = [\"127.0.0.1:0\"]\nstate = \"{}\"\n", state.display());
    std::fs::write(&config, text).expect("config");
    config
}

/// Waits until it listens; `Err` with its words when it ends before.
fn until_listening(child: &mut Child) -> Result<(), String> {
    let mut words = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr")).lines() {
        let line = line.expect("line");
        if line.contains("listening") {
            return Ok(());
        }
        words += &line;
        words.push('\n');
    }
    Err(words)
}

#[test]
fn kill_9_at_any_moment_of_the_first_start_is_repaired_by_the_next() {
    for round in 0..25_u64 {
        let directory = tempfile::tempdir().expect("tempdir");
        let config = configure(directory.path());
        let mut first = spawn(&config);
        std::thread::sleep(Duration::from_micros(1_000 + round * 1_500));
        first.kill().expect("kill -9");
        first.wait().expect("reap");

        let mut second = spawn(&config);
        let listening = until_listening(&mut second);
        second.kill().expect("kill");
        second.wait().expect("reap");
        assert_eq!(listening, Ok(()), "round {round}");
        let state = directory.path().join("state");
        for file in ["admin.toml", "authority/key.pem", "authority/certificate.pem", "store.redb"] {
            assert!(state.join(file).exists(), "round {round}: {file}");
        }
        let left: Vec<_> = std::fs::read_dir(&state)
            .expect("state")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
            .filter(|name| name.ends_with(".new"))
            .collect();
        assert_eq!(left, [""; 0], "round {round}");
    }
}

#[test]
fn half_written_state_is_named_and_nothing_panics() {
    let directory = tempfile::tempdir().expect("tempdir");
    let config = configure(directory.path());
    let mut child = spawn(&config);
    until_listening(&mut child).expect("first start");
    child.kill().expect("kill");
    child.wait().expect("reap");
    for file in ["authority/key.pem", "authority/certificate.pem", "store.redb"] {
        let path = directory.path().join("state").join(file);
        let whole = std::fs::read(&path).expect("read");
        for cut in [0, 1, whole.len() / 3, 5000.min(whole.len() / 2)] {
            std::fs::write(&path, &whole[..cut]).expect("cut");
            let mut child = spawn(&config);
            let words = until_listening(&mut child).expect_err("it must not start");
            assert_eq!(child.wait().expect("reap").code(), Some(1), "{file} cut to {cut}: {words}");
            let name = file.rsplit('/').next().expect("name");
            assert!(words.contains(name), "{file} cut to {cut}: {words}");
        }
        std::fs::write(&path, whole).expect("restore");
    }
    let mut child = spawn(&config);
    assert_eq!(until_listening(&mut child), Ok(()));
    child.kill().expect("kill");
    child.wait().expect("reap");
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -Sn 200; exec \"$0\" run --config \"$1\""])
        .arg(env!("CARGO_BIN_EXE_foreweave-controller"))
        .arg(configure(directory.path()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let listening = until_listening(&mut child);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    child.kill().expect("kill");
    child.wait().expect("reap");
    assert_eq!(listening, Ok(()));
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("line");
    let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column).expect("column"));
    assert_eq!(soft, hard);
    assert_ne!(hard, "200", "this system cannot show it");
}
