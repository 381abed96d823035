//! `foreweave-agent check` says what is missing, by name. Needs no root: it asks what happens without.
use agent_daemon::doctor::{self, Verdict};
use caps::{CapSet, Capability};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the command as nobody; the copy is where nobody can reach it.
fn as_nobody(arguments: &[&str]) -> Output {
    let place = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("a directory");
    let copy = place.path().join("foreweave-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_foreweave-agent"), &copy).expect("a copy");
    let mut command = Command::new(&copy);
    command.args(arguments).current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().expect("it runs")
}

#[test]
fn an_unprivileged_user_is_told_every_missing_capability_and_the_remedy() {
    let output = as_nobody(&["check"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
        let line = text.lines().find(|line| line.contains(&format!("{capability}:"))).expect(capability);
        assert!(line.starts_with("MISSING") && line.contains("setcap"), "{line}");
    }
}

#[test]
fn the_findings_are_json_for_programs() {
    let output = as_nobody(&["check", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let bpf = findings.as_array().expect("a list").iter().find(|f| f["what"] == "CAP_BPF").expect("CAP_BPF");
    assert_eq!(bpf["verdict"], "missing");
}

#[test]
fn run_without_capabilities_says_what_is_missing_before_it_touches_anything() {
    let place = tempfile::tempdir().expect("a directory");
    let config = place.path().join("agent.toml");
    std::fs::write(&config, "state = \"/nowhere\"\n").expect("written");
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    let output = as_nobody(&["run", "--config", config.to_str().expect("a path")]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot work here") && text.contains("CAP_BPF"), "{text}");
}

/// Drops a capability on a thread of its own, and looks from there.
fn without(capability: Capability) -> Vec<doctor::Finding> {
    let thread = std::thread::spawn(move || {
        caps::drop(None, CapSet::Effective, capability).expect("dropped");
        doctor::examine(Path::new("/sys/fs/bpf/foreweave"), 4789)
    });
    thread.join().expect("examined")
}

#[test]
fn one_missing_capability_is_named() {
    for capability in [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON] {
        let findings = without(capability);
        let finding = findings.iter().find(|f| f.what == capability.to_string()).expect("examined");
        assert_eq!(finding.verdict, Verdict::Missing);
        assert!(!doctor::can_work(&findings));
    }
}

#[test]
fn without_sys_admin_the_agent_works_for_the_host_itself() {
    let findings = without(Capability::CAP_SYS_ADMIN);
    let finding = findings.iter().find(|f| f.what == "CAP_SYS_ADMIN").expect("examined");
    assert_eq!(finding.verdict, Verdict::Limited);
    assert!(finding.says.contains("Host"), "{finding}");
}

#[test]
fn without_sys_nice_the_agent_works_and_says_what_is_slower() {
    let findings = without(Capability::CAP_SYS_NICE);
    let finding = findings.iter().find(|f| f.what == "CAP_SYS_NICE").expect("examined");
    let (limit, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_RTPRIO).expect("a limit");
    let expected = if limit >= 10 { Verdict::Good } else { Verdict::Limited };
    assert_eq!(finding.verdict, expected, "{finding}");
}
