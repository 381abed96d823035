//! The program as it is run: exit codes, errors for people and for programs, files that it writes.
use std::process::{Command, Output};

fn foreweave(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreweave"))
        .args(arguments)
        .env_remove("FOREWEAVE_CONFIG")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .expect("foreweave runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration for a controller that is not there.
fn configuration(address: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("directory");
    let made = rcgen::generate_simple_self_signed(["controller.foreweave".to_owned()]).expect("certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let text = format!(
        "region = \"home\"\ncontrollers = [\"{address}\"]\nauthority = '''{certificate}'''\ncertificate = \
         '''{certificate}'''\nkey = '''{key}'''\n"
    );
    let file = dir.path().join("config.toml");
    std::fs::write(&file, text).expect("write");
    let name = file.to_str().expect("utf-8").to_owned();
    (dir, name)
}

/// A port of the loopback on which nothing listens: it was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").to_string()
}

#[test]
fn wrong_usage_ends_with_two() {
    let output = foreweave(&["circuit", "create", "web"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("<DST>"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for words in [["completion", "bash"], ["completion", "zsh"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreweave"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = command.args(words).stdout(writer).stderr(std::process::Stdio::piped()).spawn();
        let output = child.expect("foreweave runs").wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{words:?}");
    }
}

#[test]
fn no_time_at_all_is_refused_with_what_would_be_taken() {
    for (words, most) in [
        (&["circuit", "create", "web", "db", "--for", "0s"][..], "366d"),
        (&["circuit", "extend", "web-db", "--for", "0s"], "366d"),
        (&["rule", "replace", "web-db", "--none", "--confirm-within", "0s"], "1d"),
        (&["node", "policy", "set", "a", "deny tcp/22", "--confirm-within", "0s"], "1d"),
        (&["trace", "web-db", "--for", "0s"], "10m"),
    ] {
        let output = foreweave(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let said = stderr(&output);
        assert!(said.contains(&format!("0s is not between 1s and {most}")), "{said}");
    }
}

#[test]
fn a_missing_configuration_ends_with_two_and_says_where_one_is() {
    let output = foreweave(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nonexistent/foreweave/config.toml"), "{}", stderr(&output));
    assert!(stderr(&output).contains("admin.toml"), "{}", stderr(&output));
    let output = foreweave(&["status", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!(error["error"]["kind"], "usage");
    assert!(output.stdout.is_empty());
}

#[test]
fn no_controller_ends_with_three_and_names_the_address() {
    let address = nobody();
    let (_dir, config) = configuration(&address);
    let output = foreweave(&["--config", &config, "node", "list"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains(&address) && text.contains("refused") && text.contains("foreweave-controller run"),
        "{text}"
    );
    let output = foreweave(&["--config", &config, "--json", "node", "list"]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!(error["error"]["kind"], "unreachable");
    assert_eq!(error["error"]["exit_code"], 3);
}

#[test]
fn a_configuration_with_a_broken_certificate_is_refused_without_a_panic() {
    let (dir, config) = configuration(&nobody());
    let text = std::fs::read_to_string(&config).expect("read");
    let start = text.find("certificate = ").expect("certificate");
    let broken = format!("{}{}", &text[..start], text[start..].replacen("MII", "!!!", 1));
    std::fs::write(dir.path().join("config.toml"), broken).expect("write");
    let output = foreweave(&["--config", &config, "status"]);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{:?}", output.status);
    assert!(
        stderr(&output).contains("error:") && !stderr(&output).contains("panicked"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_and_man_pages_are_written_without_a_controller() {
    for (shell, sign) in
        [("bash", "_foreweave"), ("zsh", "#compdef foreweave"), ("fish", "complete -c foreweave")]
    {
        let output = foreweave(&["completion", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(sign), "{shell}");
    }
    let dir = tempfile::tempdir().expect("directory");
    let pages = dir.path().join("man");
    let output = foreweave(&["man", "--dir", pages.to_str().expect("utf-8")]);
    assert!(output.status.success(), "{}", stderr(&output));
    for page in ["foreweave.1", "foreweave-circuit-create.1", "foreweave-rule-replace.1"] {
        let text = std::fs::read_to_string(pages.join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn the_version_is_the_builds() {
    let output = foreweave(&["--version"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("foreweave {}", env!("CARGO_PKG_VERSION"))
    );
}
